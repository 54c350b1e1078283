package payload

import (
	"strings"
	"testing"
)

func TestAStreamedBodyIsOfferedUntilItIsRead(t *testing.T) {
	t.Parallel()
	b := of(strings.NewReader("12345"))
	o := NewOnce(b)
	for range 3 { // a breaker refuses the attempt and closes its body
		if !o.Again() {
			t.Fatal("a body that nobody read cannot be sent")
		}
		_ = o.Close()
		if _, err := o.Read(make([]byte, 1)); err == nil {
			t.Fatal("it can be read after its Close")
		}
	}
	if b.closed.Load() != 0 || b.reads.Load() != 0 {
		t.Fatalf("closed %d times, %d reads", b.closed.Load(), b.reads.Load())
	}
	if !o.Again() || all(t, o) != "12345" {
		t.Error("the last attempt could not send it")
	}
	if o.Again() {
		t.Error("it can be sent twice")
	}
	_ = o.Close()
	if b.closed.Load() != 1 {
		t.Errorf("it was read and closed, but not at once: closed %d times", b.closed.Load())
	}
	_ = o.Close()
	o.Final()
	if b.closed.Load() != 1 {
		t.Errorf("closed %d times", b.closed.Load())
	}
}

func TestAStreamedBodyThatNobodyReadIsClosedInTheEnd(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]func(*Once){
		"close, then final":        func(o *Once) { _ = o.Close(); o.Final() },
		"final, then close":        func(o *Once) { o.Final(); _ = o.Close() },
		"closed on both sides":     func(o *Once) { _ = o.Close(); o.Final(); _ = o.Close(); o.Final() },
		"offered again in between": func(o *Once) { _ = o.Close(); o.Again(); _ = o.Close(); o.Final() },
	} {
		b := of(strings.NewReader("x"))
		steps(NewOnce(b))
		if b.closed.Load() != 1 {
			t.Errorf("%s: closed %d times", name, b.closed.Load())
		}
	}
	b := of(strings.NewReader("x"))
	o := NewOnce(b)
	o.Final() // its base is still sending
	if b.closed.Load() != 0 {
		t.Error("closed while it is being sent")
	}
	_ = o.Close()
	if b.closed.Load() != 1 {
		t.Errorf("closed %d times", b.closed.Load())
	}
}
