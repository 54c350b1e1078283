package retry

import (
	"context"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
)

// A Report tells what became of one call; see [WithReport]. It is filled when
// RoundTrip returns; until then, and while several calls share it, it must not
// be read. Only Resumes goes on to be counted, by whoever reads the response's
// body.
type Report struct {
	Attempts int           // requests sent; 0 if the call was refused before
	Waited   time.Duration // time spent between attempts
	Reason   Reason        // why the last retry was made; NotRetryable if there was none
	Stopped  Reason        // why a retryable failure was returned; NotRetryable if none was
	Resumes  int           // requests that package openai sent for the rest of a stream that broke off, without their retries; complete when the body is at its end
	Err      error         // the last attempt's failure, an error status included; nil if it succeeded
	Tried    []Try         // the attempts that were sent, in their order
}

// A Try is one attempt of a [Report].
type Try struct {
	Target string        // where it went, by the name of the target; "" if there is only one place
	Status int           // of the response; 0 if there was none
	Err    error         // why there was none, or what was wrong with it
	Took   time.Duration // until it had failed, or its response could be handed over
}

type reportKey struct{}

// WithReport returns a context whose call fills r. Use a Report for one call:
// calls that share one overwrite it.
func WithReport(ctx context.Context, r *Report) context.Context {
	return context.WithValue(ctx, reportKey{}, r)
}

func reportOf(ctx context.Context) *Report {
	r, _ := ctx.Value(reportKey{}).(*Report)
	return r
}

// note adds an attempt to the Report, if there is one.
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

// over reports and measures the call, which has ended. No label is looked up
// that nobody reads.
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

// labels returns what tells the series of this call from others.
func (c *trip) labels(errorType string) labels {
	return c.t.metrics.labels(c.call.Subject, c.origin.URL, errorType)
}

// targetOf returns where an attempt went, by the name of its target.
func (c *trip) targetOf(a *attempt) string {
	return call.SubjectOf(&a.ctx, c.call).Target
}
