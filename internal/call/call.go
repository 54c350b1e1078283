// Package call carries what the layers of the chain know of one call: a call
// is what the user asked for, an attempt is one physical request made for it.
package call

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// A Call is the context of all attempts of one call. It is made by the
// outermost layer that needs one and found by the others with [From]. All
// fields but Answer, Answered, FailedIn, Gate, GaveUp, Held and Resuming are set
// before the first attempt and then only read.
type Call struct {
	context.Context //nolint:containedctx // a Call is a context: one allocation serves both

	// Subject is what the call is about.
	Subject

	Start time.Time // when the call began; zero if its maker does not say

	// Choices is how many answers the payload asks for side by side; 0 if it
	// does not say.
	Choices uint8

	Stream bool // the caller asked for a stream

	// MaxTokens is how many tokens the payload allows the answer to have; 0 if it
	// does not say.
	MaxTokens int64

	// Held is how long the layers below retry have held attempts back, in all. It
	// is changed during an attempt, and read after.
	Held time.Duration

	// Stateless says that the payload asks the provider to keep nothing.
	Stateless bool

	// Measured says that the metrics of the call as a whole have a reader, which is
	// what the answer has to be read for.
	Measured bool

	// ReadsPayload says that the Listener wants the payload. It is buffered for
	// that, even if the call is one that can't be repeated.
	ReadsPayload bool

	// GaveUp says, once retry has returned, that it has repeated the call, or
	// would have but for what holds for any repetition: it would come too early or
	// too late, be one too many, or be refused as well.
	GaveUp bool

	// Resuming says that the attempts from now on ask for the rest of the call's
	// answer: they are made for the answer, and are no call of their own. It is
	// set between attempts.
	Resuming bool

	// Listener hears of the call from the retry layer that claims it. Nil is for a
	// call without one.
	Listener Listener

	// Tracer has the trace by which net/http says how far each attempt got. With nil
	// there is the caller's own trace at most.
	Tracer interface {
		// Trace returns it, with the trace in ctx, the caller's context, if that
		// has one. A base that doesn't ask for a trace has none made.
		Trace(ctx context.Context) *httptrace.ClientTrace
	}

	// Answer is what the layer below the breaker wrapped the latest response
	// in, for the layers above that have to know more of it than its Body
	// shows. It is set before that layer returns, and read after. Before the
	// first attempt it may be an empty one, for that layer to fill.
	Answer any

	// Gate says whether the breaker of the latest attempt would let the next one
	// through. That breaker sets it before the attempt is made; nil
	// says that there is none.
	Gate interface {
		// RefusesFor returns for how long attempts would be refused from now
		// on; 0 if one would be let through.
		RefusesFor() time.Duration

		// FailsAlone reports whether no failure of another call counts in the row
		// that is under way.
		FailsAlone(c *Call) bool
	}

	// Safe says that the retry layer may send the call more than once.
	Safe bool

	// Router says where the attempts go, if there is more than one place; nil if
	// there is not.
	Router Router

	// Answered is the subject of the attempt whose response the caller gets, if
	// the call is routed. Retry sets it before the Listener hears of the end.
	Answered *Subject

	// FailedIn are the rows of failures in which breakers have counted this call:
	// its attempts count once in each.
	FailedIn Rows

	claimed atomic.Bool
	ended   atomic.Bool
}

// A Subject is what a call is about, besides the server: calls with the same
// Subject share a breaker. The zero value is of a call of which nothing is known.
type Subject struct {
	Endpoint string // "chat", "embeddings", …; "" if no layer named it
	Model    string // as requested, or what stands for it; "" if unknown
	Target   string // the name of the target that the attempt goes to; "" if there are none
}

// SubjectOf returns what the attempt of ctx, of which c is the call, is about.
func SubjectOf(ctx context.Context, c *Call) *Subject {
	if c.Router != nil {
		if a := AttemptFrom(ctx); a != nil {
			return &a.Subject
		}
	}
	return &c.Subject
}

// A Router says where the attempts of one call go. Only the goroutine of the call
// uses it.
type Router interface {
	// First reports whether the latest attempt went to the first target of the
	// call: its answer is what the caller gets if all fail. It also returns the
	// error by which that target has refused the call, if it has.
	First() (latest bool, refusal error)

	// Detour is asked once it is certain that another attempt is wished for. It
	// returns where that goes.
	Detour() Detour

	// Onward is asked if a limit of retries forbids the attempt of the Detour, or if
	// all targets that the attempt was for have refused it. It returns another one:
	// to a target which the call has not tried, else back to one that has failed it.
	// It returns false if there is none, and may be asked again until it does.
	Onward() (Detour, bool)
}

// A Detour is where the next attempt of a call goes.
type Detour struct {
	// Fresh says that the call has not tried the target yet. Neither MaxAttempts
	// nor MaxElapsed keeps the call from it: only the context does. Time and
	// attempts that a dead target has used up must not cost the others theirs.
	Fresh bool

	// Free says that the attempt is not paid for: it is the call's first there, and
	// less than half of what was sent there lately has failed.
	Free bool

	// RefusedFor is for how long the target's breaker is certain to refuse.
	RefusedFor time.Duration

	// Subject is what the attempt will be about.
	Subject Subject
}

// A Listener hears of one call what only the layer that makes its attempts
// knows.
type Listener interface {
	// Payload gets what the call sends, before the first attempt and before any
	// function is asked whether the call may be repeated. The payload must not be
	// written to. It is not called for one that is too large to be buffered.
	Payload(payload []byte)

	// Over is called once, when the call is over: its last byte was read, it
	// failed, or the caller wants no more of it. A status of 0 says that there is no
	// response. It may be called on the goroutine that reads or closes the response's
	// body.
	Over(status int, err error)
}

// Init makes c a Call over the caller's context and returns it.
func (c *Call) Init(ctx context.Context) *Call {
	c.Context = ctx
	return c
}

// Claim reports whether it is called for the first time: by the retry layer that the
// call was made for, which notifies the Listener. A retry layer further below, or one
// that a function of the Config calls in the context of the call, comes later.
func (c *Call) Claim() bool { return !c.claimed.Swap(true) }

// End notifies the Listener that the call is over, the first time it is called.
// A nil Call has none.
func (c *Call) End(status int, err error) {
	if c != nil && c.Listener != nil && !c.ended.Swap(true) {
		c.Listener.Over(status, err)
	}
}

type callKey struct{}

// Value returns the Call itself for its own key and its Tracer's trace for that of
// httptrace, else what the parent has.
func (c *Call) Value(key any) any {
	switch {
	case key == callKey{}:
		return c
	case key == traceKey && c.Tracer != nil:
		return c.Tracer.Trace(c.Context)
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
