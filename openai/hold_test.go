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
	d := newDelivery(&Config{Delivery: Whole})
	a := streamTo(t, chatPath, &panicBody{left: 3})
	body := prefetch.New(a, noCancel)
	func() {
		defer func() { _ = body.Close() }() // as the retry layer does
		defer func() { _ = recover() }()
		d.hold(body, a, -1, maxFirstEventWait)
	}()
	if left := d.whole.Taken(); left != 0 {
		t.Errorf("%d bytes are still taken", left)
	}
}
