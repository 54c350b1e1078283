package breaker

import "sync/atomic"

// A row is a row of failures without a success. The zero value is none. It is the rule
// that opens the breaker of a key with few requests, where no ratio says anything.
type row struct {
	number  uint64 // unlike any other row's in this process; 0 if no row is under way
	counted int    // failures that count: those that lie apart, of different calls
	last    int64  // when the last failure counted
	limit   int64  // the longest time limit of ours that one of its failures ran into
}

// rows numbers the rows of all breakers: a call carries the numbers of those that
// it has failed in, and may meet several breakers.
var rows atomic.Uint64

// fail takes a failure, which begins a row if none is under way. It counts if
// gap has passed since the last that counted: what fails together fails for one
// reason. A call is in a row once, by the first of its attempts that failed in it,
// whether that one counted or another that failed together with it: else the
// retries of all calls that a restart has cut off would count one after the other.
func (r *row) fail(now, gap int64, f failure) {
	begins := r.number == 0
	if begins {
		*r = row{number: rows.Add(1)}
	}
	r.limit = max(r.limit, f.limit)
	again := f.call != nil && f.call.FailedIn.Add(r.number, begins)
	if again || !begins && now-r.last < gap {
		return
	}
	r.counted++
	r.last = now
}
