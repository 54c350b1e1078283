package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
)

const failsafeModule = "github.com/failsafe-go/failsafe-go"

// failsafeTransport is failsafehttp's own RoundTripper, a breaker inside a
// retry policy. Its builder for HTTP is asked for 408 too, for the last
// response instead of an error, and not to repeat the breaker's refusals.
func failsafeTransport(base http.RoundTripper, s settings) http.RoundTripper {
	retries := failsafehttp.NewRetryPolicyBuilder().
		HandleIf(func(resp *http.Response, _ error) bool {
			return resp != nil && resp.StatusCode == http.StatusRequestTimeout
		}).
		AbortOnErrors(circuitbreaker.ErrOpen, context.DeadlineExceeded).
		WithMaxAttempts(attempts).
		WithBackoff(s.firstWait(), s.longestWait()).
		WithJitterFactor(0.25).
		ReturnLastFailure().
		Build()
	return failsafehttp.NewRoundTripper(base, retries, newFailsafeBreaker())
}

func newFailsafeBreaker() circuitbreaker.CircuitBreaker[*http.Response] {
	return circuitbreaker.NewBuilder[*http.Response]().
		HandleIf(isFailure).
		WithFailureThreshold(threshold).
		WithSuccessThreshold(2).
		WithDelay(openFor).
		Build()
}

// isFailure is what a breaker counts. The caller's own cancelling is none.
func isFailure(resp *http.Response, err error) bool {
	if err != nil {
		return !errors.Is(err, context.Canceled)
	}
	return resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode >= http.StatusInternalServerError
}
