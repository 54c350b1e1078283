package openai

import (
	"testing"

	"github.com/retrip-go/retrip/internal/prefetch"
)

// A panicBody brings something, and then a panic.
type panicBody struct{ left int }

func (b *panicBody) Read(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		panic("a base's panic")
	}
	return len(p), nil
}

func (b *panicBody) Close() error { return nil }

func TestAPanicWhileAStreamIsHeldTakesNothingOfTheRoom(t *testing.T) {
	t.Parallel()
	d := delivery{mode: Whole}
	a := streamTo(t, chatPath, &panicBody{left: 3})
	a.wanted = wanted{stream: true, whole: true}
	func() {
		defer func() { _ = recover() }()
		_ = d.holdWhole(prefetch.New(a, noCancel), a.enough)
	}()
	if left := d.whole.Load(); left != 0 {
		t.Errorf("%d bytes are still taken", left)
	}
}
