package throttle

import (
	"math"
	"time"
)

const (
	// span is how far back what was admitted is looked at.
	span = 4 * time.Second

	// After a cut the rate grows by a cubic curve (as RFC 9438 has it for TCP):
	// fast at first, flat around what was admitted before, at which it arrives
	// after a time, then faster and faster. It is relative to that, so that it
	// fits a limit of 2 calls a second as well as one of 200. The time is that of
	// some calls, since nothing is learned without one, but bounded: small shares
	// of a limit that many processes draw on must find each other.
	depth       = 0.3 // of the cut
	returnCalls = 1.3
	minReturn   = 3.0 // seconds
	maxReturn   = 8.0

	// slowest is the least rate of calls: of ten processes that share a limit of
	// 2 a second, each must be able to go below its share.
	slowest = 1.0 / 10

	// unknown is the rate, in floors, if nothing is known of the limit. It doubles
	// each second until the next refusal.
	unknown = 10

	// late is how much of a timer's lateness is made up for.
	late = 10 * time.Millisecond
)

// A limit is the rate at which one unit may be spent, in units a second.
type limit struct {
	on        bool
	guess     bool          // most was not measured
	low, high fates         // of what was sent below the rate that had been admitted, and above
	most      float64       // what was admitted before the last cut, as far as is known
	floor     float64       // the least rate
	grown     time.Duration // time in which the rate could grow, since the last cut
	next      time.Duration // nothing is admitted before
	atMost    float64       // most can't be more, whatever is measured

	from, until time.Duration // what was measured at the last cut
	gain        float64
}

func (l *limit) rate() float64 {
	switch {
	case !l.on:
		return math.Inf(1)
	case l.guess:
		return max(l.most*math.Exp2(min(l.grown.Seconds(), 20)), l.floor)
	}
	x := l.progress() - 1
	d := P("depth", depth)
	return max(l.most*(1+d*x*x*x), l.floor)
}

// progress is how far the rate is on its way back to most, at which it is at 1.
func (l *limit) progress() float64 {
	back := min(max(returnCalls/(slowest*l.most/l.floor), minReturn), maxReturn)
	return l.grown.Seconds() / back
}

// cut lowers the rate after a refusal.
func (l *limit) cut(now, since time.Duration, floor float64, sum func(from, until time.Duration) float64) {
	rate := l.rate()
	l.gain = 1
	l.gain = 1 / (1 - min(l.noise(), P("gmax", 0.3)))
	l.atMost, l.floor = rate, floor
	l.from, l.until = max(now-span, since), now
	if !l.on {
		l.on, l.next = true, now
		l.guess = now-since < time.Second
	} else {
		l.floor = min(l.floor, rate)
		l.guess = false
	}
	l.grown = 0
	l.low, l.high = fates{l.low.sent / 2, l.low.refused / 2}, fates{}
	l.measure(sum)
}

// measure finds out what was admitted before the last cut. It is asked again
// when more of that turns out to have been refused.
func (l *limit) measure(sum func(from, until time.Duration) float64) {
	measured := l.gain * sum(l.from, l.until) / max(l.until-l.from, time.Second).Seconds()
	switch {
	case l.guess:
		l.most = max(unknown*l.floor, measured)
	case math.IsInf(l.atMost, 1):
		l.most = measured
	default:
		// Right after a gate too little is measured.
		l.most = min(max(measured, l.atMost*P("least", 0.5)), l.atMost)
	}
	l.most = max(l.most, l.floor)
}

// spend charges what is admitted now: what comes after it waits.
func (l *limit) spend(now time.Duration, units float64) {
	if l.on {
		l.next = max(l.next, now-late) + time.Duration(units/l.rate()*float64(time.Second))
	}
}

func (l *limit) refund(units float64) {
	if l.on {
		l.next -= time.Duration(units / l.rate() * float64(time.Second))
	}
}

// Fates are how many calls were sent, and how many of them refused.
type fates struct{ sent, refused float64 }

func (l *limit) phase() *fates {
	if l.progress() < P("low", 0.5) {
		return &l.low
	}
	return &l.high
}

func (l *limit) sent() {
	if l.on && !l.guess {
		l.phase().sent++
	}
}

// noise is the share of the calls that are refused whatever the rate is, as far
// as is known.
func (l *limit) noise() float64 {
	if l.low.sent < P("enough", 20) || l.low.refused < 2 {
		return 0
	}
	return l.low.refused / l.low.sent
}

// refused counts a refusal, and reports whether it says that the rate is too
// high.
func (l *limit) refused() bool {
	if l.guess {
		return false
	}
	f := l.phase()
	f.refused++
	if f == &l.low {
		return false
	}
	if l.low.refused >= 0.5 && l.progress() < P("far", 1) {
		return false
	}
	expected := l.noise() * f.sent
	return f.refused > P("ratio", 1.3)*expected+P("sig", 2)*math.Sqrt(expected)
}
