package openai

import (
	"context"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

func (r *router) now() time.Time { return time.Now() }

// number returns the number of the call among those that were refused.
func (g *routing) number() uint64 {
	if g.call == 0 {
		g.call = g.router.calls.Add(1)
	}
	return g.call
}

// resting reports whether a target is to be passed over by the call.
func (g *routing) resting(d *destination) bool {
	rests := &g.router.rests
	if rests.count.Load() == 0 {
		return false
	}
	now := g.router.now()
	for _, key := range g.restKeys(d) {
		if rests.resting(key, now) {
			return true
		}
	}
	return rests.resting(restKey{target: d.index, authorize: true}, now)
}

// restKeys returns all that the call would be refused for at a target.
func (g *routing) restKeys(d *destination) []restKey {
	var keys []restKey
	for _, of := range [...]restOf{targetRests, modelRests, callerRests} {
		if key, ok := g.restKey(d, of); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// restKey returns what of a target rests.
func (g *routing) restKey(d *destination, of restOf) (k restKey, ok bool) {
	k = restKey{target: d.index}
	switch of {
	case targetRests:
		return k, d.own
	case modelRests:
		k.model = g.subjectAt(d).Model
		return k, d.own && k.model != ""
	case callerRests:
		k.credential = g.callersCredential()
		return k, !d.own && g.isOrigin(d) && k.credential != 0
	case nothingRests:
	}
	return k, false
}

// callersCredential returns a hash of the credential that the caller's request
// carries, 0 if it carries none.
func (g *routing) callersCredential() uint64 {
	var h hash
	h.addCredentials(g.o.request.Header, g.o.url.RawQuery)
	return uint64(h)
}

// routingOf returns the way of the call of a context through the targets, nil if it
// has none.
func routingOf(ctx context.Context) *routing {
	if c := call.From(ctx); c != nil && c.Router != nil {
		g, _ := c.Router.(*routing)
		return g
	}
	return nil
}

var _ call.Router = (*routing)(nil)
