package breaker

import (
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// minSpread is how far the first and the last of several failures must lie
// apart on a busy key before they say anything: one lost connection fails
// many requests in the same instant.
const minSpread = int64(time.Second)

// buckets is the number of steps in which a window forgets.
const buckets = 10

// A window counts the outcomes of the last so many nanoseconds. Successes are
// not written into it: they are counted in one number that only grows, of
// which a bucket keeps what it was when the bucket began. All times are
// nanoseconds on the breaker's own clock.
type window struct {
	width   int64 // of a bucket
	newest  int64 // number of the newest bucket
	slots   [buckets]bucket
	failed  []int64 // a ring of the times of the last failures
	pushed  int     // failures ever put into the ring
	reached int     // failures the ring holds at most
}

type bucket struct {
	number   int64  // counts from 1; 0 is an unused slot
	start    uint64 // successes before the bucket began
	failures uint64
	revoked  uint64 // successes of this bucket that turned into failures
}

func newWindow(length time.Duration, remembered int) window {
	// A spread needs two failures.
	return window{width: max(int64(length)/buckets, 1), reached: max(remembered, 2)}
}

// reset forgets everything.
func (w *window) reset(now int64, successes uint64) {
	w.slots = [buckets]bucket{}
	w.newest, w.pushed = 0, 0
	w.roll(now, successes)
}

func (w *window) number(now int64) int64 { return now/w.width + 1 }

// roll begins a new bucket if it is time for one.
func (w *window) roll(now int64, successes uint64) {
	if n := w.number(now); n > w.newest {
		w.newest = n
		w.slots[n%buckets] = bucket{number: n, start: successes}
	}
}

// end returns when the newest bucket ends.
func (w *window) end() int64 { return w.newest * w.width }

// fail counts a failure.
func (w *window) fail(now int64, successes uint64) {
	w.roll(now, successes)
	w.slots[w.newest%buckets].failures++
	if w.failed == nil {
		w.failed = make([]int64, w.reached)
	}
	w.failed[w.pushed%len(w.failed)] = now
	w.pushed++
}

// revoke takes back a success that was counted in the bucket that ends at end.
func (w *window) revoke(end int64) {
	n := end / w.width
	if slot := &w.slots[n%buckets]; slot.number == n {
		slot.revoked++
	}
}

// counts returns the outcomes in the window, where successes is the number of
// all there ever were.
func (w *window) counts(now int64, total uint64) (successes, failures uint64) {
	oldest := w.number(now) - buckets + 1
	var first *bucket
	var revoked uint64
	for i := range w.slots {
		slot := &w.slots[i]
		if slot.number == 0 || slot.number < oldest {
			continue
		}
		if first == nil || slot.number < first.number {
			first = slot
		}
		failures += slot.failures
		revoked += slot.revoked
	}
	// A success may be counted between the reading of total and a roll.
	if first != nil && total > first.start+revoked {
		successes = total - first.start - revoked
	}
	return successes, failures
}

// spread reports whether the last n failures, as far as they are remembered,
// lie at least minSpread apart.
func (w *window) spread(now int64, n uint64) bool {
	n = min(n, uint64(w.reached), uint64(w.pushed))
	return n > 0 && now-w.failed[(w.pushed-int(n))%len(w.failed)] >= minSpread
}

// A run is a row of failures without a success.
type run struct {
	number      uint64 // unlike any other run's in this process
	mark        uint64 // successes that end runs, as counted at the last failure
	length      int
	first, last int64
}

// runs numbers the runs of all breakers: a call carries the number of the run
// it was counted in, and may meet several breakers.
var runs atomic.Uint64

// fail counts a failure; enders is the number of successes so far that end a
// run. A call that was already counted in this run does not lengthen it.
func (r *run) fail(now int64, enders uint64, c *call.Call) {
	if r.length == 0 || r.mark != enders {
		*r = run{number: runs.Add(1), mark: enders, first: now}
	}
	r.last = now
	if c != nil && c.CountedRun.Swap(r.number) == r.number {
		return
	}
	r.length++
}

// lengthNow returns how many failures there were since the last success.
func (r *run) lengthNow(enders uint64) int {
	if r.mark != enders {
		return 0
	}
	return r.length
}
