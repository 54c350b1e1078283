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

	// What was sent and has failed lately: in this stretch of the row and in the one
	// before. A stretch ends where enough failures have counted and prove nothing. The
	// burst that a row begins with is one failure here, since what was sent with it and
	// has not failed isn't known either.
	sentBefore, sentSince int64 // tally.sent when these stretches began
	failed, failedSince   int64 // failures in both, and in this one
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
		*r = row{number: rows.Add(1), begun: now, sentBefore: sent, sentSince: sent}
	}
	if begins || f.inRow || now-r.begun >= gap {
		r.failed++
		r.failedSince++
	}
	r.limit = max(r.limit, f.limit)
	again := f.call != nil && f.call.FailedIn.Add(r.number, begins)
	if again || !begins && now-r.last < gap {
		return
	}
	r.counted++
	r.last = now
}

// provesNothing reports whether more than a third of what was sent in the row has not
// failed. Failures may come at once where answers take long: then a few that fail at
// random stand in a row, because the successes of the others can't be there yet. Of a
// provider that is down, as many requests fail as are sent, whenever they do.
func (r *row) provesNothing(sent int64) bool { return 2*(sent-r.sentBefore) > 3*r.failed }

// stretch begins to count anew.
func (r *row) stretch(sent int64) {
	r.counted = 1
	r.sentBefore, r.sentSince = r.sentSince, sent
	r.failed, r.failedSince = r.failedSince, 0
}
