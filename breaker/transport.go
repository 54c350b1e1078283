package breaker

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/retrip-go/retrip/internal/call"
)

// A Transport sends requests through a base RoundTripper, each watched over by
// the breaker of its key. A request may be refused with an [*OpenError]; its
// body is closed then, as in every case. Make it with [NewTransport]. It is
// safe for concurrent use.
type Transport struct {
	base    http.RoundTripper
	cfg     Config
	invalid error
	meters  *meters
	keys    keys
}

// NewTransport returns a Transport over base, where nil means
// http.DefaultTransport. If cfg is not valid, every RoundTrip fails with a
// [*ConfigError] before anything is sent.
func NewTransport(base http.RoundTripper, cfg Config) *Transport {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &Transport{base: base, cfg: cfg.withDefaults(), invalid: cfg.Validate()}
	t.meters = newMeters(cfg.MeterProvider)
	start := time.Now()
	t.keys.max = t.cfg.MaxKeys
	t.keys.make = func(name string) *Breaker { return newBreaker(name, &t.cfg, start, t.meters, t.invalid) }
	t.meters.observe(t.keys.each)
	return t
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.invalid != nil {
		closeRequest(req)
		return nil, t.invalid
	}
	if req.URL == nil {
		return t.base.RoundTrip(req) // which knows what to say
	}
	b := t.breakerOf(req)
	if c := call.From(req.Context()); c != nil {
		c.Gate = b
	}
	watched := new(body)
	permit := &watched.permit
	if err := b.Allow(permit); err != nil {
		closeRequest(req)
		note(req, err)
		return nil, err
	}
	permit.req = req
	returned := false
	defer func() {
		if !returned {
			permit.Ignore() // the base or Observe panicked
		}
	}()
	resp, err := t.base.RoundTrip(req)
	resp, err = t.learn(watched, resp, err)
	returned = true
	return resp, err
}

// learn settles the permit by what the base returned, or leaves that to the
// body.
func (t *Transport) learn(watched *body, resp *http.Response, err error) (*http.Response, error) {
	permit := &watched.permit
	switch {
	case err != nil:
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		verdict, h := contextVerdict(permit.req), time.Duration(0)
		if verdict == Undecided {
			verdict, _, h = t.ask(nil, err)
		}
		if verdict == Undecided {
			verdict = Ignored // there is no body that could decide
		}
		permit.Settle(verdict, h)
		return nil, err
	case resp == nil:
		permit.Ignore()
		return nil, errNoResponse
	}
	resp.Request = permit.req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		permit.Success()
		return resp, nil
	}
	verdict, observer, h := t.ask(resp, nil)
	if verdict == Undecided {
		watched.watch(resp, observer)
	}
	permit.Settle(verdict, h)
	return resp, nil
}

func (t *Transport) ask(resp *http.Response, err error) (Outcome, Observer, time.Duration) {
	if t.cfg.Observe == nil {
		return DefaultObserve(resp, err)
	}
	return t.cfg.Observe(resp, err)
}

func (t *Transport) breakerOf(req *http.Request) *Breaker {
	if t.cfg.Key != nil {
		return t.keys.get(key{name: t.cfg.Key(req)})
	}
	return t.keys.get(key{scheme: req.URL.Scheme, name: req.URL.Host})
}

// Breaker returns the breaker of a key, as "https://api.openai.com", or nil if
// the Transport has none by that name: no request for it has come yet.
func (t *Transport) Breaker(name string) *Breaker {
	k := key{name: name}
	if t.cfg.Key == nil {
		if scheme, host, ok := strings.Cut(name, "://"); ok {
			k = key{scheme: scheme, name: host}
		}
	}
	return t.keys.find(k.lower())
}

// Snapshot returns all breakers as they are now, ordered by key.
func (t *Transport) Snapshot() []Snapshot {
	all := []Snapshot{}
	t.keys.each(func(b *Breaker) { all = append(all, b.Snapshot()) })
	slices.SortFunc(all, func(a, b Snapshot) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Close unregisters the metric callbacks. The Transport may go on to be used.
func (t *Transport) Close() error { return t.meters.close() }

// CloseIdleConnections closes those of the base.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func closeRequest(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// note adds a rejection to the span of the request, if it has one.
func note(req *http.Request, err error) {
	rejected, ok := err.(*OpenError) //nolint:errorlint // Allow does not wrap it
	span := trace.SpanFromContext(req.Context())
	if !ok || !span.IsRecording() {
		return
	}
	span.AddEvent("retrip.breaker.rejection", trace.WithAttributes(
		attribute.String(keyName, rejected.Key),
		attribute.Float64("retrip.breaker.retry_after", rejected.RetryAfter.Seconds()),
	))
}
