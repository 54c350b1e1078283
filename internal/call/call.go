// Package call carries what the layers of the chain know of one call: a call
// is what the user asked for, an attempt is one physical request made for it.
package call

import (
	"context"
	"sync/atomic"
)

// A Call is the context of all attempts of one call. It is made by the
// outermost layer that needs one and found by the others with [From]. All
// fields but Answer and CountedRun are set before the first attempt and then
// only read.
type Call struct {
	context.Context //nolint:containedctx // a Call is a context: one allocation serves both

	Endpoint string // "chat", "embeddings", …; "" if nobody named it
	Model    string // as requested; "" if unknown
	Stream   bool   // the caller asked for a stream

	// Stateless says that the payload asks the provider to keep nothing.
	Stateless bool

	// Answer is what the layer below the breaker wrapped the latest response
	// in, for the layers above that have to know more of it than its Body
	// shows. It is set before that layer returns, and read after.
	Answer any

	// CountedRun is the number of the run of failures in which a breaker has
	// already counted this call: its attempts count once in a run.
	CountedRun atomic.Uint64
}

// Init makes c a Call over the caller's context and returns it.
func (c *Call) Init(ctx context.Context) *Call {
	c.Context = ctx
	return c
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
func From(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// An Attempt is the context of one attempt. Whoever has to end the attempt
// early, because a time limit of ours is over or its body is given up, does
// it through Cancel.
type Attempt struct {
	context.Context //nolint:containedctx // an Attempt is a context: one allocation serves both

	Cancel context.CancelCauseFunc
}

type attemptKey struct{}

// Value returns the Attempt itself for its own key, else what the parent has.
func (a *Attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	return a.Context.Value(key)
}

// AttemptFrom returns the innermost Attempt of ctx, or nil.
func AttemptFrom(ctx context.Context) *Attempt {
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
}
