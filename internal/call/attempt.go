package call

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/payload"
)

// A Request is one physical request with all that it is made of, in one
// allocation.
type Request struct {
	Attempt Attempt       // the context
	HTTP    http.Request  // what is sent
	Origin  *http.Request // what HTTP was made from: a base may change HTTP, though it should not
	Reader  payload.Reader
	Source  payload.Source // what the whole call sends, in its first Request only; filled before, if HTTP's Body is Reader
}

// Init makes r a request like origin, whose context is an Attempt below parent.
func (r *Request) Init(parent context.Context, origin *http.Request) {
	r.Attempt.Init(parent)
	r.Origin = origin
	r.HTTP = *origin.WithContext(&r.Attempt) //nolint:contextcheck // an Attempt inherits from its parent
}

// An Attempt is the context of one attempt. Whoever has to end the attempt
// early, because a time limit of ours is over or its body is given up, does
// it through Cancel. A context that can be canceled is only made when somebody
// asks for its end: net/http does, others may not.
type Attempt struct {
	parent context.Context //nolint:containedctx // an Attempt is a context: one allocation serves both

	state  atomic.Uint32
	mu     sync.Mutex
	own    context.Context //nolint:containedctx // made late; it carries the cancellation
	cancel context.CancelCauseFunc
}

// The states of an Attempt.
const (
	untouched uint32 = iota // is as its parent is
	canceled                // before own was made, without a cause
	made                    // own is what counts
)

// Init makes a an Attempt below parent.
func (a *Attempt) Init(parent context.Context) { a.parent = parent }

// Cancel ends the attempt with a cause. Only the first call counts.
func (a *Attempt) Cancel(cause error) {
	if cause == nil && a.state.CompareAndSwap(untouched, canceled) || a.state.Load() == canceled {
		return
	}
	a.cancelable()
	a.cancel(cause)
}

// Deadline returns that of the call.
func (a *Attempt) Deadline() (time.Time, bool) { return a.parent.Deadline() }

// Done is closed when the attempt is canceled or its call is over.
func (a *Attempt) Done() <-chan struct{} { return a.cancelable().Done() }

// Err returns why Done is closed.
func (a *Attempt) Err() error { return a.current().Err() }

type attemptKey struct{}

// Value returns the Attempt itself for its own key, else what the parent has.
func (a *Attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	// Package context finds the cause of the end in this way, too.
	return a.current().Value(key)
}

// current returns the context that knows whether the attempt is over.
func (a *Attempt) current() context.Context {
	switch a.state.Load() {
	case untouched:
		return a.parent
	case made:
		return a.own
	}
	return a.cancelable()
}

// cancelable makes the context that can be canceled.
func (a *Attempt) cancelable() context.Context {
	if a.state.Load() == made {
		return a.own
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.Load() == made {
		return a.own
	}
	a.own, a.cancel = context.WithCancelCause(a.parent)
	if !a.state.CompareAndSwap(untouched, made) {
		a.cancel(nil)
		a.state.Store(made)
	}
	return a.own
}

// AttemptFrom returns the innermost Attempt of ctx, or nil.
func AttemptFrom(ctx context.Context) *Attempt {
	if a, ok := ctx.(*Attempt); ok {
		return a
	}
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
}
