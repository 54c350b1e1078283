package breaker

import (
	"time"

	"github.com/retrip-go/retrip/internal/call"
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

// FailsAlone reports whether no failure of another call than c counts in the row
// under way. The failure of c may then be an accident, and is worth a second attempt at
// the same place.
func (g *gate) FailsAlone(c *call.Call) bool {
	b := (*Breaker)(g)
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.m.row
	return r.counted == 0 || r.counted == 1 && c.FailedIn.Began(r.number)
}
