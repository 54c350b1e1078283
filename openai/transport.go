package openai

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/retry"
)

// A Transport is the whole chain as one http.RoundTripper. It is safe for
// concurrent use. Make one with NewTransport, for all the calls of a service.
type Transport struct {
	retry   *retry.Transport
	breaker *breaker.Transport // nil if disabled
	pacer   *pacer
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
	t.clock.Start()
	t.metrics = newOperationRecorder(t.cfg.MeterProvider)
	t.sdk.mode, t.sdk.logger = t.cfg.SDKRetries, t.cfg.Logger
	var next http.RoundTripper = newWatcher(NewMetricsTransport(base, MetricsConfig{MeterProvider: t.cfg.MeterProvider}), &t.cfg, t.metrics)
	if !t.cfg.DisableBreaker {
		t.breaker = breaker.NewTransport(next, t.cfg.Breaker)
		next = t.breaker
	}
	t.pacer = &pacer{base: next, maxKeys: t.cfg.Breaker.MaxKeys}
	t.retry = retry.NewTransport(t.pacer, t.cfg.Retry)
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

// Close unregisters the callbacks of the breakers' metrics. Calls under way,
// and later ones, go on as before. It may be called more than once.
func (t *Transport) Close() error {
	if t.breaker == nil {
		return nil
	}
	return t.breaker.Close()
}

// A Snapshot is a Transport at one moment.
type Snapshot struct {
	Breakers []breaker.Snapshot `json:"breakers"` // ordered by key; none if they are disabled
	Pacing   []PacingSnapshot   `json:"pacing"`   // of the keys whose rate limit is exhausted, ordered by key
}

// Snapshot returns the Transport as it is now.
func (t *Transport) Snapshot() Snapshot {
	s := Snapshot{Breakers: []breaker.Snapshot{}, Pacing: []PacingSnapshot{}}
	if t.breaker != nil {
		s.Breakers = t.breaker.Snapshot()
	}
	if t.pacer != nil {
		s.Pacing = t.pacer.snapshot()
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
	o := &operation{metrics: t.metrics, url: req.URL}
	o.call.Start = t.clock.Now()
	if err := mayBegin(req); err != nil {
		roundtrip.CloseBody(req)
		o.describe(req.Context(), req)
		o.over(err, 0)
		return nil, err
	}
	o.describe(t.sdk.limit(req.Context(), req.Header), req)
	if err := o.prepare(req, &t.cfg); err != nil {
		o.over(err, 0)
		return nil, err
	}
	o.call.Measured = o.metrics.enabled(&o.call)
	response, err := t.retry.RoundTrip(&o.first.HTTP)
	if err != nil {
		o.over(err, 0)
		return t.sdk.answer(req, err)
	}
	t.sdk.mark(response, o.call.GaveUp)
	o.watch(response)
	return response, nil
}

// mayBegin returns why a call must not, as far as that is known before its payload.
func mayBegin(req *http.Request) error {
	switch ctx := req.Context(); {
	case req.URL == nil:
		return errNoURL
	case ctx.Err() != nil:
		return fault.Ended(ctx)
	}
	return nil
}

// An operation is one call, from its start to the last byte of its answer.
type operation struct {
	call    call.Call
	first   call.Request
	kind    *endpoint
	url     *url.URL
	metrics *operationRecorder

	body io.ReadCloser // the response's
	code int
	done atomic.Bool
}

// describe names the endpoint, and makes the request of the first attempt.
func (o *operation) describe(ctx context.Context, req *http.Request) {
	if o.url == nil {
		o.url = new(url.URL) // of a call that is refused
	}
	o.kind = endpointOf(req)
	o.call.Init(ctx).Subject = call.Subject{Endpoint: o.kind.name, Model: deployment(o.url.Path)}
	o.first.Init(&o.call, req)
	o.call.First = &o.first
}

// prepare reads the payload, if it is one that says something. It closes the
// caller's body if it fails.
func (o *operation) prepare(req *http.Request, cfg *Config) error {
	// A stateful call can only be repeated if its payload is kept.
	inspect := o.kind.inspect || cfg.RetryStateful && roundtrip.MediaType(req.Header) == "application/json"
	if !inspect || req.Method != http.MethodPost || req.Body == nil || req.Body == http.NoBody || !payload.Plain(req) {
		return nil
	}
	length := req.ContentLength
	if length == 0 {
		length = -1
	}
	data, stream, err := o.first.Source.Buffer(req.Context(), req.Body, length, cfg.Retry.MaxReplayBytes, req.GetBody != nil)
	switch {
	case err != nil:
		return err
	case stream != nil:
		o.first.HTTP.Body, o.first.HTTP.GetBody = stream, nil
		return nil
	}
	o.first.HTTP.ContentLength = int64(o.first.Source.Init(&o.first.Reader))
	o.first.HTTP.Body, o.first.HTTP.GetBody = &o.first.Reader, nil
	if isJSON(req.Header) {
		readPayload(&o.call, data)
	}
	return nil
}

// watch records the operation when the response's body is over.
func (o *operation) watch(response *http.Response) {
	o.code = response.StatusCode
	switch {
	case response.StatusCode == http.StatusSwitchingProtocols, response.Body == http.NoBody:
		o.over(nil, o.code)
	default:
		o.body = response.Body
		response.Body = o
	}
}

// Read reads the response's body.
func (o *operation) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	switch err {
	case nil:
	case io.EOF:
		o.over(nil, o.code)
	default:
		o.over(err, o.code)
	}
	return n, err
}

// Close closes the response's body.
func (o *operation) Close() error {
	o.over(nil, o.code) // before a Read beside it comes back with an error
	return o.body.Close()
}

// over records the operation, once. A code of 0 says that there is no response.
func (o *operation) over(err error, code int) {
	if o.done.Swap(true) || !o.call.Measured && !o.metrics.enabled(&o.call) {
		return
	}
	var said summary
	if a, ok := o.call.Answer.(*answer); ok && code != 0 {
		said = a.summary(o.call.Start)
	}
	failure := said.failure
	switch {
	case failure != "":
	case err != nil:
		failure = fault.Type(err)
	default:
		failure = fault.StatusType(code)
	}
	o.metrics.record(o, said, failure)
}

// isJSON reports whether the payload may be JSON: it says so, or says nothing.
func isJSON(h http.Header) bool {
	return roundtrip.First(h, "Content-Type") == "" || roundtrip.MediaType(h) == "application/json"
}
