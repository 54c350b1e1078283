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
	// each second until calls are refused in a row.
	unknown = 10

	// late is how much of a timer's lateness is made up for.
	late = 10 * time.Millisecond
)

// A limit is the rate at which one unit may be spent, in units a second.
type limit struct {
	on bool
	// guess says that most was not measured, because the first refusal came too
	// early for that.
	guess bool
	most  float64 // what was admitted before the last cut, as far as is known
	floor float64 // the least rate
	// grown is the time since the last cut in which somebody waited for the rate.
	grown time.Duration
	next  time.Duration // nothing is admitted before
	// atMost bounds most, whatever is measured: a cut must not end in a higher rate.
	atMost float64
	chance chance

	from, until time.Duration // what was measured at the last cut
	gain        float64       // by which most is more than what was measured
}

// rate returns the present rate in units a second. It is infinite while the limit is
// off, so that callers need no case for that.
func (l *limit) rate() float64 {
	switch {
	case !l.on:
		return math.Inf(1)
	case l.guess:
		return max(l.most*math.Exp2(min(l.grown.Seconds(), 20)), l.floor)
	}
	x := l.progress() - 1
	return max(l.most*(1+depth*x*x*x), l.floor)
}

// progress returns how far the rate is on its way back to most, where it is 1.
func (l *limit) progress() float64 {
	back := min(max(returnCalls/(slowest*l.most/l.floor), minReturn), maxReturn)
	return l.grown.Seconds() / back
}

// isLow reports whether the rate is well below what was admitted.
func (l *limit) isLow() bool { return l.progress() < low }

// sent counts a call that is let go.
func (l *limit) sent() {
	if l.on && !l.guess {
		l.chance.sent(l.isLow())
	}
}

// refused counts a refusal, and reports whether it says that the rate is too high. A
// guessed rate has nothing to compare refusals with.
func (l *limit) refused() bool { return !l.guess && l.chance.refused(l.isLow()) }

// cut lowers the rate after a refusal. What was admitted lately is measured from
// since on, or over the whole span if that is shorter.
func (l *limit) cut(now, since time.Duration, floor float64, sum func(from, until time.Duration) float64) {
	rate := l.rate()
	l.gain = 1 / (1 - l.chance.share())
	l.atMost, l.floor = rate, floor
	l.from, l.until = max(now-span, since), now
	l.grown, l.guess = 0, false
	if !l.on {
		l.on, l.next = true, now
		l.guess = now-since < time.Second
	} else {
		l.floor = min(l.floor, rate)
	}
	l.chance.begin()
	l.measure(sum)
}

// measure finds out what was admitted before the last cut. It is called again when
// more of that turns out to have been refused, because refusals arrive later than
// the cut.
func (l *limit) measure(sum func(from, until time.Duration) float64) {
	measured := l.gain * sum(l.from, l.until) / max(l.until-l.from, time.Second).Seconds()
	switch {
	case l.guess:
		l.most = max(unknown*l.floor, measured)
	case math.IsInf(l.atMost, 1):
		l.most = measured
	default:
		// Right after a gate too little is measured.
		l.most = min(max(measured, l.atMost/2), l.atMost)
	}
	l.most = max(l.most, l.floor)
}

// spend charges what is admitted now: what comes after it waits.
func (l *limit) spend(now time.Duration, units float64) {
	if l.on {
		l.next = max(l.next, now-late) + time.Duration(units/l.rate()*float64(time.Second))
	}
}

// refund takes back a charge. The rate may have changed since, but the difference is
// too small to remember each charge.
func (l *limit) refund(units float64) {
	if l.on {
		l.next -= time.Duration(units / l.rate() * float64(time.Second))
	}
}
