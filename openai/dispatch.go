package openai

import (
	"net/http"
	"net/url"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A dispatcher is the base of a Transport whose targets have bases of their own. It
// stands below all other layers, so that these see one chain. A base that adds
// credentials then gets the requests of its own target only.
type dispatcher struct {
	base   http.RoundTripper
	router *router
}

// newDispatcher returns base itself if no target has one of its own: the layer would
// only cost time. A nil base stands for [BaseTransport], which it makes only where it
// needs it.
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

// RoundTrip sends a request by the base of its target, or by the common one if the
// target has none.
func (b *dispatcher) RoundTrip(req *http.Request) (*http.Response, error) {
	if own := b.ownBase(req); own != nil {
		return own.RoundTrip(req)
	}
	return b.base.RoundTrip(req)
}

// ownBase returns the base of the target that a request goes to, or nil if it has none.
// It goes by the name in the attempt's subject, which is all that reaches this far
// down. Names are unique, and targets are few enough for a search.
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

// CloseIdleConnections closes the idle connections of all bases. The dispatcher is the
// only layer that knows the targets' own.
func (b *dispatcher) CloseIdleConnections() {
	roundtrip.CloseIdleConnections(b.base)
	for _, d := range b.router.targets {
		if d.Base != nil {
			roundtrip.CloseIdleConnections(d.Base)
		}
	}
}

// answeredBy returns the URL and the name of the target whose answer the caller gets.
// The operation's metrics use them, since the address and the provider are those that
// served the call. The URL has no path and no query: no metric needs these, and a
// BaseURL's query may hold a key.
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

// hasOwnLimit reports whether a target has a FirstEventTimeout of its own. Its call must
// then be prepared for such a limit, even if the Config has none. A nil router has
// no targets.
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
