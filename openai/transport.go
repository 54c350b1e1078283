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

// A Transport is the whole chain as one [http.RoundTripper]. It is safe for
// concurrent use. Make one with [NewTransport] for all the calls of a service,
// because breakers, budgets, rate limits and connections belong to it: a Transport
// that is made for each call learns nothing.
type Transport struct {
	retry *retry.Transport
	// The breaker is nil if Config.DisableBreaker is set.
	breaker *breaker.Transport
	// The pacer is nil if pacing is off.
	pacer *pacer
	// The router is nil if the Config has no targets.
	router *router
	cfg    Config
	// An invalid Config leaves every other field unset, so that no call gets past
	// it.
	invalid error
	metrics *operationRecorder
	sdk     sdkGuard
	clock   call.Clock
}

// NewTransport returns the chain over base. A nil base means a new [BaseTransport].
// If cfg is invalid, every RoundTrip fails with the error of [Config.Validate]
// before anything is sent. The result has no second value, so that chains nest in
// one expression.
//
// The caller closes the Transport if its MeterProvider outlives it. The base stays
// the caller's: Close does not touch it.
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
	// The chain is built from the bottom up. The dispatcher stands lowest, because
	// only the request that leaves needs the base of its target.
	if len(t.cfg.Targets) > 0 {
		t.router = newRouter(&t.cfg, cfg.Retry.AttemptTimeout)
		base = newDispatcher(base, t.router)
	}
	var next http.RoundTripper = newWatcher(NewMetricsTransport(base, MetricsConfig{MeterProvider: t.cfg.MeterProvider}), &t.cfg, t.metrics)
	if !t.cfg.DisableBreaker {
		t.breaker = breaker.NewTransport(next, t.cfg.Breaker)
		next = t.breaker
	}
	// Pacing stands above the breaker, so that a call that waits for a rate limit
	// holds no permit.
	if t.cfg.Pacing != Off {
		t.pacer = newPacer(next, t.breaker, &t.cfg)
		next = t.pacer
	}
	if t.router != nil {
		t.router.base, t.router.breaker = next, t.breaker
		// The router stands above breaker and pacing, because an open breaker or a
		// long wait at one target is a reason to ask the next target within the same
		// attempt.
		next = t.router
	}
	t.retry = retry.NewTransport(next, t.cfg.Retry)
	return t
}

// NewClient returns an [http.Client] with a [Transport] over [BaseTransport]. It has
// no Timeout, since that would end healthy streams: give each call a deadline by its
// request's context. A caller who needs [Transport.Close] or [Transport.Snapshot]
// makes the client around [NewTransport], or asserts client.Transport.(*Transport).
func NewClient(cfg Config) *http.Client {
	return &http.Client{Transport: NewTransport(nil, cfg)}
}

// CloseIdleConnections closes the idle connections of the base, if it has any.
// [http.Client.CloseIdleConnections] finds this method.
func (t *Transport) CloseIdleConnections() {
	if t.retry != nil {
		t.retry.CloseIdleConnections()
	}
}

// Close unregisters the callbacks of the metrics of breakers and rate limits, which
// would otherwise keep the Transport in memory for as long as the MeterProvider
// lives. Calls under way and later ones go on as before, so that a shutdown needs no
// order. Close may be called more than once.
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

// A Snapshot is the state of a [Transport] at one moment. Its lists are never nil,
// so that JSON has [] where there is nothing.
type Snapshot struct {
	// Breakers are ordered by key. There are none if Config.DisableBreaker is set.
	Breakers []breaker.Snapshot `json:"breakers"`
	// Pacing has the accounts whose rate limit is felt, ordered by key.
	Pacing []PacingSnapshot `json:"pacing"`
	// Targets are in the order of Config.Targets.
	Targets []TargetSnapshot `json:"targets"`
}

// Snapshot returns the state of the Transport. Breakers, accounts and targets are
// read one after the other, while calls go on, so that they may differ by what happens
// in between. A Transport with an invalid Config has nothing to show.
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

