package fleet

import (
	"sync"

	"github.com/retrip-go/retrip/breaker"
)

// maxWaiting is how many pieces of advice wait to be published.
const maxWaiting = 256

// An outbox is what the worker has to do.
type outbox struct {
	wake chan struct{} // holds something when there is something to do

	mu      sync.Mutex
	waiting []breaker.Advice // in order
	reads   bool             // what is stored shall be read
}

// put adds advice. It reports whether the oldest had to go for it.
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

// rouse has whoever waits for c go on; once, however often it is called meanwhile.
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
