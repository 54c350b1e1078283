package call

import (
	"context"
	"errors"
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
	a := &Attempt{Context: ctx, Cancel: func(error) {}}
	below := context.WithValue(a, testKey{}, 2)
	if From(below) != &c || AttemptFrom(below) != a {
		t.Errorf("found %p and %p, want %p and %p", From(below), AttemptFrom(below), &c, a)
	}
	if AttemptFrom(&c) != nil {
		t.Error("a call knows of an attempt that is below it")
	}
}

func TestTheInnermostCallAndAttemptCount(t *testing.T) {
	t.Parallel()
	outer, inner := new(Call), new(Call)
	first := &Attempt{Context: outer.Init(t.Context())}
	second := &Attempt{Context: inner.Init(first)}
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
	a := &Attempt{Context: &c}
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

func TestAnAttemptEndsWithoutItsCall(t *testing.T) {
	t.Parallel()
	cause := errors.New("given up")
	var c Call
	ctx, cancel := context.WithCancelCause(c.Init(t.Context()))
	a := &Attempt{Context: ctx, Cancel: cancel}
	AttemptFrom(context.WithValue(a, testKey{}, 1)).Cancel(cause)
	if !errors.Is(context.Cause(a), cause) || c.Err() != nil {
		t.Errorf("the attempt ended with %v, the call with %v", context.Cause(a), c.Err())
	}
}