// Breaker returns the breaker of a key, to trip or to reset it. The key is one that
// [Transport.Snapshot] shows. Breaker returns nil if there is no breaker of that key
// yet, or no breaker at all because Config.DisableBreaker is set.
func (t *Transport) Breaker(key string) *breaker.Breaker {
	if t.breaker == nil {
		return nil
	}
	return t.breaker.Breaker(key)
}

// RoundTrip makes one call. It returns what [retry.Transport.RoundTrip] returns,
// except for what Config.SDKRetries does to the answers that an SDK would repeat.
// The Request of the response is the caller's, not that of an attempt.
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

// warn logs that an SDK repeats a call. A Logger that panics would otherwise leave
// the call without an end and the request's body open. The panic itself passes
// through to the caller.
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

// errPanicked is what a call ends with if the Logger panicked before the first
// attempt.
var errPanicked = errors.New("openai: the Config's Logger panicked")

// An operation is one call, from its start to the last byte of its answer. The
// metrics of a call include its retries and waits, so one operation covers all
// attempts. It is the call's listener and records itself when the call is over.
type operation struct {
	call call.Call
	// The request is a copy of the caller's, with the call as its context. It lies
	// in the operation to save an allocation.
	request http.Request
	kind    *endpoint
	url     *url.URL
	metrics *operationRecorder
	// The routing is nil if the call has one place to go.
	routing *routing
	// kept says that the payload is in memory, without which no target can be sent a
	// renamed one.
	kept bool

	reader payloadReader
	// The first attempt's answer lies here, because most calls need no second one.
	first answer
	written
	// The ticket is that of the latest attempt.
	ticket ticket
	// firstEvent is the limit for the present attempt. Targets may differ in it.
	// Zero means none.
	firstEvent time.Duration
	// patience is the same limit, but only where there are targets and the Config or
	// the target sets it.
	patience time.Duration
}

// begin makes the operation that req stands for. repeated says that an SDK repeats
// the call. The operation is made before the payload is read, so what the payload
// says is added by [operation.Payload].
func (t *Transport) begin(req *http.Request) (o *operation, repeated bool) {
	o = &operation{metrics: t.metrics, url: req.URL}
	if o.url == nil {
		o.url = new(url.URL) // of a call that will be refused
	}
	o.kind = endpointOf(req)
	o.reader.resumable = o.kind.format.isResumable()
	ctx, repeated := t.sdk.limit(req.Context(), req.Header)
	if repeated && t.router.routes(req.Method, o.kind) {
		ctx = req.Context() // it may ask each target once
	}
	c := o.call.Init(ctx)
	// The call is traced only if a limit needs the time at which the request was
	// written, since tracing costs allocations.
	if o.firstEvent = firstEventLimit(ctx, t.cfg.FirstEventTimeout); o.firstEvent > 0 || t.router.hasOwnLimit() {
		c.Tracer = o
	}
	// An Azure deployment stands in the path. It has a model of its own, so that the
	// payload's counts for nothing then: see payloadReader.
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

// Payload reads the model and what else the payload says. The retry layer calls it
// once the payload is buffered, before the first attempt.
func (o *operation) Payload(payload []byte) {
	o.kept = true
	if isJSON(o.request.Header) {
		o.reader.read(&o.call, payload)
		if o.reader.resume != nil && !mayResume(&o.call) {
			o.reader.resume = nil
		}
		// An SDK for metrics may decide by the model, which is known only now.
		o.call.Measured = o.metrics.enabled(&o.call)
	}
}

// Over records the operation. A status of 0 says that there is no response.
func (o *operation) Over(status int, err error) {
	// The body of a resumed stream outlives the answer that it began with. It
	// records the operation at its own end.
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

// record records the operation. A failure that the answer itself shows comes first,
// because its HTTP status may well be 200.
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

// isJSON reports whether the payload may be JSON. A request without a Content-Type
// counts, because many callers of plain net/http send none.
func isJSON(h http.Header) bool {
	return roundtrip.First(h, "Content-Type") == "" || roundtrip.MediaType(h) == "application/json"
}
