// Package call carries what the layers of the chain know of one call: a call
// is what the user asked for, an attempt is one physical request made for it.
package call

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// A Call is the context of all attempts of one call. It is made by the
// outermost layer that needs one and found by the others with [From]. All
// fields but Answer, CountedRun, First and Gate are set before the first attempt and
// then only read.
type Call struct {
	context.Context //nolint:containedctx // a Call is a context: one allocation serves both

	// Subject is what the call is about.
	Subject

	Start  time.Time // set with First
	Stream bool      // the caller asked for a stream

	// Stateless says that the payload asks the provider to keep nothing.
	Stateless bool

	// Measured says that somebody reads the metrics of the call as a whole, and so
	// wants to know what its answer says of itself.
	Measured bool

	// First is the first attempt's request, if the layer that made the call has
	// made it as well. The retry layer takes it.
	First *Request

	// Answer is what the layer below the breaker wrapped the latest response
	// in, for the layers above that have to know more of it than its Body
	// shows. It is set before that layer returns, and read after. Before the
	// first attempt it may be an empty one, for that layer to fill.
	Answer any

	// Gate tells retry whether the breaker of the latest attempt would let the
	// next one through. That breaker sets it before the attempt is made; nil
	// says that there is none.
	Gate interface {
		// RefusesFor returns for how long attempts would be refused from now
		// on; 0 if one would be let through.
		RefusesFor() time.Duration
	}

	// CountedRun is the number of the run of failures in which a breaker has
	// already counted this call: its attempts count once in a run.
	CountedRun atomic.Uint64
}

// A Subject is what a call is about, besides the server: calls with the same
// Subject share a breaker. The zero value is of a call of which nothing is known.
type Subject struct {
	Endpoint string // "chat", "embeddings", …; "" if nobody named it
	Model    string // as requested, or what stands for it; "" if unknown
	Target   string // the name of the target that the attempt goes to; "" if there are none
}

// Init makes c a Call over the caller's context and returns it.
func (c *Call) Init(ctx context.Context) *Call {
	c.Context = ctx
	return c
}

// TakeFirst returns First, once, if req is what it sends; else nil.
func (c *Call) TakeFirst(req *http.Request) *Request {
	first := c.First
	if first == nil || &first.HTTP != req {
		return nil
	}
	c.First = nil
	return first
}

type callKey struct{}

// Value returns the Call itself for its own key, else what the parent has.
func (c *Call) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return c
	}
	return c.Context.Value(key)
}

// From returns the innermost Call of ctx, or nil.
func From(ctx context.Context) *Call { //nolint:contextcheck // nothing is made here
	if a, ok := ctx.(*Attempt); ok {
		ctx = a.parent // which a Value would ask as well
	}
	if c, ok := ctx.(*Call); ok {
		return c
	}
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}
