package call

import (
	"context"
	"errors"
	"net/http/httptrace"
	"runtime"
	"sync"
	"testing"
	"time"
)

type testKey struct{}

func TestAContextWithoutThemHasNeitherCallNorAttempt(t *testing.T) {
	t.Parallel()
	if c := From(t.Context()); c != nil {
		t.Errorf("From = %v", c)
	}
	if a := AttemptFrom(t.Context()); a != nil {
		t.Errorf("AttemptFrom = %v", a)
	}
}

func TestACallIsFoundBelowWhateverStandsBetween(t *testing.T) {
	t.Parallel()
	var c Call
	ctx, cancel := context.WithCancel(context.WithValue(c.Init(t.Context()), testKey{}, 1))
	defer cancel()
	a := attemptBelow(ctx)
	below := context.WithValue(a, testKey{}, 2)
	if From(below) != &c || AttemptFrom(below) != a {
		t.Errorf("found %p and %p, want %p and %p", From(below), AttemptFrom(below), &c, a)
	}
	if AttemptFrom(&c) != nil {
		t.Error("a call knows of an attempt that is below it")
	}
}

type tracer struct{ parent, trace *httptrace.ClientTrace }

func (t *tracer) Trace(ctx context.Context) *httptrace.ClientTrace {
	t.parent = httptrace.ContextClientTrace(ctx)
	return t.trace
}

func TestTheTraceOfACallIsItsTracers(t *testing.T) {
	t.Parallel()
	callers := new(httptrace.ClientTrace)
	var c Call
	ctx := attemptBelow(c.Init(httptrace.WithClientTrace(t.Context(), callers)))
	if got := httptrace.ContextClientTrace(ctx); got != callers {
		t.Error("without a Tracer, it is not the caller's")
	}
	own := &tracer{trace: new(httptrace.ClientTrace)}
	c.Tracer = own
	if got := httptrace.ContextClientTrace(context.WithValue(ctx, testKey{}, 1)); got != own.trace || own.parent != callers {
		t.Error("it is not the Tracer's, which is given the caller's")
	}
}

func TestTheInnermostCallAndAttemptCount(t *testing.T) {
	t.Parallel()
	outer, inner := new(Call), new(Call)
	first := attemptBelow(outer.Init(t.Context()))
	second := attemptBelow(inner.Init(first))
	if From(second) != inner || AttemptFrom(second) != second || From(first) != outer || AttemptFrom(inner) != first {
		t.Error("an outer one was found")
	}
}

func TestACallIsItsCallersContext(t *testing.T) {
	t.Parallel()
	cause := errors.New("the caller's cause")
	parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), testKey{}, "value"))
	parent, stop := context.WithTimeout(parent, time.Hour)
	defer stop()
	var c Call
	c.Init(parent)
	a := attemptBelow(&c)
	want, _ := parent.Deadline()
	if got, ok := a.Deadline(); !ok || !got.Equal(want) {
		t.Errorf("deadline %v, %v", got, ok)
	}
	if a.Value(testKey{}) != "value" {
		t.Error("the caller's value is lost")
	}
	cancel(cause)
	<-a.Done()
	if !errors.Is(a.Err(), context.Canceled) || !errors.Is(context.Cause(a), cause) {
		t.Errorf("ended with %v, cause %v", a.Err(), context.Cause(a))
	}
}

func attemptBelow(ctx context.Context) *Attempt {
	a := new(Attempt)
	a.Init(ctx)
	return a
}

func TestAnAttemptEndsWithoutItsCall(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*Attempt){
		"that nobody waited for":  func(*Attempt) {},
		"that somebody waits for": func(a *Attempt) { _ = a.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cause := errors.New("given up")
			var c Call
			a := attemptBelow(c.Init(t.Context()))
			before(a)
			AttemptFrom(context.WithValue(a, testKey{}, 1)).Cancel(cause)
			a.Cancel(errors.New("too late"))
			<-a.Done()
			if !errors.Is(a.Err(), context.Canceled) || !errors.Is(context.Cause(a), cause) || c.Err() != nil {
				t.Errorf("the attempt ended with %v, %v, the call with %v", a.Err(), context.Cause(a), c.Err())
			}
		})
	}
}

