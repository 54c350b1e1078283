package breaker

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A Transport is an [http.RoundTripper] that sends requests through a base
// RoundTripper, each watched over by the breaker of its key. A request may be
// refused with an [*OpenError]; its body is closed then, as in every case. The
// outcome is known from the response's body, which the caller must close as ever.
// Make a Transport with [NewTransport]. It is safe for concurrent use.
type Transport struct {
	base    http.RoundTripper
	cfg     Config
	invalid error
	meters  *meters
	link    *link // to other processes; nil without a Fleet
	keys    keys
}

// NewTransport returns a [Transport] over base, where nil means
// [http.DefaultTransport]. If cfg is not valid, every RoundTrip fails with a
// [*ConfigError] before anything is sent. Close the Transport when it is no longer
// used, unless that is at the end of the program.
func NewTransport(base http.RoundTripper, cfg Config) *Transport {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &Transport{base: base, cfg: cfg.withDefaults(), invalid: cfg.Validate()}
	t.meters = newMeters(cfg.MeterProvider)
	start := time.Now()
	t.keys.max = t.cfg.MaxKeys
	t.link = newLink(&t.cfg, t.keys.advised)
	t.keys.make = func(k key) *Breaker {
		b := newBreaker(labelled{k.String(), k.Model}, &t.cfg, start, t.meters, t.invalid)
		b.link = t.link
		b.join()
		return b
	}
	t.keys.added = t.link.catchUp
	t.meters.observe(t.keys.each)
	t.link.open()
	return t
}

// RoundTrip implements [http.RoundTripper]. It returns what the base does, or an
// [*OpenError] without asking the base. The request is not changed, and its body is
// closed in every case.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.invalid != nil {
		roundtrip.CloseBody(req)
		return nil, t.invalid
	}
	if req.URL == nil {
		return t.base.RoundTrip(req) // which knows what to say
	}
	watched := new(body)
	if err := t.admit(req, &watched.permit); err != nil {
		return nil, err
	}
	return t.send(req, watched)
}

// admit asks the breaker of a request. Unless it admits it, the request's body is
// closed, also if a callback panics. The gate in the call lets the retry layer ask
// whether a retry would be refused, before it waits for it.
func (t *Transport) admit(req *http.Request, permit *Permit) error {
	admitted := false
	defer func() {
		if !admitted {
			roundtrip.CloseBody(req)
		}
	}()
	c := call.From(req.Context())
	b := t.breakerOf(req, c)
	if c != nil {
		c.Gate = (*gate)(b)
	}
	if err := b.Allow(permit); err != nil { //nolint:contextcheck // a count needs none
		note(req, err)
		return err
	}
	permit.req = roundtrip.WatchBody(req)
	admitted = true
	return nil
}

// send sends an admitted request. If the base or a callback panics no caller gets the
// response: its body is closed, and the permit returned.
func (t *Transport) send(req *http.Request, watched *body) (*http.Response, error) {
	var resp *http.Response
	returned := false
	defer func() {
		if !returned {
			watched.permit.Ignore()
			closeResponse(resp)
		}
	}()
	resp, err := t.base.RoundTrip(watched.permit.req)
	resp, err = roundtrip.Mend(req, resp, err)
	resp, err = t.learn(watched, resp, err)
	returned = true
	return resp, err
}

// learn settles the permit by what the base returned, or leaves that to the
// body. A base that returns neither a response nor an error is faulty, which says
// nothing of the server. After a 101 the connection is the caller's.
func (t *Transport) learn(watched *body, resp *http.Response, err error) (*http.Response, error) {
	permit := &watched.permit
	switch {
	case errors.Is(err, roundtrip.ErrNoResponse):
		permit.Ignore()
		return nil, err
	case err != nil:
		t.learnError(permit, err)
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		permit.Success()
		return resp, nil
	}
	outcome, observer, retryAfter := t.ask(resp, nil)
	if outcome == Undecided {
		watched.watch(resp, observer)
	}
	permit.Settle(outcome, retryAfter)
	return resp, nil
}

