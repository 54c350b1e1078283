package call

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// An Attempt is the context of one attempt. A layer that has to end the attempt
// early, because a time limit of ours is over or its body is given up, does
// it through Cancel. A context that can be canceled is only made when a base
// asks for its end: net/http does, others may not.
type Attempt struct {
	parent     context.Context //nolint:containedctx // an Attempt is a context: one allocation serves both
	detachable bool

	// Number is that of the attempt in its call, the first is 1. One that was
	// refused before anything was sent does not use its number up.
	Number int

	// Limit ends the attempt when its time is over; nil if that is unlimited.
	Limit *TimeLimit

	// Subject is what the attempt is about, if its call is Routed. It is written
	// before the request is handed on, and only read after.
	Subject Subject

	// HasStandIn says that the call may go to another target instead of this one:
	// what holds an attempt back for long refuses it.
	HasStandIn bool

	state  atomic.Uint32
	mu     sync.Mutex
	own    context.Context //nolint:containedctx // made late; it carries the cancellation
	cancel context.CancelCauseFunc
	unlink func() bool // of a detachable one: from then on own does not end with parent
}

// A TimeLimit is a timer that is set to After.
type TimeLimit struct {
	After time.Duration
	Timer *time.Timer
}

// Hold stops the time limit of an attempt that is held back, until Resume. The
// attempt has not begun for the server yet. A nil Attempt has none.
func (a *Attempt) Hold() {
	if a != nil && a.Limit != nil {
		a.Limit.Timer.Stop()
	}
}

// Resume sets the time limit that Hold has stopped, anew.
func (a *Attempt) Resume() {
	if a != nil && a.Limit != nil {
		a.Limit.Timer.Reset(a.Limit.After)
	}
}

// Relimit gives the attempt another time limit, from now on; 0 is none. It
// changes nothing where no limit was foreseen.
func (a *Attempt) Relimit(after time.Duration) {
	if a == nil || a.Limit == nil || a.Limit.After == after || !a.Limit.Timer.Stop() {
		return
	}
	if after <= 0 {
		after = unlimited
	}
	a.Limit.After = after
	a.Limit.Timer.Reset(after)
}

// unlimited is longer than any call. It keeps the timer running, because one
// that was stopped looks like one whose time is over.
const unlimited = 100 * 365 * 24 * time.Hour

// The states of an Attempt.
const (
	untouched uint32 = iota // is as its parent is
	canceled                // before own was made, without a cause
	made                    // own is what counts
)

// Init makes a an Attempt below parent.
func (a *Attempt) Init(parent context.Context) { a.parent = parent }

// InitDetachable is Init for an attempt that asks for the connection itself.
func (a *Attempt) InitDetachable(parent context.Context) { a.parent, a.detachable = parent, true }

// Cancel ends the attempt with a cause. Only the first call counts.
func (a *Attempt) Cancel(cause error) {
	if cause == nil && a.state.CompareAndSwap(untouched, canceled) || a.state.Load() == canceled {
		return
	}
	a.cancelable()
	a.cancel(cause)
}

// Detach says that the attempt's connection belongs to the caller, who closes
// it: it goes on, and nothing of the attempt stays in the parent. An attempt
// that did not ask for the connection ends: its caller does not expect to close one.
func (a *Attempt) Detach() {
	if !a.detachable {
		a.Cancel(nil)
		return
	}
	a.cancelable()
	a.unlink()
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
	a.makeOwn()
	if !a.state.CompareAndSwap(untouched, made) {
		a.cancel(nil)
		a.state.Store(made)
	}
	return a.own
}

// makeOwn makes a child of the parent; or, as those stay in the parent until
// they end, what ends with it by a link that can be undone.
func (a *Attempt) makeOwn() {
	if !a.detachable {
		a.own, a.cancel = context.WithCancelCause(a.parent)
		return
	}
	parent := a.parent
	own, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	unlink := context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	a.own, a.unlink = own, unlink
	a.cancel = func(cause error) {
		unlink()
		cancel(cause)
	}
}

// AttemptFrom returns the innermost Attempt of ctx, or nil.
func AttemptFrom(ctx context.Context) *Attempt {
	if a, ok := ctx.(*Attempt); ok {
		return a
	}
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
}
