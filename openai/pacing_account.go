package openai

import (
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/throttle"
)

// shortestWait bounds how often a timer fires. Without it rounding could set the
// timer again and again for next to nothing.
const shortestWait = time.Millisecond

// An account is what a rate limit is taken to hold for: a credential that calls a
// model at a host. The throttle decides and knows neither locks nor clocks, so the
// account adds a lock and one timer for all who wait.
type account struct {
	// The key is the hash of what tells the account apart. The name holds no
	// credential and is shown.
	key    uint64
	name   string
	labels pacingLabels
	pacer  *pacer
	// active mirrors the throttle's. Calls read it without the lock, because an
	// account without a limit must not make calls wait for each other.
	active atomic.Bool

	// mu guards the throttle, except its Recent and Epoch, and the timer. The timer
	// is nil until somebody has waited.
	mu       sync.Mutex
	throttle throttle.Throttle
	timer    *time.Timer
}

// newAccount returns the account that a request belongs to. Its labels are made
// once, because making them may look up bounded tables.
func (p *pacer) newAccount(req *http.Request, c *call.Call) *account {
	about := call.SubjectOf(req.Context(), c)
	a := &account{name: accountName(req.URL, about), labels: p.metrics.labels(req.URL, about), pacer: p}
	a.throttle.MaxWait, a.throttle.Random = p.maxWait, call.Random(c)
	return a
}

// count lets a call go that need not ask. It takes no lock, because most accounts
// never feel a limit. What it counts is what the first cut is measured by.
func (a *account) count(at time.Duration, cost int64) throttle.Sent {
	a.throttle.Recent.Add(at, cost)
	return throttle.Sent{At: at, Cost: cost, Epoch: a.throttle.Epoch()}
}

// wait lets a call go when the throttle says so, or returns a [*LimitError]. The
// time of the wait is not charged to the attempt's time limit, since the provider is
// not to blame for it.
//
// A call that leaves may have been admitted in the same moment. Its state under the
// lock is what counts.
func (a *account) wait(req *http.Request, c *call.Call, w *throttle.Waiter) (throttle.Sent, error) {
	began := a.pacer.now()
	var arrived throttle.State
	a.change(func(now time.Duration) { arrived = a.throttle.Arrive(now, w) })
	left := false
	if arrived == throttle.Waiting {
		attempt := call.AttemptFrom(req.Context())
		attempt.Hold()
		left = interrupted(req.Context(), req, w.Ready)
		attempt.Resume()
	}
	a.mu.Lock()
	now := a.pacer.now()
	if left && w.State() == throttle.Waiting {
		a.throttle.Leave(now, w)
	}
	a.mu.Unlock()
	if arrived != throttle.Admitted {
		c.Held += max(now-began, 1)
		a.pacer.metrics.waited(c, a.labels, now-began, w.State())
	}
	if w.State() != throttle.Admitted {
		return throttle.Sent{}, &LimitError{Key: a.name, RetryAfter: w.RetryAfter()}
	}
	return w.Sent(), nil
}

// change applies f to the throttle and then admits everybody for whom that opens the
// way. It sets the timer to the next moment at which something is due. All changes
// go through here, so none can leave a call waiting without a timer.
func (a *account) change(f func(now time.Duration)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.pacer.now()
	f(now)
	for a.throttle.Next(now) != nil {
	}
	a.active.Store(a.throttle.Active())
	at, waiting := a.throttle.Due()
	switch {
	case !waiting && a.timer != nil:
		a.timer.Stop()
	case !waiting:
	case a.timer == nil:
		a.timer = time.AfterFunc(max(at-now, shortestWait), a.wake)
	default:
		a.timer.Reset(max(at-now, shortestWait))
	}
}

// wake admits those whose time has come. The timer calls it.
func (a *account) wake() { a.change(func(time.Duration) {}) }

// refused reports a refusal to the throttle and returns when the call may be sent
// again.
func (a *account) refused(s throttle.Sent, r throttle.Refusal) (again time.Duration) {
	a.change(func(now time.Duration) { again = a.throttle.Refuse(now, s, r) })
	return again
}

// shed reports a call that was shed to the throttle, and returns what it makes of it.
func (a *account) shed(s throttle.Sent, r throttle.Refusal) (again time.Duration, limited bool) {
	a.change(func(now time.Duration) { again, limited = a.throttle.Shed(now, s, r) })
	return again, limited
}

// returned says that a call that was let go is not under way any more. Calls that
// were only counted never are, and cost no lock here.
func (a *account) returned(s throttle.Sent) {
	if s.UnderWay {
		a.change(func(time.Duration) { a.throttle.Returned(s) })
	}
}

// answered says that the provider did not refuse a call. Without a limit nobody
// needs to know.
func (a *account) answered(s throttle.Sent) {
	if a.active.Load() {
		a.change(func(now time.Duration) { a.throttle.Answer(now, s) })
	}
}

// unsent takes back a call that the breaker refused below. It must not use up a rate
// that it never touched.
func (a *account) unsent(s throttle.Sent) {
	a.change(func(now time.Duration) { a.throttle.Unsent(now, s) })
}

// pause lets nothing go for the time that a header asks for. The time is bounded,
// because no provider may stop an account for longer than callers accept to wait.
func (a *account) pause(wait time.Duration) {
	a.change(func(now time.Duration) { a.throttle.Pause(now, min(wait, a.pacer.maxWait)) })
}

// olderThan reports whether a is to be forgotten before b. An account with a limit
// stays longest, since forgetting it means running into the limit again.
func (a *account) olderThan(b *account) bool {
	if x, y := a.active.Load(), b.active.Load(); x != y {
		return y
	}
	return a.throttle.Recent.Last() < b.throttle.Recent.Last()
}

// snapshot returns the state of the account. ok is false if no limit is felt. JSON
// has no infinity, so an unlimited rate is shown as 0.
func (a *account) snapshot() (PacingSnapshot, bool) {
	if !a.active.Load() {
		return PacingSnapshot{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.pacer.now()
	s := PacingSnapshot{Key: a.name, Target: a.labels.target, Rate: a.throttle.Rate(now), Waiting: a.throttle.Length()}
	if math.IsInf(s.Rate, 1) {
		s.Rate = 0
	}
	if gate := a.throttle.Gate(); gate > 0 {
		s.PausedUntil = a.pacer.start.Add(gate)
	}
	return s, a.throttle.Felt(now)
}
