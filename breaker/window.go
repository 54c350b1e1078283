package breaker

import "time"

// buckets is the number of steps in which a window forgets.
const buckets = 10

// A window counts the outcomes of the last so many nanoseconds. Successes are
// not written into it: they are counted in one number that only grows, of
// which a bucket keeps what it was when the bucket began. All times are
// nanoseconds on the breaker's own clock.
type window struct {
	width  int64 // of a bucket
	newest int64 // number of the newest bucket
	slots  [buckets]bucket
}

// A bucket counts the outcomes of one step.
type bucket struct {
	number   int64  // counts from 1; 0 is an unused slot
	start    uint64 // successes before the bucket began
	failures uint64
	revoked  uint64 // successes of this bucket that turned into failures
}

// newWindow returns an empty window of a length.
func newWindow(length time.Duration) window {
	return window{width: max(int64(length)/buckets, 1)}
}

// reset forgets everything.
func (w *window) reset(now int64, successes uint64) {
	w.slots = [buckets]bucket{}
	w.newest = 0
	w.roll(now, successes)
}

// number returns the number of the bucket that a time is in.
func (w *window) number(now int64) int64 { return now/w.width + 1 }

// roll begins a new bucket if it is time for one, where seen is the number of
// successes when the clock was read before. Those that came since count as the
// new bucket's: it is not known when they came, and to take them for younger than
// they are keeps a breaker closed.
func (w *window) roll(now int64, seen uint64) {
	if n := w.number(now); n > w.newest {
		w.newest = n
		w.slots[n%buckets] = bucket{number: n, start: seen}
	}
}

// end returns when the newest bucket ends.
func (w *window) end() int64 { return w.newest * w.width }

// fail counts a failure in the newest bucket.
func (w *window) fail() { w.slots[w.newest%buckets].failures++ }

// revoke takes back the nth success of all. It is taken from the bucket in which it was
// counted, so that the failure that it turned into does not outlive it.
func (w *window) revoke(nth uint64) {
	var in *bucket
	for i := range w.slots {
		slot := &w.slots[i]
		if slot.number != 0 && slot.start < nth && (in == nil || slot.number > in.number) {
			in = slot
		}
	}
	if in != nil {
		in.revoked++
	}
}

// counts returns the outcomes in the window, where total is the number of all
// successes there ever were.
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
