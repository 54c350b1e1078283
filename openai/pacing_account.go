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

// shortestWait keeps a timer from being set again and again for next to nothing.
const shortestWait = time.Millisecond

// An account is what a rate limit is taken to hold for: who calls a model at a
// host. It has a lock and a timer for its throttle.
type account struct {
	key    uint64
	name   string
	labels pacingLabels
	pacer  *pacer
	active atomic.Bool // the throttle's, for those who need no lock

	mu       sync.Mutex
	throttle throttle.Throttle
	timer    *time.Timer
}

func (p *pacer) newAccount(req *http.Request, c *call.Call) *account {
	about := call.SubjectOf(req.Context(), c)
	a := &account{name: accountName(req.URL, about), labels: p.metrics.labels(req.URL, about), pacer: p}
	a.throttle.MaxWait, a.throttle.Random = p.maxWait, call.Random(c)
	return a
}

// count lets a call go that need not ask.
func (a *account) count(at time.Duration, cost int64) throttle.Sent {
	a.throttle.Recent.Add(at, cost)
	return throttle.Sent{At: at, Cost: cost, Epoch: a.throttle.Epoch()}
}

// wait lets a call go when the throttle says so.
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

// change changes the throttle, and lets those go for whom that opens the way.
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

// wake lets those go whose time has come.
func (a *account) wake() { a.change(func(time.Duration) {}) }

func (a *account) refused(s throttle.Sent, r throttle.Refusal) (again time.Duration) {
	a.change(func(now time.Duration) { again = a.throttle.Refuse(now, s, r) })
	return again
}

// returned says that a call that was let go is not under way any more.
func (a *account) returned(s throttle.Sent) {
	if s.UnderWay {
		a.change(func(time.Duration) { a.throttle.Returned(s) })
	}
}

func (a *account) answered(s throttle.Sent) {
	if a.active.Load() {
		a.change(func(now time.Duration) { a.throttle.Answer(now, s) })
	}
}

func (a *account) unsent(s throttle.Sent) {
	a.change(func(now time.Duration) { a.throttle.Unsent(now, s) })
}

func (a *account) pause(wait time.Duration) {
	a.change(func(now time.Duration) { a.throttle.Pause(now, min(wait, a.pacer.maxWait)) })
}

// olderThan reports whether a is to be forgotten before b.
func (a *account) olderThan(b *account) bool {
	if x, y := a.active.Load(), b.active.Load(); x != y {
		return y
	}
	return a.throttle.Recent.Last() < b.throttle.Recent.Last()
}

// snapshot returns the account as it is now; false if no limit is felt.
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
