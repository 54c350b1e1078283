package retry

import (
	"context"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A trip is one call on its way through its attempts.
type trip struct {
	t      *Transport
	origin *http.Request   // the caller's, from which all attempts are made
	ctx    context.Context //nolint:containedctx // of all attempts: the call, or what lies below it
	call   *call.Call
	owner  *call.Call // the call, if its Listener is this Transport's to tell; else nil
	made   call.Call  // the call, if nobody else has made one
	first  attempt
	out    outgoing
	start  time.Time

	backoffs backoffs
	sent     int           // attempts that were not rejected
	waited   time.Duration // in all
	last     wait          // the latest one
	reason   Reason        // why it was waited
	failed   string        // the error.type that it followed
	reserved float64       // budget tokens held for the attempt to come
	bucket   string        // of the budget, once it was asked for
	kept     *kept         // the response that was given up last
	spares   spares        // of a call that may go to several targets
	tried    []Try         // if somebody reads them
	open     *attempt      // neither given up nor returned yet
	safe     bool          // to be repeated, whatever became of it
	answered bool          // the base has answered, and with it taken over a streamed body
	goesOn   bool          // the caller has a response whose body is still to come
}

// begin takes over the request and its body.
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

// join finds the call that req belongs to, or makes one.
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

// refuses returns why a request is not even looked at.
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

// try makes one attempt, and accounts for it unless a breaker rejected it.
func (c *trip) try() *attempt {
	a := c.next()
	c.open = a
	began := time.Now()
	c.send(a)
	if a.rejection = rejectionOf(a.Err); a.rejection != nil {
		return a
	}
	c.sent++
	c.note(a, began)
	if c.sent > 1 {
		l := c.labels(c.failed)
		l.reason, l.source = c.reason.label(), c.last.source
		l.target = c.targetOf(a)
		c.t.metrics.retried(c.ctx, l)
	}
	if !a.NotSent {
		c.kept = nil
	}
	return a
}

// next returns the attempt to come.
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

// send puts the attempt on its way and looks at what came back.
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
	a.NotSent = a.Response == nil && (rejectionOf(a.Err) != nil || a.reach.nowhere())
}

// plan decides what follows an attempt: a wait, or none and the reason for it.
func (c *trip) plan(a *attempt) (wait, Reason) {
	c.settleBudget(a)
	if a.rejection != nil {
		return c.planPause(a)
	}
	d := c.t.cfg.Policy(&a.Attempt)
	if d.action == stop {
		return wait{}, d.reason
	}
	c.reason, c.failed = d.reason, a.errorType()
	to := c.detour()
	switch {
	case !c.mayRepeat(a):
		return wait{}, StopNotReplayable
	case c.sent >= c.maxAttempts() && (!to.Fresh || c.maxAttempts() <= 1):
		return wait{}, StopAttempts
	}
	next, asked := wait{spread(d.after, call.Random(c.ctx)), fromHint, false}, d.after
	switch {
	case d.below:
		next = wait{d.after, fromHint, true}
	case d.action == afterBackoff:
		backoff, ok := c.backoffs.wait(c.t.cfg.Backoff)
		if !ok {
			return wait{}, StopPolicy
		}
		if d.most > 0 {
			backoff = min(backoff, d.most)
		}
		next, asked = wait{backoff, fromBackoff, false}, 0
	}
	now := time.Now()
	if stopped := c.limitsOf(to).allow(next, asked, now); stopped != NotRetryable {
		return wait{}, stopped
	}
	if to.RefusedFor > next.Duration {
		return wait{}, StopRejected
	}
	cost := float64(retryCost)
	if next.source == fromHint && a.Response != nil && a.Response.StatusCode == http.StatusTooManyRequests {
		cost = hintedCost
	}
	if to.Free {
		cost = 0
	}
	if !c.reserve(to, cost, now) {
		return wait{}, StopBudget
	}
	return next, NotRetryable
}

