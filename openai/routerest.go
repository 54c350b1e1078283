package openai

import (
	"context"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// now is the clock of the router. The rests of targets get the time as a parameter, so
// that their rules can be tested without waiting.
func (r *router) now() time.Time { return time.Now() }

// number returns the number of the call among those that were refused. Rests need it to
// count different calls, not the repeated attempts of one. It is drawn when it is
// needed first, so that calls without a refusal do not share a counter.
func (g *routing) number() uint64 {
	if g.call == 0 {
		g.call = g.router.calls.Add(1)
	}
	return g.call
}

// resting reports whether the call should pass a target over. It may let the call
// through to try, when a rest is over. Without rests it costs one atomic read.
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

// restKeys returns all keys for which the call could be refused at a target. A success
// there speaks for each of them.
func (g *routing) restKeys(d *destination) []restKey {
	var keys []restKey
	for _, of := range [...]restOf{targetRests, modelRests, callerRests} {
		if key, ok := g.restKey(d, of); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// restKey returns the key of what rests, and whether that can rest for this call. Only a
// target with credentials of its own rests as a whole or for a model: with the
// caller's, one caller's refusal must not shut out the others. The caller's credential
// rests only where it is sent to.
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

// callersCredential returns a hash of the credential that the caller's request carries,
// 0 if it carries none. A hash is enough to tell callers apart, and keeps their keys
// out of memory that outlives the call.
func (g *routing) callersCredential() uint64 {
	var h hash
	h.addCredentials(g.o.request.Header, g.o.url.RawQuery)
	return uint64(h)
}

// routingOf returns the routing of the call of a context, or nil if the call has none:
// there are no targets, or it may not be routed.
func routingOf(ctx context.Context) *routing {
	if c := call.From(ctx); c != nil && c.Router != nil {
		g, _ := c.Router.(*routing)
		return g
	}
	return nil
}

var _ call.Router = (*routing)(nil)
