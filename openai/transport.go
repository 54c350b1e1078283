package openai

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/retry"
)

// A Transport is the whole chain as one http.RoundTripper. It is safe for
// concurrent use. Make one with NewTransport, for all the calls of a service.
type Transport struct {
	retry   *retry.Transport
	breaker *breaker.Transport // nil if disabled
	pacer   *pacer             // nil if it is off
	router  *router            // nil without targets
	cfg     Config
	invalid error
	metrics *operationRecorder
	sdk     sdkGuard
	clock   call.Clock
}

// NewTransport returns the chain over base; nil means BaseTransport(). If cfg
// is invalid, see Config.Validate, every RoundTrip fails with that error
// before anything is sent. Close it when it is no longer needed and its
// MeterProvider lives on.
func NewTransport(base http.RoundTripper, cfg Config) *Transport {
	t := &Transport{invalid: cfg.Validate()}
	if t.invalid != nil {
		return t
	}
	t.cfg = cfg.normalised()
	madeByProcess.count(t.cfg.Logger)
	t.clock.Start()
	t.metrics = newOperationRecorder(t.cfg.MeterProvider)
	t.sdk.mode, t.sdk.logger = t.cfg.SDKRetries, t.cfg.Logger
	if len(t.cfg.Targets) > 0 {
		t.router = newRouter(&t.cfg, cfg.Retry.AttemptTimeout)
		base = newDispatcher(base, t.router)
	}
	var next http.RoundTripper = newWatcher(NewMetricsTransport(base, MetricsConfig{MeterProvider: t.cfg.MeterProvider}), &t.cfg, t.metrics)
	if !t.cfg.DisableBreaker {
		t.breaker = breaker.NewTransport(next, t.cfg.Breaker)
		next = t.breaker
	}
	if t.cfg.Pacing != Off {
		t.pacer = newPacer(next, t.breaker, &t.cfg)
		next = t.pacer
	}
	if t.router != nil {
		t.router.base, t.router.breaker = next, t.breaker
		next = t.router
	}
	t.retry = retry.NewTransport(next, t.cfg.Retry)
	return t
}

// NewClient returns an http.Client with a Transport over BaseTransport(). It
// has no Timeout, since that would end healthy streams: bound a call by its
// request's context. For Close and Snapshot, make the client around
// NewTransport, or assert client.Transport.(*Transport).
func NewClient(cfg Config) *http.Client {
	return &http.Client{Transport: NewTransport(nil, cfg)}
}

// CloseIdleConnections closes those of the base, if it has any.
func (t *Transport) CloseIdleConnections() {
	if t.retry != nil {
		t.retry.CloseIdleConnections()
	}
}

// Close unregisters the callbacks of the metrics of breakers and rate limits.
// Calls under way, and later ones, go on as before. It may be called more than
// once.
func (t *Transport) Close() error {
	var errs [2]error
	if t.breaker != nil {
		errs[0] = t.breaker.Close()
	}
	if t.pacer != nil {
		errs[1] = t.pacer.metrics.gauges.leave(t.pacer)
	}
	return errors.Join(errs[:]...)
}

// A Snapshot is a Transport at one moment.
type Snapshot struct {
	Breakers []breaker.Snapshot `json:"breakers"` // ordered by key; none if they are disabled
	Pacing   []PacingSnapshot   `json:"pacing"`   // of the accounts whose rate limit is felt, ordered by key
	Targets  []TargetSnapshot   `json:"targets"`  // as Config.Targets has them
}

// Snapshot returns the Transport as it is now.
func (t *Transport) Snapshot() Snapshot {
	s := Snapshot{Breakers: []breaker.Snapshot{}, Pacing: []PacingSnapshot{}, Targets: []TargetSnapshot{}}
	if t.breaker != nil {
		s.Breakers = t.breaker.Snapshot()
	}
	if t.pacer != nil {
		s.Pacing = t.pacer.snapshot()
	}
	if t.router != nil {
		s.Targets = t.router.snapshot(&s)
	}
	return s
}

// Breaker returns the breaker of a key, as its Snapshot has it, to trip or to
// reset it; nil if there is none yet.
func (t *Transport) Breaker(key string) *breaker.Breaker {
	if t.breaker == nil {
		return nil
	}
	return t.breaker.Breaker(key)
}

