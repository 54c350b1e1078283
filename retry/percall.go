package retry

import (
	"context"
	"time"
)

type maxAttemptsKey struct{}

// WithMaxAttempts overrides Config.MaxAttempts for the calls made with the
// returned context: n requests at most, so 1 turns retries off. An n below 1
// changes nothing.
func WithMaxAttempts(ctx context.Context, n int) context.Context {
	if n < 1 {
		return ctx
	}
	return context.WithValue(ctx, maxAttemptsKey{}, n)
}

func maxAttempts(ctx context.Context, configured int) int {
	if n, ok := ctx.Value(maxAttemptsKey{}).(int); ok {
		return n
	}
	return configured
}

// A Report tells what became of one call. It is filled when RoundTrip
// returns; until then, and while several calls share it, it must not be read.
// Resumes alone is counted on, by whoever reads the response's body.
type Report struct {
	Attempts int           // requests sent; 0 if the call was refused before
	Waited   time.Duration // time spent between attempts
	Reason   Reason        // why the last retry was made; NotRetryable if there was none
	Stopped  Reason        // why a retryable failure was returned; NotRetryable if none was
	Resumes  int           // requests that package openai sent for the rest of a stream that broke off, without their retries; complete when the body is at its end
	Err      error         // the last attempt's failure, an error status included; nil if it succeeded
	Tried    []Try         // the attempts that were sent, in their order
}

// A Try is one attempt of a Report.
type Try struct {
	Target string        // where it went, by the name of the target; "" if there is only one place
	Status int           // of the response; 0 if there was none
	Err    error         // why there was none, or what was wrong with it
	Took   time.Duration // until it had failed, or its response could be handed over
}

type reportKey struct{}

// WithReport returns a context whose call fills r. Use a Report for one call.
func WithReport(ctx context.Context, r *Report) context.Context {
	return context.WithValue(ctx, reportKey{}, r)
}

func reportOf(ctx context.Context) *Report {
	r, _ := ctx.Value(reportKey{}).(*Report)
	return r
}
