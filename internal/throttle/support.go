package throttle

import "time"

const (
	// A rate has fallen when it is below this share of the best that was admitted.
	fallen = 1.0 / 4

	// From fewer calls than fewest at low rates nothing is concluded. Cuts are taken for
	// vain if the share that is refused at low rates is at least alike times the share at
	// high ones. A share below leastInVain is no trouble. One above mostInVain says
	// nothing: a provider that refuses nearly everything may be one that admits nothing.
	fewest      = 12
	alike       = 0.5
	leastInVain = 0.15
	mostInVain  = 0.8

	// A support is judged after so many calls. It is raised by a factor while calls
	// wait longer than longWait and no more of them are refused than before.
	trialCalls = 10
	raise      = 2
	longWait   = 20 * time.Second
)

// A support is a rate of calls below which cuts do not go, because they are in
// vain: as many calls are refused at low rates as at high ones. A provider that
// refuses at random would drive the rate to nothing otherwise. One process can't
// tell that from a limit that many processes share, so the support is low, and it
// rises only where calls wait so long that their time is nearly over. The zero value
// supports nothing.
type support struct {
	rate  float64 // 0 while cuts help
	share float64 // that was refused when they turned out not to

	best      float64 // rate that was admitted
	low, high count   // of what was sent at less than twice a fallen rate, and at others
	trial     count   // of what was sent since the support was judged
}

// measured notes what rate was admitted.
func (s *support) measured(rate float64) { s.best = max(s.best, rate) }

func (s *support) of(rate float64) *count {
	if rate < 2*fallen*s.best {
		return &s.low
	}
	return &s.high
}

// sent counts a call that is let go at a rate, of which so much was admitted
// before the last cut.
func (s *support) sent(rate, most float64, waits bool) {
	if s.rate > 0 {
		if s.trial.sent++; s.trial.sent >= trialCalls {
			s.judge(most, waits)
		}
		return
	}
	c := s.of(rate)
	if c.sent++; c.sent > 4*fewest {
		c.halve() // what is long ago counts less
	}
}

// judge takes a support away in steps if more is refused than when it was put up.
func (s *support) judge(most float64, waits bool) {
	share := s.trial.share()
	s.trial = count{}
	switch {
	case share > 0.2+1.5*s.share:
		if s.rate /= 2; s.rate < fallen/2*s.best {
			*s = support{}
		}
	case waits && share <= 0.1+1.1*s.share:
		s.rate = max(s.rate, min(raise*s.rate, 2*most))
	}
}

// refused counts a refusal, and sets the support if cuts turn out to be in vain.
func (s *support) refused(rate float64) {
	if s.rate > 0 {
		s.trial.refused++
		return
	}
	s.of(rate).refused++
	before := s.high.share()
	if s.high.sent < fewest {
		before = 0 // too few to know the share at high rates
	}
	share := s.low.share()
	if rate < fallen*s.best && s.low.sent >= fewest && share <= mostInVain && share >= max(leastInVain, alike*before) {
		s.rate, s.share = fallen*s.best, share
	}
}
