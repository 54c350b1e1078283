package openai

import (
	"errors"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/retry"
)

// maxErrorWait bounds the wait for an error's body: it is read for its code
// only, which most errors don't need.
const maxErrorWait = 250 * time.Millisecond

// statusReasons are the statuses that another attempt may mend: those of
// retry.IsRetryableStatus, and some that proxies made up.
var statusReasons = map[int]retry.Reason{
	http.StatusRequestTimeout:      retry.ReasonTimeout,
	http.StatusTooManyRequests:     retry.ReasonRateLimited,
	http.StatusInternalServerError: retry.ReasonServerError,
	http.StatusBadGateway:          retry.ReasonServerError,
	http.StatusServiceUnavailable:  retry.ReasonOverloaded,
	http.StatusGatewayTimeout:      retry.ReasonTimeout,
	521:                            retry.ReasonConnection, // Cloudflare: the origin refused the connection
	522:                            retry.ReasonConnection, // Cloudflare: connecting to it took too long
	523:                            retry.ReasonConnection, // Cloudflare: it is unreachable
	529:                            retry.ReasonOverloaded, // Anthropic: overloaded
}

func statusReason(code int) (retry.Reason, bool) {
	reason, ok := statusReasons[code]
	return reason, ok
}

// An advice is what x-should-retry says, with which OpenAI and Anthropic
// overrule what their SDKs make of a status.
type advice int

const (
	noAdvice advice = iota
	retryAdvised
	stopAdvised
)

func adviceOf(h http.Header) advice {
	switch roundtrip.First(h, "X-Should-Retry") {
	case "true":
		return retryAdvised
	case "false":
		return stopAdvised
	}
	return noAdvice
}

// policy is the Policy of the chain. A quota that is used up goes before
// x-should-retry, and that before the status.
func policy(a *retry.Attempt) retry.Decision {
	if a.Response == nil {
		return retry.DefaultPolicy(a)
	}
	if a.Err == nil && a.Response.StatusCode < http.StatusBadRequest {
		return retry.Stop(retry.NotRetryable)
	}
	reason, retryable, api := judge(a)
	advised := adviceOf(a.Response.Header)
	switch {
	case api.isQuota() && (retryable || advised == retryAdvised),
		retryable && advised == stopAdvised:
		return retry.Stop(retry.StopServerSaysNo)
	case retryable:
	case advised == retryAdvised:
		reason = retry.ReasonServerSaysYes
	default:
		return retry.Stop(retry.NotRetryable)
	}
	if wait, ok := waitOf(a.Response.Header, reason == retry.ReasonRateLimited, time.Now()); ok {
		next := retry.After(wait, reason)
		if reason == retry.ReasonRateLimited {
			// Who was told the same short wait as many others comes back over as
			// long again, as those do whom the breaker's pause holds back.
			next = next.Spread(min(wait, time.Second))
		}
		return next
	}
	return retry.AfterBackoff(reason)
}

// judge returns what the response is worth by itself, without x-should-retry.
// An error with a quota's code is as retryable as it would be without it.
func judge(a *retry.Attempt) (reason retry.Reason, retryable bool, api *apiError) {
	reason, retryable = statusReason(a.Response.StatusCode)
	api = peekedError(a.Response)
	if a.Err == nil || retryable {
		return reason, retryable, api
	}
	reason = retry.ReasonBrokenBody
	var broken *answerError
	if errors.As(a.Err, &broken) {
		reason, api = broken.reason, broken.api
	}
	if known, ok := api.reason(); ok && !api.isQuota() {
		reason = known
	}
	return reason, reason != retry.NotRetryable, api
}

// A peekedBody is the body of an error, whose beginning was read for its code.
type peekedBody struct {
	*prefetch.Body

	found *apiError
}

// peekError looks into the body of an error whose status alone does not
// decide, once: the body is put back and can be read from its first byte. It
// returns nil if there is no error in it.
func peekError(response *http.Response, attempt prefetch.Canceler) *apiError {
	if peeked, ok := response.Body.(*peekedBody); ok {
		return peeked.found
	}
	if !worthPeeking(response) {
		return nil
	}
	peeked := &peekedBody{Body: prefetch.New(response.Body, attempt)}
	response.Body = peeked
	value := jsonCheck{factless: true}
	_ = peeked.Fill(maxErrorBytes, response.ContentLength, maxErrorWait, value.endsIn) // who reads the body is told
	if found := parseAPIError(peeked.Prefetched()); found != nil {
		found.status = response.StatusCode
		peeked.found = found
	}
	return peeked.found
}

// peekedError returns what peekError has found.
func peekedError(response *http.Response) *apiError {
	if peeked, ok := response.Body.(*peekedBody); ok {
		return peeked.found
	}
	return nil
}

// worthPeeking reports whether a code in the body could change anything: only
// where another attempt would follow otherwise.
func worthPeeking(response *http.Response) bool {
	_, retryable := statusReason(response.StatusCode)
	return (retryable || response.StatusCode >= http.StatusBadRequest && adviceOf(response.Header) == retryAdvised) &&
		response.Body != nil && response.Body != http.NoBody &&
		!roundtrip.IsCompressed(response.Header)
}

// errorOutcome is what a response with an error status says to the breaker. A
// used-up quota says nothing of the provider, and no pause ends it.
func errorOutcome(response *http.Response, api *apiError) (breaker.Outcome, breaker.Hint) {
	code := response.StatusCode
	switch {
	case api.isQuota():
		return breaker.Ignored, breaker.Hint{}
	case code == http.StatusTooManyRequests:
		return breaker.Ignored, hintOf(response, api)
	case code == http.StatusRequestTimeout, code >= http.StatusInternalServerError:
		return breaker.Failure, hintOf(response, api)
	default:
		return breaker.Ignored, breaker.Hint{}
	}
}

// hintOf is what an error asks of the requests to come.
func hintOf(response *http.Response, api *apiError) breaker.Hint {
	if api.isQuota() {
		return breaker.Hint{}
	}
	limited := response.StatusCode == http.StatusTooManyRequests
	wait, known := waitOf(response.Header, limited, time.Now())
	return breaker.Hint{RateLimited: limited, Known: known, RetryAfter: wait}
}
