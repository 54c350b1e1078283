package retry

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A hint is a floor: this much of it, at most, is added at random. Callers who were
// refused together get the same hint, and would be refused together again.
const (
	hintSpread    = 0.25
	maxHintSpread = 10 * time.Second
)

// Where a wait comes from, as the attribute retrip.retry.delay_source has it.
const (
	fromBackoff = "backoff"
	fromHint    = "hint"
)

// A wait is how long a call waits for its next attempt. The zero value is none.
type wait struct {
	time.Duration

	source string
	asked  time.Duration // what the server asked for, without the random part; 0 of a backoff
	below  bool          // a layer below waits
}

// A limits is what bounds the waits of one call. It is made anew for each plan, because
// an attempt at another target has a limit less.
type limits struct {
	maxRetryAfter time.Duration
	latest        time.Time // no attempt begins after it; zero for never
}

// newLimits returns the limits of a call that began at start. The context's deadline and
// MaxElapsed are one limit, of which the earlier counts.
func newLimits(ctx context.Context, start time.Time, cfg *Config) limits {
	l := limits{maxRetryAfter: cfg.MaxRetryAfter}
	if cfg.MaxElapsed > 0 {
		l.latest = start.Add(cfg.MaxElapsed)
	}
	if deadline, ok := ctx.Deadline(); ok && (l.latest.IsZero() || deadline.Before(l.latest)) {
		l.latest = deadline
	}
	return l
}

// allow returns why the wait may not be begun, or NotRetryable if it may. A
// wait is never cut short: an attempt before the time that the server asked
// for would fail again, and one after the deadline has no caller any more. What is
// compared with MaxRetryAfter is what the server asked for, so that chance does not
// decide.
func (l limits) allow(w wait, now time.Time) Reason {
	switch {
	case w.asked > l.maxRetryAfter:
		return StopHintTooLong
	case !l.latest.IsZero() && !now.Add(w.Duration).Before(l.latest):
		return StopDeadline
	}
	return NotRetryable
}

// spread adds a random share to a hint. random returns numbers in [0, 1).
func spread(hint time.Duration, random func() float64) time.Duration {
	most := min(time.Duration(hintSpread*float64(hint)), maxHintSpread)
	return hint + time.Duration(random()*float64(most))
}

// A backoffs has the waits of one call for which the server named none. A BackOff has
// state, so that each call has its own. It is made at the first such wait, because most
// calls need none.
type backoffs struct{ next backoff.BackOff }

// wait returns the next wait. It returns false if there is to be none, which a BackOff
// says by backoff.Stop, a negative number.
func (b *backoffs) wait(start func() backoff.BackOff) (time.Duration, bool) {
	if b.next == nil {
		b.next = start()
	}
	d := b.next.NextBackOff()
	return d, d >= 0
}
