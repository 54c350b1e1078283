package retry

import (
	"context"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// This file is what a call does with its bucket of the Budget: it reserves the
// cost of a retry before the wait, so that a thousand calls that wait together
// can't spend the same tokens, and pays back what was not used up by a failure.

// reserve takes the cost of the attempt to come from the bucket that pays for it. It
// reports false if there is not enough in it. With targets that is the bucket of the
// place that the attempt goes to, so that an outage there uses up no other's tokens.
// What was reserved for an attempt that was refused goes back first.
func (c *trip) reserve(to call.Detour, cost float64, now time.Time) bool {
	c.returnReserved()
	if c.call.Router != nil {
		c.bucket = c.bucketOf(&to.Subject)
	}
	if cost > 0 && !c.t.cfg.Budget.reserve(c.budgetKey(), cost, now) {
		return false
	}
	c.reserved = cost
	return true
}

// settleBudget returns the tokens of a retry that succeeded, and pays in for a
// first attempt that succeeded. A retry that was rejected was never sent: its
// tokens are returned when the call ends. A retry that failed keeps them: failures of
// retries are what the budget is there to limit.
func (c *trip) settleBudget(a *attempt) {
	switch {
	case a.rejected:
	case a.Err != nil || a.Response.StatusCode >= http.StatusBadRequest:
		c.reserved = 0
	case c.sent == 1:
		if c.call.Router != nil && !c.t.cfg.Budget.idle() {
			c.bucket = c.bucketOf(&a.ctx.Subject)
		}
		c.pay(successGain)
	case c.reserved == 0: // the first at this target
		c.pay(successGain)
	default:
		c.returnReserved()
	}
}

// returnReserved returns the tokens of a retry that succeeded or was never sent.
func (c *trip) returnReserved() {
	gain := c.reserved
	c.reserved = 0
	c.pay(gain)
}

// pay pays tokens into the call's bucket. A Budget of which nothing is missing has no
// need of them, and the key need not be asked for.
func (c *trip) pay(tokens float64) {
	if tokens > 0 && !c.t.cfg.Budget.idle() {
		c.t.cfg.Budget.pay(c.budgetKey(), tokens, time.Now())
	}
}

// budgetKey returns the name of the call's bucket. BudgetKey is asked about the
// caller's request, which no base can have changed, and only once.
func (c *trip) budgetKey() string {
	if c.bucket == "" {
		c.bucket = c.bucketIn(c.ctx)
	}
	return c.bucket
}

// bucketOf returns the bucket of attempts with a subject of their own: a target
// that is down must not starve the others.
func (c *trip) bucketOf(s *call.Subject) string {
	attempt := new(call.Attempt)
	attempt.Init(c.ctx)
	attempt.Subject = *s
	return c.bucketIn(attempt)
}

// bucketIn asks BudgetKey in a context, which package openai reads the target from. What
// exceeds the bound is cut off, so that no key can fill the memory.
func (c *trip) bucketIn(ctx context.Context) string {
	key := c.t.cfg.BudgetKey(c.origin.WithContext(ctx))
	return key[:min(len(key), maxBudgetKey)]
}
