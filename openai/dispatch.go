package openai

import (
	"net/http"
	"net/url"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A dispatcher is the base of a Transport with targets: it sends each request by
// the base of its target.
type dispatcher struct {
	base   http.RoundTripper
	router *router
}

// newDispatcher returns what requests are sent by: base, nil for BaseTransport,
// unless a target has one of its own.
func newDispatcher(base http.RoundTripper, r *router) http.RoundTripper {
	for _, d := range r.targets {
		if d.Base != nil {
			if base == nil {
				base = BaseTransport()
			}
			return &dispatcher{base, r}
		}
	}
	return base
}

// RoundTrip sends a request by the base of its target.
func (b *dispatcher) RoundTrip(req *http.Request) (*http.Response, error) {
	if own := b.ownBase(req); own != nil {
		return own.RoundTrip(req)
	}
	return b.base.RoundTrip(req)
}

// ownBase returns the base of the target that a request goes to, if it has one.
func (b *dispatcher) ownBase(req *http.Request) http.RoundTripper {
	c := call.From(req.Context())
	if c == nil {
		return nil
	}
	name := call.SubjectOf(req.Context(), c).Target
	for _, d := range b.router.targets {
		if d.name == name {
			return d.Base
		}
	}
	return nil
}

// CloseIdleConnections closes those of all bases.
func (b *dispatcher) CloseIdleConnections() {
	roundtrip.CloseIdleConnections(b.base)
	for _, d := range b.router.targets {
		if d.Base != nil {
			roundtrip.CloseIdleConnections(d.Base)
		}
	}
}

// answeredBy returns the URL and the name of the target whose answer the caller
// gets.
func (o *operation) answeredBy() (u *url.URL, target string) {
	if o.routing == nil || o.call.Answered == nil {
		return o.url, o.call.Target
	}
	for _, d := range o.routing.router.targets {
		if d.name == o.call.Answered.Target && d.BaseURL != "" {
			return &url.URL{Scheme: d.place.scheme, Host: d.place.host}, d.name
		}
	}
	return o.url, o.call.Answered.Target
}

// hasOwnLimit reports whether a target has a FirstEventTimeout of its own.
func (r *router) hasOwnLimit() bool {
	if r == nil {
		return false
	}
	for _, d := range r.targets {
		if d.FirstEventTimeout > 0 {
			return true
		}
	}
	return false
}
