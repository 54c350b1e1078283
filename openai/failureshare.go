package openai

import (
	"math"
	"sync/atomic"
)

// A failureShare is the share of a target's latest outcomes that were failures,
// older ones counting for less and less. In a brown-out of several targets a call's
// first attempt at each is still worth making, as long as most succeed; where they
// don't, it is paid for as a retry. The zero value is of a target without outcomes.
type failureShare struct{ bits atomic.Uint64 }

// shareWeight is what one outcome counts for. It is small enough that a few failures
// in a row stay below a half, and large enough that an outage exceeds it after some
// twenty calls. smallShare counts as none: without it the share would never get
// back to 0, and each success at a healthy target would write to shared memory.
const (
	shareWeight = 1.0 / 32
	smallShare  = 1.0 / 256
)

// failed moves the share towards 1.
func (s *failureShare) failed() { s.move(1) }

// succeeded moves the share towards 0. It writes nothing while the share is 0, so that
// concurrent calls to a healthy target do not contend for the cache line.
func (s *failureShare) succeeded() {
	if s.bits.Load() != 0 {
		s.move(0)
	}
}

// move moves the share towards an outcome. It tries again when another call was
// faster, because a lost outcome would make an outage look smaller.
func (s *failureShare) move(outcome float64) {
	for {
		old := s.bits.Load()
		share := math.Float64frombits(old)
		share += (outcome - share) * shareWeight
		if share < smallShare {
			share = 0
		}
		if s.bits.CompareAndSwap(old, math.Float64bits(share)) {
			return
		}
	}
}

// isHigh reports whether failures make up at least half. Below that a first attempt is
// more likely to end the call well than not, and should not wait for a budget.
func (s *failureShare) isHigh() bool { return math.Float64frombits(s.bits.Load()) >= 0.5 }
