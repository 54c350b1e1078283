package retry

import (
	"context"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
)

// A Report says what became of one call; see [WithReport]. RoundTrip fills it just
// before it returns. Until then it must not be read, and neither may calls that run at
// the same time share it. Only Resumes is counted later, while the response's body is
// read.
type Report struct {
	Attempts int           // requests sent; 0 if the call was refused before
	Waited   time.Duration // time spent between attempts
	Reason   Reason        // why the last retry was made; NotRetryable if there was none
	Stopped  Reason        // why a retryable failure was returned; NotRetryable if none was

	// Resumes is the number of requests that package openai has sent for the rest of a
	// stream that broke off, without their retries. It is complete when the body is at
	// its end. It is 0 for all other calls.
	Resumes int

	Err   error // the last attempt's failure, an error status included; nil if it succeeded
	Tried []Try // the attempts that were sent, in their order
}

// A Try is one attempt of a [Report].
type Try struct {
	Target string        // where it went, by the name of the target; "" if there is only one place
	Status int           // of the response; 0 if there was none
	Err    error         // why there was none, or what was wrong with it; nil if it was good
	Took   time.Duration // until it had failed, or its response could be handed over
}

type reportKey struct{}

// WithReport returns a context whose call fills r. Use a new Report for each call:
// calls that share one overwrite it, and race if they run at the same time.
func WithReport(ctx context.Context, r *Report) context.Context {
	return context.WithValue(ctx, reportKey{}, r)
}

// reportOf returns the Report that a call fills, or nil.
func reportOf(ctx context.Context) *Report {
	r, _ := ctx.Value(reportKey{}).(*Report)
	return r
}

// note adds an attempt to the Report, if there is one. Without one nothing is kept of an
// attempt, so that its response can be let go.
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

// over reports and measures the call, which has ended. A request that resumes a stream
// is not a call of its own, and is only counted. Labels are looked up only for metrics
// that have a reader. GaveUp is for package openai, which marks the answer of a call
// that an SDK above would repeat in vain.
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
// it is for the layer that resumes to say: it has the answer's body.
func (c *trip) resumed() {
	if r := reportOf(c.ctx); r != nil && c.sent > 0 {
		r.Resumes++
	}
}

// retries reports whether the call is one of those that are sent again at all. What
// becomes of any other is not this layer's to judge.
func (c *trip) retries() bool {
	return c.maxAttempts() > 1 && (c.safe || c.t.cfg.Repeatable != nil)
}

// isGivingUp reports whether a reason to stop holds for every other layer that would
// repeat the call now: in vain, or to the harm of others. The other reasons are limits
// of this layer alone, such as a payload that it does not keep.
func isGivingUp(stopped Reason) bool {
	switch stopped {
	case StopBudget, StopDeadline, StopHintTooLong, StopRejected, StopServerSaysNo:
		return true
	}
	return false
}

// record measures and logs how the call ended. A call that was refused before anything
// was sent has no attempts, and counting it as one of 0 would lower their average.
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

// labels returns the labels by which the series of this call differ from others.
func (c *trip) labels(errorType string) labels {
	return c.t.metrics.labels(c.call.Subject, c.origin.URL, errorType)
}

// targetOf returns where an attempt went, by the name of its target.
func (c *trip) targetOf(a *attempt) string {
	return call.SubjectOf(&a.ctx, c.call).Target
}
