package retry

import (
	"net/http"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A Transport is an [http.RoundTripper] that makes several attempts at one call
// over another RoundTripper. It is safe for concurrent use. Make one with
// [NewTransport].
type Transport struct {
	base    http.RoundTripper
	cfg     Config
	invalid error
	metrics *recorder
	clock   call.Clock
}

// NewTransport returns a [Transport] over base. A nil base means
// [http.DefaultTransport]. If cfg is invalid, every RoundTrip fails with the error of
// [Config.Validate] before anything is sent. The base stays the caller's, and a
// Transport has nothing to close.
func NewTransport(base http.RoundTripper, cfg Config) *Transport {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &Transport{base: base, invalid: cfg.Validate()}
	t.clock.Start()
	if t.invalid == nil {
		t.cfg = cfg.normalised()
		t.metrics = newRecorder(t.cfg.MeterProvider, t.cfg.Backend)
	}
	return t
}

// CloseIdleConnections closes the idle connections of the base, if it has any.
// [http.Client.CloseIdleConnections] finds this method.
func (t *Transport) CloseIdleConnections() {
	roundtrip.CloseIdleConnections(t.base)
}

// RoundTrip makes one call. When its attempts or its time run out, it returns
// the last response as it came, with a nil error. It returns an error only if
// there was no response: the base's own if nothing was repeated or waited for,
// else an [*Error]. The request is not changed, and may be used again once
// RoundTrip has returned. Its body is closed in every case. The caller closes the body
// of the response, as ever.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := &trip{t: t, origin: req}
	defer c.release()
	if err := c.begin(req); err != nil {
		c.owner.End(0, err)
		if r := reportOf(req.Context()); r != nil && !c.call.Resuming {
			*r = Report{Err: err}
		}
		return nil, err
	}
	for {
		a := c.try()
		if err := c.heldBack(a); err != nil {
			return c.abandon(a, err)
		}
		next, stopped := c.plan(a)
		if next.source == "" {
			return c.finish(a, stopped)
		}
		if err := c.wait(a, next); err != nil {
			return c.abandon(a, err)
		}
	}
}
