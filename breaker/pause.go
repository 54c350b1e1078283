package breaker

import (
	"math/rand/v2"
	"time"
)

// How long a 429 pauses its key.
const (
	firstPause   = time.Second       // without a hint; doubled each time
	maxPause     = 30 * time.Second  // without a hint
	longestHint  = 120 * time.Second // the longest hint obeyed, for a pause and for an open circuit
	minSpreadOut = time.Second       // callers come back over at least this time
)

// A pause is a key's rest after a 429. The zero value is no pause.
type pause struct {
	until  int64         // on the breaker's clock
	length time.Duration // of the latest pause
	level  int           // how often a pause without a hint was doubled, and one
	mark   uint64        // all successes when the latest without a hint began
}

// begin starts a pause or prolongs the one there is. Without a hint the wait
// doubles, but only if the 429 is news: it answers a request admitted after the
// last pause began. News that comes as soon as a hint is over says that the hint
// was true for one caller and not for so many: then a pause is a second at
// least, or those who obey it would use up their attempts.
func (p *pause) begin(now int64, h Hint, news bool, successes uint64) {
	var length time.Duration
	switch {
	case h.Known:
		length = min(h.RetryAfter, longestHint)
		if news && length > 0 && p.length > 0 && now < p.until+int64(minSpreadOut) {
			length = max(length, firstPause)
		}
	default:
		if p.level == 0 || p.mark != successes {
			p.level = 1
		} else if news {
			p.level++
		}
		length = min(firstPause<<min(p.level-1, 10), maxPause)
		p.mark = successes
	}
	if until := now + int64(length); until > p.until {
		p.until, p.length = until, length
	}
}

// spreadOut returns a caller's random share of the time over which those who
// wait for a pause of the given length come back.
func spreadOut(length time.Duration) time.Duration {
	return rand.N(max(length/4, minSpreadOut))
}
