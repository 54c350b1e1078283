package retry

import (
	"context"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A trip is one call on its way through its attempts. Only the goroutine of
// RoundTrip uses it, so that it needs no lock. It goes through begin, then try, plan
// and wait for each attempt, and ends in finish or abandon; release comes after all of
// them, a panic included. Its parts are values, so that the first attempt costs no
// allocation of its own.
type trip struct {
	t      *Transport
	origin *http.Request   // the caller's, from which all attempts are made
	ctx    context.Context //nolint:containedctx // of all attempts: the call, or what lies below it
	call   *call.Call
	owner  *call.Call // the call, if its Listener is this Transport's to notify; else nil
	made   call.Call  // the call, if no layer above has made one
	first  attempt
	out    outgoing
	start  time.Time

	backoffs backoffs
	sent     int           // attempts that were not rejected
	waited   time.Duration // in all
	last     wait          // the latest one
	reason   Reason        // why it was waited
	failed   string        // the error.type that it followed
	reserved float64       // budget tokens held for the attempt to come, or under way
	bucket   string        // of the budget, once it was asked for
	kept     *kept         // the response that was given up last
	spares   spares        // of a call that may go to several targets
	tried    []Try         // for the Report; empty without one
	open     *attempt      // neither given up nor returned yet
	safe     bool          // Config.Safe lets it be repeated, whatever an attempt came to
	answered bool          // the base has answered, and with it taken over a streamed body
	unread   bool          // the caller has a response whose body is still to come
}

// begin takes over the request and its body. Whether the payload is kept depends on Safe,
// and Safe may depend on the payload: the first is decided by what the layer above says
// of the endpoint then.
func (c *trip) begin(req *http.Request) error {
	c.join(req)
	if err := c.t.refuses(req); err != nil {
		return err
	}
	// Safe may ask what the payload says, so one that is read for that is first.
	wanted := c.owner != nil && c.owner.ReadsPayload
	c.safe = !wanted && c.t.cfg.Safe(req)
	if err := c.out.take(c.ctx, req, wanted || c.safe, c.t.cfg.MaxReplayBytes); err != nil {
		return err
	}
	if wanted {
		if c.out.way == buffered {
			c.owner.Listener.Payload(c.out.payload.Bytes())
		}
		c.safe = c.t.cfg.Safe(req)
	}
	if c.owner != nil {
		c.call.Safe = c.safe
	}
	c.out.limitReplays(req, c.safe)
	if c.out.tooLarge {
		c.t.logTooLarge(c.ctx, c.call.Endpoint)
	}
	return nil
}

// join finds the call that req belongs to, or makes one. A Transport that
// works alone has no layer above it that would have made the call. Of several Transports
// in one chain the outermost owns the call: it alone says when the call is over.
func (c *trip) join(req *http.Request) {
	c.ctx = req.Context()
	if c.call = call.From(c.ctx); c.call == nil {
		c.call = c.made.Init(c.ctx)
		c.ctx = c.call
	}
	if c.call.Claim() {
		c.owner, c.start = c.call, c.call.Start
	}
	if c.start.IsZero() {
		c.start = c.t.clock.Now()
	}
}

// refuses returns why a request is not even looked at. A context that is over already
// would let a base send it all the same.
func (t *Transport) refuses(req *http.Request) error {
	ctx := req.Context()
	switch {
	case t.invalid != nil:
		return t.invalid
	case req.URL == nil:
		return errNoURL
	case ctx.Err() != nil:
		return fault.Ended(ctx)
	}
	return nil
}

// try makes one attempt, and accounts for it unless a layer below rejected it.
func (c *trip) try() *attempt {
	a := c.next()
	c.open = a
	began := time.Now()
	c.send(a)
	if a.rejected = isRejected(a.Err); a.rejected {
		return a
	}
	c.sent++
	c.note(a, began)
	if c.sent > 1 { // only now is it a retry: what is rejected was not sent
		l := c.labels(c.failed)
		l.reason, l.source = c.reason.label(), c.last.source
		l.target = c.targetOf(a)
		c.t.metrics.retried(c.ctx, l)
	}
	if !a.NotSent {
		c.kept = nil // what the server says now is newer, even if it says nothing
	}
	return a
}

// next returns the attempt to come. How far its request gets is watched where the answer
// matters: most calls need one attempt, and a trace costs allocations.
func (c *trip) next() *attempt {
	a := &c.first
	if a.Number > 0 {
		a = new(attempt)
	}
	a.init(c.ctx, c.origin)
	a.Number, a.Safe = c.sent+1, c.safe
	a.ctx.Number = a.Number
	if c.sent > 0 || c.t.cfg.AttemptTimeout > 0 || !c.safe && c.t.cfg.Repeatable != nil {
		a.watch()
	}
	return a
}

// send puts the attempt on its way and looks at what came back. Inspect may hold the
// response for minutes. After the last attempt the payload is let go before that, unless
// another target may still need it.
func (c *trip) send(a *attempt) {
	if a.Err = c.out.attach(&a.request, &a.space); a.Err != nil {
		return
	}
	a.roundTrip(c.t.base, c.t.cfg.AttemptTimeout)
	c.answered = a.Response != nil
	if c.answered && a.Number >= c.maxAttempts() && (c.call.Router == nil || c.maxAttempts() == 1) {
		c.out.payload.Release() // however long Inspect holds the answer, no attempt follows
	}
	if a.Response != nil && c.t.cfg.Inspect != nil {
		a.Repeatable = c.maxAttempts() > 1 && c.mayRepeat(a)
		a.Err = c.t.cfg.Inspect(&a.Attempt)
	}
	a.NotSent = a.Response == nil && (isRejected(a.Err) || a.reach.nowhere())
}

// finish ends the call with what the last attempt brought, or with the
// response kept from the one before if the last was never sent. The server's own word,
// with its status and headers, says more to the caller than the error of a breaker. The
// attempt's context lives on in the body that is delivered.
func (c *trip) finish(a *attempt, stopped Reason) (*http.Response, error) {
	if c.call.Router != nil {
		c.spares.settle(c.call, a)
	}
	response := a.Response
	if response == nil {
		a.cancel(nil)
		if a.NotSent && (a.rejected || c.ctx.Err() == nil) {
			response = c.kept.take()
		}
	}
	if response == nil {
		err := c.failure(a)
		c.over(err, stopped)
		c.open = nil
		c.owner.End(0, err)
		return nil, err
	}
	response.Request = c.origin
	outcome := a.Err
	if a.Response == nil || outcome == nil && response.StatusCode >= http.StatusBadRequest {
		outcome = statusError(response.StatusCode)
	}
	c.over(outcome, stopped)
	c.unread = a.deliver(response, c.owner)
	c.open = nil
	return response, nil
}

// failure returns the error of a call that has no response. A call that did
// nothing that the base would not have done alone has the error of the base.
func (c *trip) failure(a *attempt) error {
	switch {
	case c.sent <= 1 && !c.hasWaited():
		return a.Err
	case !a.rejected && c.ctx.Err() != nil:
		return c.ended(a.Err, context.Cause(c.ctx))
	default:
		return &Error{Attempts: c.sent, Err: a.Err}
	}
}

// abandon ends the call because its context ended during a wait. The response that was
// given up is not returned: net/http cuts the body of a call whose context is over.
func (c *trip) abandon(a *attempt, cause error) (*http.Response, error) {
	err := c.ended(a.failure(), cause)
	c.over(err, NotRetryable)
	c.owner.End(0, err)
	return nil, err
}

// ended is the error of a call that its context has ended. It has the last failure, too,
// which is why there was a wait.
func (c *trip) ended(last, cause error) error {
	return &Error{Attempts: c.sent, Err: last, Cause: cause, ended: c.ctx.Err()}
}

// release lets go of what only the attempts needed, and after a panic of the
// base or of a function of the Config, of the attempt under way. A body that was
// not even taken over is closed.
func (c *trip) release() {
	if !c.unread {
		defer c.owner.End(0, errPanicked) // does nothing for a call that has ended already
	}
	if !c.out.taken {
		roundtrip.CloseBody(c.origin)
		return
	}
	defer c.returnReserved() // also if what is dropped panics
	defer c.out.release(c.answered)
	if c.open != nil {
		c.open.drop()
	}
}

// maxAttempts returns how many attempts the call may have.
func (c *trip) maxAttempts() int { return maxAttempts(c.ctx, c.t.cfg.MaxAttempts) }
