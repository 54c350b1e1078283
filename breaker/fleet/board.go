package fleet

import (
	"maps"
	"sync"
	"time"

	"github.com/retrip-go/retrip/breaker"
)

// maxKnown bounds what the board knows. Other processes decide how much they publish.
const maxKnown = 1_024

// A board has the advice of others that still holds, and the subscribers. What is known
// is kept for those who subscribe later, as a Transport may that is made after the Redis.
// It is safe for concurrent use. The zero value is empty.
type board struct {
	mu      sync.Mutex
	known   map[source]breaker.Advice
	hearers map[*func(breaker.Advice)]struct{}
}

// subscribe adds a subscriber, and returns the advice that there is already. Both happen
// under one lock, so that none is missed in between. A function can't be compared, so
// that its address is the key.
func (b *board) subscribe(f func(breaker.Advice)) (known []breaker.Advice, stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hearers == nil {
		b.hearers = make(map[*func(breaker.Advice)]struct{})
	}
	b.hearers[&f] = struct{}{}
	for _, a := range b.known {
		known = append(known, a)
	}
	return known, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.hearers, &f)
	}
}

// post adds advice. It returns the subscribers that are to hear of it. There are none if
// it is no news, such as what is read again after a reconnect. Advice that does not fit
// on the board always counts as news, since it can't be compared. The subscribers are
// called without the lock, because they may subscribe or stop.
func (b *board) post(a breaker.Advice) (hearers []func(breaker.Advice)) {
	from := source{a.Origin, a.Name}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, known := b.known[from]; known && a.Until.Sub(old.Until) < sameMoment {
		return nil
	}
	if b.known == nil {
		b.known = make(map[source]breaker.Advice)
	}
	if len(b.known) >= maxKnown {
		now := time.Now()
		maps.DeleteFunc(b.known, func(_ source, a breaker.Advice) bool { return !a.Until.After(now) })
	}
	if len(b.known) < maxKnown {
		b.known[from] = a
	}
	for f := range b.hearers {
		hearers = append(hearers, *f)
	}
	return hearers
}

// sameMoment is how far apart two readings of one time may lie: the server's clock
// is known to within the time that an answer takes, which limit bounds.
const sameMoment = limit
