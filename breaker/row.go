package breaker

import "sync/atomic"

// A row is a row of failures without a success. The zero value is none. It is the rule
// that opens the breaker of a key with few requests, where no ratio says anything.
type row struct {
	number  uint64 // unlike any other row's in this process; 0 if no row is under way
	begun   int64  // when it began
	counted int    // failures that count: those that lie apart, of different calls
	last    int64  // when the last failure counted
	limit   int64  // the longest time limit of ours that one of its failures ran into

	stretches [2]stretch // the present one, and the one before
}

// A stretch is a part of a row. It ends where enough failures have counted and prove
// nothing.
type stretch struct {
	sent int64 // tally.sent when it began

	// Failures in it. The burst that a row begins with is one, since it isn't known
	// how many were sent along with it and have not failed.
	failed int64
	slow   int64 // of these, after a long time: a request from before the row, or a limit of ours
}

// rows numbers the rows of all breakers: a call carries the numbers of those that
// it has failed in, and may meet several breakers.
var rows atomic.Uint64

// fail takes a failure, which begins a row if none is under way. It counts if
// gap has passed since the last that counted: what fails together fails for one
// reason. A call is in a row once, by the first of its attempts that failed in it,
// whether that one counted or another that failed together with it: else the
// retries of all calls that a restart has cut off would count one after the other.
func (r *row) fail(now, gap, sent int64, f failure) {
	begins := r.number == 0
	if begins {
		*r = row{number: rows.Add(1), begun: now, stretches: [2]stretch{{sent: sent}, {sent: sent}}}
	}
	fromBefore := !begins && !f.inRow
	if !fromBefore || now-r.begun >= gap {
		r.stretches[0].fail(fromBefore || f.limit > 0)
	}
	r.limit = max(r.limit, f.limit)
	again := f.call != nil && f.call.FailedIn.Add(r.number, begins)
	if again || !begins && now-r.last < gap {
		return
	}
	r.counted++
	r.last = now
}

func (s *stretch) fail(slowly bool) {
	s.failed++
	if slowly {
		s.slow++
	}
}

// provesNothing reports whether more than a third of what was sent in the row has not
// failed. Failures may come at once where answers take long: then a few that fail at
// random stand in a row, because the successes of the others can't be there yet. Of a
// provider that is down, as many requests fail as are sent. If they take long to fail,
// those that are under way say nothing.
func (r *row) provesNothing(sent int64) bool {
	now, before := &r.stretches[0], &r.stretches[1]
	failed, slow := now.failed+before.failed, now.slow+before.slow
	return 2*(sent-before.sent) > 3*failed && 2*slow <= failed
}

// countAnew begins another stretch, for failures that have proved nothing.
func (r *row) countAnew(sent int64) {
	r.counted = 1
	r.stretches = [2]stretch{{sent: sent}, r.stretches[0]}
}
