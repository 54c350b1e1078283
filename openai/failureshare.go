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

// shareWeight is what one outcome counts for, and smallShare is as good as none:
// where all is well nothing is written.
const (
	shareWeight = 1.0 / 32
	smallShare  = 1.0 / 256
)

func (s *failureShare) failed() { s.move(1) }

func (s *failureShare) succeeded() {
	if s.bits.Load() != 0 {
		s.move(0)
	}
}

// move moves the share towards an outcome.
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

// isHigh reports whether at least half of the outcomes were failures.
func (s *failureShare) isHigh() bool { return math.Float64frombits(s.bits.Load()) >= 0.5 }