func TestAnAttemptMayBeCanceledWhileOthersAskForItsEnd(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{nil, errors.New("given up")} {
		want := cause
		if cause == nil {
			want = context.Canceled
		}
		for range 300 {
			outer := attemptBelow(t.Context())
			a := attemptBelow(context.WithValue(outer, testKey{}, 1))
			ask := []func(){
				func() { <-a.Done() },
				func() {
					for a.Err() == nil {
						runtime.Gosched()
					}
				},
				func() {
					child, stop := context.WithTimeout(a, time.Hour)
					defer stop()
					<-child.Done()
					if !errors.Is(context.Cause(child), want) {
						t.Errorf("a child ended with %v", context.Cause(child))
					}
				},
				func() {
					after := make(chan struct{})
					context.AfterFunc(a, func() { close(after) })
					<-after
				},
				func() {
					if a.Value(testKey{}) != 1 || AttemptFrom(a) != a {
						t.Error("a value is lost")
					}
				},
			}
			var wg sync.WaitGroup
			for _, f := range ask {
				wg.Go(f)
			}
			wg.Go(func() { a.Cancel(cause) })
			wg.Go(func() { a.Cancel(cause) })
			wg.Wait()
			if !errors.Is(a.Err(), context.Canceled) || !errors.Is(context.Cause(a), want) || outer.Err() != nil {
				t.Fatalf("ended with %v, %v, the outer one with %v", a.Err(), context.Cause(a), outer.Err())
			}
		}
	}
}

func TestWhatIsDerivedFromAnAttemptEndsWithIt(t *testing.T) {
	t.Parallel()
	cause := errors.New("given up")
	a := attemptBelow(t.Context())
	derived, stop := context.WithCancel(a)
	defer stop()
	after := make(chan struct{})
	defer context.AfterFunc(a, func() { close(after) })()
	if a.Err() != nil || derived.Err() != nil || context.Cause(a) != nil {
		t.Fatalf("over from the start: %v, %v, %v", a.Err(), derived.Err(), context.Cause(a))
	}
	a.Cancel(cause)
	<-after
	if !errors.Is(context.Cause(derived), cause) {
		t.Errorf("what is derived ended with %v, %v", derived.Err(), context.Cause(derived))
	}
}

type listener struct{ statuses []int }

func (l *listener) Payload([]byte) {}

func (l *listener) Over(status int, _ error) { l.statuses = append(l.statuses, status) }

func TestTheEndOfACallIsToldOnce(t *testing.T) {
	t.Parallel()
	l := new(listener)
	c := &Call{Listener: l}
	c.End(200, nil)
	c.End(0, errors.New("too late"))
	if len(l.statuses) != 1 || l.statuses[0] != 200 {
		t.Errorf("told %v", l.statuses)
	}
	new(Call).End(200, nil)
	(*Call)(nil).End(200, nil)
}

func TestACallIsClaimedOnce(t *testing.T) {
	t.Parallel()
	var c Call
	if !c.Claim() || c.Claim() {
		t.Error("not once")
	}
}

// kept is a parent that knows what stays in it. It has a Done of its own, or
// else package context would go past it.
type kept struct {
	context.Context

	done     chan struct{}
	children int
}

func (k *kept) Done() <-chan struct{} { return k.done }

func (k *kept) AfterFunc(f func()) func() bool {
	k.children++
	stop := context.AfterFunc(k.Context, f)
	return func() bool {
		k.children--
		return stop()
	}
}

func TestADetachedAttemptGoesOnAndLeavesNothingInItsParent(t *testing.T) {
	t.Parallel()
	cause := errors.New("the caller's cause")
	for name, row := range map[string]struct {
		ask        bool
		detachable bool
		goesOn     bool
	}{
		"that somebody waits for":      {true, true, true},
		"that nobody waited for":       {false, true, true},
		"that did not ask to be":       {true, false, false},
		"that nobody asked about, nor": {false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			parent, a := &kept{Context: ctx, done: make(chan struct{})}, new(Attempt)
			if a.Init(parent); row.detachable {
				a.InitDetachable(parent)
			}
			if row.ask {
				_ = a.Done()
			}
			a.Detach()
			if parent.children != 0 || (a.Err() == nil) != row.goesOn {
				t.Errorf("%d children, ended with %v", parent.children, a.Err())
			}
			cancel(cause)
			if (a.Err() == nil) != row.goesOn {
				t.Errorf("after its parent it ended with %v", a.Err())
			}
		})
	}
}

func TestADetachableAttemptEndsAsOthersDo(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cause")
	for name, end := range map[string]func(a *Attempt, parent context.CancelCauseFunc){
		"with its parent":   func(_ *Attempt, parent context.CancelCauseFunc) { parent(cause) },
		"when it is ended":  func(a *Attempt, _ context.CancelCauseFunc) { a.Cancel(cause) },
		"ended, then asked": func(a *Attempt, _ context.CancelCauseFunc) { a.Cancel(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			parent, a := &kept{Context: ctx, done: make(chan struct{})}, new(Attempt)
			a.InitDetachable(parent)
			if name != "ended, then asked" {
				_ = a.Done()
			}
			end(a, cancel)
			<-a.Done()
			if got := context.Cause(a); name != "ended, then asked" && !errors.Is(got, cause) || a.Err() == nil {
				t.Errorf("ended with %v, %v", a.Err(), got)
			}
			if name != "with its parent" && parent.children != 0 {
				t.Errorf("%d children are left", parent.children)
			}
		})
	}
}
