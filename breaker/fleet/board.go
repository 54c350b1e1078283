package fleet

import (
	"maps"
	"sync"
	"time"

	"github.com/retrip-go/retrip/breaker"
)

// maxKnown bounds what the board knows.
const maxKnown = 1_024

// A board has the advice of others that still holds, and those who want it. The
// zero value is empty.
type board struct {
	mu      sync.Mutex
	known   map[source]breaker.Advice
	hearers map[*func(breaker.Advice)]struct{}
}

// subscribe adds who wants advice, and returns what there is of it already.
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

// post adds advice. It returns those who are to hear of it: nobody if it is no
// news, as what is read again after a reconnect. Of what does not fit it can't be
// told that it is none.
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
// is known as exactly as it answers promptly.
const sameMoment = limit
