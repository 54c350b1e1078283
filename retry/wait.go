package retry

import (
	"context"
	"time"
)

// wait gives the attempt up and waits for the next one. Its error is that of
// the context, or of Request.Cancel. The time that is recorded is the one really
// waited: a wait may be cut short by the caller, and OnRetry may take its time.
func (c *trip) wait(a *attempt, next wait) error {
	c.giveUp(a)
	c.last = next
	c.t.announce(Event{
		Context: c.ctx, Attempt: c.sent, MaxAttempts: c.maxAttempts(),
		Reason: c.reason, ErrorType: c.failed, Delay: next.Duration, DelaySource: next.source,
		Endpoint: c.call.Endpoint, Model: c.call.Model, Target: c.targetOf(a),
	})
	began := time.Now()
	if next.below {
		next.Duration = 0
	}
	err := c.sleep(next.Duration)
	waited := time.Since(began)
	c.waited += waited
	l := c.labels("")
	l.source = next.source
	c.t.metrics.waited(c.ctx, waited, l)
	return err
}

// giveUp keeps what the attempt brought, in case that the next one is never
// sent: the caller then gets the server's word and not only ours. With several targets
// more than one response is kept, see spares.
func (c *trip) giveUp(a *attempt) {
	switch {
	case c.call.Router != nil:
		c.spares.add(c.call, a)
	case a.Response != nil:
		c.kept = keep(a.Response, &a.ctx)
	default:
		a.cancel(errGivenUp)
	}
	c.open = nil
}

// sleep waits for d and then, for no longer than the time set for that, until
// the response given up is drained: its connection is free for the next
// attempt. Both waits end with the call, whichever way it is canceled: http.Client
// sets Request.Cancel and the context for its Timeout, and older callers only the
// former.
func (c *trip) sleep(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	elapsed := false
	select {
	case <-c.ctx.Done():
	case <-c.origin.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
	case <-timer.C:
		elapsed = true
	}
	if elapsed && c.kept != nil {
		select {
		case <-c.ctx.Done():
		case <-c.origin.Cancel: //nolint:staticcheck // as above
		case <-c.kept.drained:
		}
	}
	return c.interrupted()
}

// heldBack returns what ended the call while a layer below held its attempt
// back, as pacing does. That is the end of a wait, though the wait was not made here, and
// the caller gets the same error as for one that was.
func (c *trip) heldBack(a *attempt) error {
	if !a.rejected || c.call.Held == 0 {
		return nil
	}
	return c.interrupted()
}

// interrupted returns what ended the call, nil if nothing has. The context's cause goes
// before its Err, because it says more.
func (c *trip) interrupted() error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if isCanceled(c.origin) {
		return errRequestCancel
	}
	return nil
}

// hasWaited reports whether there was a wait. A call without one ends in the error of
// its base, unchanged.
func (c *trip) hasWaited() bool { return c.last.source != "" }
