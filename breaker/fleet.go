package breaker

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	servedLately = 5 * time.Second // ago at most, who is served opens for no quorum
	never        = math.MinInt64 / 2
	maxJitter    = 250 // thousandths
)

// An Advice says that a breaker is open by its own failures.
type Advice struct {
	Name   string    // of the breaker's key, as Fleet.Name calls it
	Origin string    // who says so; the Fleet fills it in
	Until  time.Time // when the breaker lets a probe through; at most 120 s ahead
}

// A Fleet carries advice between processes that call the same providers. Package
// [github.com/retrip-go/retrip/breaker/fleet] has one over Redis.
//
// What is published is only what a breaker's own failures have opened: no opening
// on advice, no Trip, no counts. A closed breaker that is advised becomes wary:
// its own next outcome decides. A failure opens it; a success ends its wariness,
// until an origin advises anew. With advice from a quorum of two other origins, a
// breaker that has had no success in the last 5 s opens at once, until the time
// that so many agree on. (Successes are not timed one by one: one may be taken
// for younger than it is, until a failure or some further advice comes.) So a few
// sick replicas do not shut out a process that is served. With a Fleet, a breaker that has
// opened stays so for up to a quarter longer, by chance, so that replicas do not
// probe together.
//
// Advice about a key that is not known here is kept for it until it is over, for
// 1,024 keys at most.
//
// All methods must be safe for concurrent use, and none may block: requests wait
// for them. A method that panics is as one that does nothing; a line in
// Config.Logger says so.
type Fleet interface {
	// Name returns what advice about a key is called. It is asked once for
	// each new breaker. One that is called "" has no part in the Fleet.
	Name(key string) string

	// Publish hands advice to the other processes. Its Origin is empty.
	Publish(a Advice)

	// Subscribe has f called with the advice of others, until stop is called.
	// f does not block. Advice whose Origin is this process's own must not
	// be passed on.
	Subscribe(f func(Advice)) (stop func())
}

// join gives a breaker its name in the fleet, and a moment of its own to probe at.
func (b *Breaker) join() {
	if b.link == nil {
		return
	}
	b.name = b.link.nameOf(b.key)
	b.m.jitter = rand.Int64N(maxJitter + 1)
}

// advise takes the word of another process.
func (b *Breaker) advise(a Advice) {
	now, t := b.lock()
	b.m.advise(now, t, b.served.Load(), a.Origin, int64(a.Until.Sub(b.start)))
	if _, changed := b.unlock(); changed {
		b.announce()
	}
}
