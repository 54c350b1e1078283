package breaker

import (
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/call"
)

// A row is a row of failures without a success. The zero value is none.
type row struct {
	number  uint64 // unlike any other row's in this process; 0 if no row is under way
	counted int
	last    int64 // when the last failure counted
	limit   int64 // the longest time limit of ours that one of its failures ran into
}

// rows numbers the rows of all breakers: a call carries the number of the row
// it was counted in, and may meet several breakers.
var rows atomic.Uint64

// fail takes a failure, which begins a row if none is under way. It counts if
// gap has passed since the last that counted, and if the row has not counted
// the same call before. What fails together fails for one reason, and so does
// what fails again.
func (r *row) fail(now, gap int64, f failure) {
	begins := r.number == 0
	if begins {
		*r = row{number: rows.Add(1)}
	}
	r.limit = max(r.limit, f.limit)
	if !begins && now-r.last < gap || countedIn(r.number, f.call) {
		return
	}
	r.counted++
	r.last = now
}

// countedIn reports whether c was counted in the row before, and notes that it is
// from now on.
func countedIn(row uint64, c *call.Call) bool {
	return c != nil && c.CountedRun.Swap(row) == row
}