// RoundTrip makes one call. It returns what retry.Transport.RoundTrip returns,
// but for what Config.SDKRetries says.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.invalid != nil {
		roundtrip.CloseBody(req)
		return nil, t.invalid
	}
	o, repeated := t.begin(req)
	if repeated {
		t.warn(o)
	}
	response, err := t.retry.RoundTrip(&o.request)
	if err != nil {
		return t.sdk.answer(req, err)
	}
	t.sdk.mark(response, o.call.GaveUp)
	response.Request = req
	t.resume(o, response)
	return response, nil
}

// warn says that an SDK repeats a call. If the Logger panics, the call is over
// before it has begun.
func (t *Transport) warn(o *operation) {
	warned := false
	defer func() {
		if !warned {
			o.call.End(0, errPanicked)
			roundtrip.CloseBody(&o.request)
		}
	}()
	t.sdk.warn(&o.call)
	warned = true
}

var errPanicked = errors.New("openai: the Config's Logger panicked")

// An operation is one call, from its start to the last byte of its answer. It
// records itself when it hears that it is over.
type operation struct {
	call    call.Call
	request http.Request // the caller's, in the context of the call
	kind    *endpoint
	url     *url.URL
	metrics *operationRecorder
	routing *routing // nil if it has one place to go
	kept    bool     // its payload is in memory

	reader payloadReader
	first  answer // of the call's first attempt
	written
	ticket     ticket        // of the latest attempt
	firstEvent time.Duration // the limit that holds for the present attempt; 0 for none
	patience   time.Duration // likewise, if the Config or its target has set one and there are targets
}

// begin makes the operation that req stands for. repeated says that an SDK repeats
// it.
func (t *Transport) begin(req *http.Request) (o *operation, repeated bool) {
	o = &operation{metrics: t.metrics, url: req.URL}
	if o.url == nil {
		o.url = new(url.URL) // of a call that will be refused
	}
	o.kind = endpointOf(req)
	o.reader.resumable = o.kind.format.isResumable()
	ctx, repeated := t.sdk.limit(req.Context(), req.Header)
	if repeated && t.router != nil && o.kind.repeat {
		ctx = req.Context() // it may meet each target once
	}
	c := o.call.Init(ctx)
	if o.firstEvent = firstEventLimit(ctx, t.cfg.FirstEventTimeout); o.firstEvent > 0 || t.router.hasOwnLimit() {
		c.Tracer = o
	}
	c.Subject = call.Subject{Endpoint: o.kind.name, Model: deployment(o.url.Path)}
	c.Start = t.clock.Now()
	c.Measured = o.metrics.enabled(c)
	// A stateful call can only be repeated if its payload is kept.
	c.ReadsPayload = req.Method == http.MethodPost &&
		(o.kind.inspect || t.cfg.RetryStateful && roundtrip.MediaType(req.Header) == "application/json")
	c.Listener, c.Answer = o, &o.first
	o.request = *req.WithContext(c)
	if t.router != nil {
		t.router.join(o, repeated)
	}
	return o, repeated
}

// Payload reads what the call's payload says of it.
func (o *operation) Payload(payload []byte) {
	o.kept = true
	if isJSON(o.request.Header) {
		o.reader.read(&o.call, payload)
		if o.reader.resume != nil && !mayResume(&o.call) {
			o.reader.resume = nil
		}
		o.call.Measured = o.metrics.enabled(&o.call) // which may depend on the model
	}
}

// Over records the operation. A status of 0 says that there is no response.
func (o *operation) Over(status int, err error) {
	if o.resumed() != nil {
		return // it goes on with another answer, or says itself when it is over
	}
	if !o.call.Measured && !o.metrics.enabled(&o.call) {
		return
	}
	var said summary
	if a, ok := o.call.Answer.(*answer); ok && status != 0 {
		said = a.summary(o.call.Start)
	}
	o.record(said, status, err)
}

// record records the operation, whose answer said something of itself.
func (o *operation) record(said summary, status int, err error) {
	failure := said.failure
	switch {
	case failure != "":
	case err != nil:
		failure = fault.Type(err)
	default:
		failure = fault.StatusType(status)
	}
	o.metrics.record(o, said, failure)
}

// isJSON reports whether the payload may be JSON: it says so, or says nothing.
func isJSON(h http.Header) bool {
	return roundtrip.First(h, "Content-Type") == "" || roundtrip.MediaType(h) == "application/json"
}
