package retry

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// plan decides what follows an attempt: a wait, or none and the reason for it.
// The cheap and certain checks come first. The budget comes last, because what
// it gives away for an attempt that is not made would be missing elsewhere.
func (c *trip) plan(a *attempt) (wait, Reason) {
	c.settleBudget(a)
	if a.rejected {
		return c.planRefused(a)
	}
	d := c.t.cfg.Policy(&a.Attempt)
	if d.action == stop {
		return wait{}, d.reason
	}
	c.reason, c.failed = d.reason, a.errorType()
	if !c.mayRepeat(a) {
		return wait{}, StopNotReplayable
	}
	next, stopped := c.planFor(a, d, c.detour())
	if stopped == NotRetryable || c.maxAttempts() <= 1 {
		return next, stopped
	}
	return c.planElsewhere(a, stopped)
}

// planElsewhere plans an attempt at another target than the one that stopped is
// about: what keeps the call from one of them need not keep it from the others. Only
// one that has failed the call before is worth a backoff.
func (c *trip) planElsewhere(a *attempt, stopped Reason) (wait, Reason) {
	for c.call.Router != nil {
		to, ok := c.call.Router.Onward()
		if !ok {
			break
		}
		d := AfterBackoff(c.reason)
		if to.Fresh {
			d = After(0, c.reason)
		}
		if next, stopped := c.planFor(a, d, to); stopped == NotRetryable {
			return next, stopped
		}
	}
	return wait{}, stopped
}

// planRefused plans what follows an attempt that the layers below have refused. To wait
// for an open breaker is of no use, but a target that was not asked, or that has failed
// the call before, may still have it. A call that was refused from the start had
// nothing to be retried.
func (c *trip) planRefused(a *attempt) (wait, Reason) {
	stopped := StopRejected
	if c.sent == 0 {
		stopped, c.reason, c.failed = NotRetryable, ReasonTimeout, a.errorType()
	}
	if !c.mayRepeat(a) {
		return wait{}, stopped
	}
	return c.planElsewhere(a, stopped)
}

// planFor plans an attempt at the target of a detour.
func (c *trip) planFor(a *attempt, d Decision, to call.Detour) (wait, Reason) {
	if c.sent >= c.maxAttempts() && (!to.Fresh || c.maxAttempts() <= 1) {
		return wait{}, StopAttempts
	}
	next, ok := c.waitFor(d)
	if !ok {
		return wait{}, StopPolicy
	}
	now := time.Now()
	if stopped := c.limits(to).allow(next, now); stopped != NotRetryable {
		return wait{}, stopped
	}
	if to.RefusedFor > next.Duration {
		return wait{}, StopRejected
	}
	if !c.reserve(to, cost(to, next, a.Response), now) {
		return wait{}, StopBudget
	}
	return next, NotRetryable
}

// waitFor returns the wait that a decision asks for; false if the Backoff wants
// no further attempt. A random number is drawn for every decision, used or not:
// the simulations, which repeat themselves bit for bit, count on that.
func (c *trip) waitFor(d Decision) (wait, bool) {
	next := wait{Duration: spread(d.after, call.Random(c.ctx)), source: fromHint, asked: d.after}
	switch {
	case d.below:
		next.Duration, next.below = d.after, true
		return next, true
	case d.action == afterHint:
		return next, true
	}
	backoff, ok := c.backoffs.wait(c.t.cfg.Backoff)
	if d.most > 0 {
		backoff = min(backoff, d.most)
	}
	return wait{Duration: backoff, source: fromBackoff}, ok
}

// detour returns where the next attempt goes: where the latest went, if there is
// nowhere else. The failure may have opened the breaker there.
func (c *trip) detour() call.Detour {
	switch {
	case c.call.Router != nil:
		return c.call.Router.Detour()
	case c.call.Gate != nil:
		return call.Detour{RefusedFor: c.call.Gate.RefusesFor()}
	}
	return call.Detour{}
}

// mayRepeat reports whether the request may be sent again, and can be. A call
// that is not Safe may be if this attempt proves that nothing came of it.
func (c *trip) mayRepeat(a *attempt) bool {
	if c.safe {
		return c.out.replayable()
	}
	repeatable := c.t.cfg.Repeatable
	// Once connected, net/http may begin to read a streamed body at any time.
	return repeatable != nil && (c.out.replayable() || a.NotSent && c.out.sendable()) && repeatable(&a.Attempt)
}

// limits are those of an attempt that goes to a target. One that the call has
// not tried yet is asked as long as somebody waits for the answer: the time
// that another target has used up says nothing of it.
func (c *trip) limits(to call.Detour) limits {
	cfg := c.t.cfg
	if to.Fresh {
		cfg.MaxElapsed = -1
	}
	return newLimits(c.ctx, c.start, &cfg)
}

// cost is what the attempt to come costs of the budget. A 429 with a hint says
// that the server is well and knows when it will answer: such a retry is no
// sign of an outage, and is nearly free. So is one that a layer below holds back
// for a limit, since the load can't multiply there.
func cost(to call.Detour, next wait, response *http.Response) float64 {
	switch {
	case to.Free:
		return 0
	case next.below, next.source == fromHint && response != nil && response.StatusCode == http.StatusTooManyRequests:
		return hintedCost
	default:
		return retryCost
	}
}