// reserve takes the cost of the attempt to come from the bucket that pays for it.
func (c *trip) reserve(to call.Detour, cost float64, now time.Time) bool {
	if c.call.Router != nil {
		c.bucket = c.bucketOf(&to.Subject)
	}
	if cost > 0 && !c.t.cfg.Budget.reserve(c.budgetKey(), cost, now) {
		return false
	}
	c.reserved = cost
	return true
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

// mayRepeat reports whether the request may be sent again, and can be.
func (c *trip) mayRepeat(a *attempt) bool {
	if c.safe {
		return c.out.replayable()
	}
	repeatable := c.t.cfg.Repeatable
	// Once connected, net/http may begin to read a streamed body at any time.
	return repeatable != nil && (c.out.replayable() || a.NotSent && c.out.sendable()) && repeatable(&a.Attempt)
}

// planPause decides what follows a rejection: nothing was sent, so that a
// pause may be waited out by every call, safe or not.
func (c *trip) planPause(a *attempt) (wait, Reason) {
	pause, ok := a.rejection.Paused()
	if !ok {
		return wait{}, c.afterFailure(StopRejected)
	}
	if !c.out.sendable() {
		return wait{}, c.afterFailure(StopNotReplayable)
	}
	next := wait{pause, fromPause, false}
	if stopped := c.limits().allow(next, pause, time.Now()); stopped != NotRetryable {
		return wait{}, c.afterFailure(stopped)
	}
	if c.sent == 0 {
		c.reason, c.failed = ReasonRateLimited, fault.Type(a.Err)
	}
	return next, NotRetryable
}

// afterFailure is reason if a failure went before: a call that was refused
// from the start had nothing to be retried.
func (c *trip) afterFailure(reason Reason) Reason {
	if c.sent == 0 {
		return NotRetryable
	}
	return reason
}

// settleBudget returns the tokens of a retry that succeeded, and pays in for a
// first attempt that succeeded. A rejected retry keeps them: it may still be
// sent, after a pause.
func (c *trip) settleBudget(a *attempt) {
	switch {
	case a.rejection != nil:
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

func (c *trip) pay(tokens float64) {
	if tokens > 0 && !c.t.cfg.Budget.idle() {
		c.t.cfg.Budget.pay(c.budgetKey(), tokens, time.Now())
	}
}

// wait gives the attempt up and waits for the next one. Its error is that of
// the context, or of Request.Cancel.
func (c *trip) wait(a *attempt, next wait) error {
	switch {
	case c.call.Router != nil:
		c.spares.add(c.call, a)
	case a.Response != nil:
		c.kept = keep(a.Response, &a.ctx)
	default:
		a.cancel(errGivenUp)
	}
	c.open, c.last = nil, next
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

// targetOf returns where an attempt went, by the name of its target.
func (c *trip) targetOf(a *attempt) string {
	return call.SubjectOf(&a.ctx, c.call).Target
}

// sleep waits for d and then, for no longer than the time set for that, until
// the response given up is drained: its connection is free for the next
// attempt.
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

// leftBelow returns what ended the call while a layer below held its attempt back.
func (c *trip) leftBelow(a *attempt) error {
	if a.rejection == nil || c.call.Held == 0 {
		return nil
	}
	return c.interrupted()
}

// interrupted returns what ended the call, nil if nothing has.
func (c *trip) interrupted() error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if isCanceled(c.origin) {
		return errRequestCancel
	}
	return nil
}

// finish ends the call with what the last attempt brought, or with the
// response kept from the one before if the last was never sent.
func (c *trip) finish(a *attempt, stopped Reason) (*http.Response, error) {
	if c.call.Router != nil {
		c.spares.settle(c.call, a)
	}
	response := a.Response
	if response == nil {
		a.cancel(nil)
		if a.NotSent && (a.rejection != nil || c.ctx.Err() == nil) {
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
	c.goesOn = a.deliver(response, c.owner)
	c.open = nil
	return response, nil
}

// failure returns the error of a call that has no response. A call that did
// nothing that the base would not have done alone has the error of the base.
func (c *trip) failure(a *attempt) error {
	switch {
	case c.sent <= 1 && !c.hasWaited():
		return a.Err
	case a.rejection == nil && c.ctx.Err() != nil:
		return c.ended(a.Err, context.Cause(c.ctx))
	default:
		return &Error{Attempts: c.sent, Err: a.Err}
	}
}

func (c *trip) hasWaited() bool { return c.last.source != "" }

// abandon ends the call because its context ended during a wait.
func (c *trip) abandon(a *attempt, cause error) (*http.Response, error) {
	err := c.ended(a.failure(), cause)
	c.over(err, NotRetryable)
	c.owner.End(0, err)
	return nil, err
}

func (c *trip) ended(last, cause error) error {
	return &Error{Attempts: c.sent, Err: last, Cause: cause, ended: c.ctx.Err()}
}

// over ends the books of the call. No label is looked up that nobody reads.
func (c *trip) over(failure error, stopped Reason) {
	if c.call.Resuming {
		c.resumed()
		return
	}
	c.call.GaveUp = c.sent > 1 || c.retries() && isGivingUp(stopped)
	if stopped != NotRetryable || c.sent > 0 && c.t.metrics.attempts.Enabled(c.ctx) {
		c.record(failure, stopped)
	}
	if r := reportOf(c.ctx); r != nil {
		*r = Report{Attempts: c.sent, Waited: c.waited + c.call.Held, Reason: c.reason, Stopped: stopped, Err: failure, Tried: c.tried}
		if c.sent <= 1 && !c.hasWaited() {
			r.Reason = NotRetryable
		}
	}
}

// resumed counts a request that asked for the rest of an answer. What became of
// it is for whoever reads the answer to say.
func (c *trip) resumed() {
	if r := reportOf(c.ctx); r != nil && c.sent > 0 {
		r.Resumes++
	}
}

// retries reports whether the call is one of those that are sent again at all.
func (c *trip) retries() bool {
	return c.maxAttempts() > 1 && (c.safe || c.t.cfg.Repeatable != nil)
}

// isGivingUp reports whether a reason to stop holds for whoever else repeats the
// call now: in vain, or to the harm of others.
func isGivingUp(stopped Reason) bool {
	switch stopped {
	case StopBudget, StopDeadline, StopHintTooLong, StopRejected, StopServerSaysNo:
		return true
	}
	return false
}

// record measures and logs how the call ended.
func (c *trip) record(failure error, stopped Reason) {
	errorType := fault.Type(failure)
	if c.sent > 0 {
		c.t.metrics.over(c.ctx, c.sent, c.call.Subject, c.origin.URL, errorType)
	}
	if stopped != NotRetryable {
		l := c.labels(errorType)
		l.stopReason = stopped.label()
		c.t.metrics.exhausted(c.ctx, l)
		c.t.logExhaustion(c.ctx, c.sent, l)
	}
}

// release lets go of what only the attempts needed, and after a panic of the
// base or of a function of the Config, of the attempt under way. A body that was
// not even taken over is closed.
func (c *trip) release() {
	if !c.goesOn {
		defer c.owner.End(0, errPanicked) // of a call that has ended already nobody is told
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

func (c *trip) maxAttempts() int { return maxAttempts(c.ctx, c.t.cfg.MaxAttempts) }

func (c *trip) limits() limits { return newLimits(c.ctx, c.start, &c.t.cfg) }

// limitsOf are those of an attempt that goes to a target: one that the call has
// not met is asked as long as somebody waits for the answer.
func (c *trip) limitsOf(to call.Detour) limits {
	if !to.Fresh {
		return c.limits()
	}
	cfg := c.t.cfg
	cfg.MaxElapsed = -1
	return newLimits(c.ctx, c.start, &cfg)
}

// labels returns what tells the series of this call from others.
func (c *trip) labels(errorType string) labels {
	return c.t.metrics.labels(c.call.Subject, c.origin.URL, errorType)
}

// budgetKey asks about a request that no base has had in its hands.
func (c *trip) budgetKey() string {
	if c.bucket == "" {
		c.bucket = c.bucketIn(c.ctx)
	}
	return c.bucket
}

// bucketOf returns the bucket of attempts with a subject of their own.
func (c *trip) bucketOf(s *call.Subject) string {
	attempt := new(call.Attempt)
	attempt.Init(c.ctx)
	attempt.Subject = *s
	return c.bucketIn(attempt)
}

func (c *trip) bucketIn(ctx context.Context) string {
	key := c.t.cfg.BudgetKey(c.origin.WithContext(ctx))
	return key[:min(len(key), maxBudgetKey)]
}

// note adds an attempt to what the Report will tell.
func (c *trip) note(a *attempt, began time.Time) {
	if reportOf(c.ctx) == nil {
		return
	}
	t := Try{Target: c.targetOf(a), Err: a.Err, Took: time.Since(began)}
	if a.Response != nil {
		t.Status = a.Response.StatusCode
	}
	c.tried = append(c.tried, t)
}
