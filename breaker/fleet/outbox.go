package fleet

import (
	"sync"

	"github.com/retrip-go/retrip/breaker"
)

// maxWaiting is how many pieces of advice wait to be published. Requests wait for put, so
// that it must never wait for Redis; and advice is worth less the older it is.
const maxWaiting = 256

// An outbox is what the worker has to do. It is safe for concurrent use.
type outbox struct {
	wake chan struct{} // holds something when there is something to do

	mu      sync.Mutex
	waiting []breaker.Advice // in order
	reads   bool             // what is stored shall be read
}

// put adds advice. It reports whether the oldest had to go for it, which is
// likely to end first.
func (o *outbox) put(a breaker.Advice) (dropped bool) {
	o.mu.Lock()
	dropped = len(o.waiting) >= maxWaiting
	if dropped {
		o.waiting = o.waiting[1:]
	}
	o.waiting = append(o.waiting, a)
	o.mu.Unlock()
	rouse(o.wake)
	return dropped
}

// read asks for what is stored.
func (o *outbox) read() {
	o.mu.Lock()
	o.reads = true
	o.mu.Unlock()
	rouse(o.wake)
}

// rouse wakes the goroutine that waits for c; once, however often it is called
// meanwhile. It never blocks.
func rouse(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take empties the outbox.
func (o *outbox) take() (waiting []breaker.Advice, reads bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	waiting, reads = o.waiting, o.reads
	o.waiting, o.reads = nil, false
	return waiting, reads
}