// learnError settles the permit of a request that got no response. What the caller's side
// has caused is found out before Observe is asked: the error itself does not say so.
func (t *Transport) learnError(permit *Permit, err error) {
	outcome, retryAfter := callersVerdict(permit.req), time.Duration(0)
	if outcome == Undecided && isNotSendable(permit.req, err) {
		outcome = Ignored
	}
	if outcome == Undecided {
		outcome, _, retryAfter = t.ask(nil, err)
	}
	if outcome == Undecided {
		outcome = Ignored // there is no body that could decide
	}
	permit.settle(outcome, retryAfter, timeLimit(permit.req, err))
}

// ask asks Config.Observe, or the default.
func (t *Transport) ask(resp *http.Response, err error) (Outcome, Observer, time.Duration) {
	if t.cfg.Observe == nil {
		return DefaultObserve(resp, err)
	}
	return t.cfg.Observe(resp, err)
}

// breakerOf returns the breaker that watches over a request of the call c, which
// is nil if the request is part of none that is known. A call that says what it is
// about has a breaker for that: an overloaded model, or an endpoint that is not
// there, says nothing of the others.
func (t *Transport) breakerOf(req *http.Request, c *call.Call) *Breaker {
	if t.cfg.Key != nil {
		return t.keys.get(key{host: t.cfg.Key(req)})
	}
	k := key{scheme: req.URL.Scheme, host: req.URL.Host}
	if c != nil {
		k.Subject = *call.SubjectOf(req.Context(), c)
	}
	return t.keys.get(k)
}

// RefusesFor returns for how long a request like req would be refused with an
// [OpenError] from now on; 0 if it would be let through now, or a half-open
// breaker may let it through. It sends nothing and counts nothing. It is for a layer
// above that would have to wait, or to go elsewhere, before the request gets here.
func (t *Transport) RefusesFor(req *http.Request) time.Duration {
	if t.invalid != nil || req.URL == nil {
		return 0
	}
	return (*gate)(t.breakerOf(req, call.From(req.Context()))).RefusesFor()
}

// Breaker returns the breaker of a name, as "https://api.openai.com" or, in the
// chain, "https://api.openai.com chat gpt-4o", or nil if the Transport has none by
// that name: no request for it has come yet, or it was forgotten. It is for
// [Breaker.Trip] and [Breaker.Reset]. A Transport may forget a breaker and make
// another of that name, so keep the name rather than the Breaker.
// [Transport.Snapshot] returns all names.
func (t *Transport) Breaker(name string) *Breaker {
	if t.cfg.Key == nil {
		server, _, _ := strings.Cut(name, " ")
		name = strings.ToLower(server) + name[len(server):]
	}
	return t.keys.named(name)
}

// Snapshot returns all breakers as they are now, ordered by key.
func (t *Transport) Snapshot() []Snapshot {
	all := []Snapshot{}
	t.keys.each(func(b *Breaker) { all = append(all, b.Snapshot()) })
	slices.SortFunc(all, func(a, b Snapshot) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Close unregisters the metric callbacks, and has the breakers hear no more of
// the Fleet. The Transport may go on to be used.
func (t *Transport) Close() error {
	t.link.close()
	return t.meters.close()
}

// CloseIdleConnections closes the idle connections of the base, if it has any.
// [http.Client.CloseIdleConnections] finds this method.
func (t *Transport) CloseIdleConnections() {
	roundtrip.CloseIdleConnections(t.base)
}

// closeResponse closes the body of a response, if there are both.
func closeResponse(resp *http.Response) {
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
}

// note adds a rejection to the span of the request, if it has one.
func note(req *http.Request, err error) {
	rejected, ok := err.(*OpenError) //nolint:errorlint // Allow does not wrap it
	span := trace.SpanFromContext(req.Context())
	if !ok || !span.IsRecording() {
		return
	}
	attrs := []attribute.KeyValue{
		attribute.String(keyName, rejected.Key),
		attribute.Float64("retrip.breaker.retry_after", rejected.RetryAfter.Seconds()),
	}
	if a := call.AttemptFrom(req.Context()); a != nil {
		attrs = append(attrs, attribute.Int("retrip.retry.attempt", a.Number))
	}
	span.AddEvent("retrip.breaker.rejection", trace.WithAttributes(attrs...))
}
