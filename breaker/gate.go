package breaker

import (
	"time"
)

// A gate is a Breaker as package retry sees it: it may ask what the breaker would
// say, so that it does not wait for an attempt that would be refused.
type gate Breaker

// RefusesFor returns for how long the breaker is certain to refuse requests from
// now on; 0 if it may admit one.
func (g *gate) RefusesFor() time.Duration {
	b := (*Breaker)(g)
	if word(b.word.Load()).state() != Open {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.refusesFor(b.now())
}

// FailuresInARow returns how many failures count in the row under way.
func (g *gate) FailuresInARow() int {
	b := (*Breaker)(g)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.row.counted
}
