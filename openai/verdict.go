package openai

import (
	"net/http"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// A verdict is what one attempt is worth. It is made once, from the status or
// from an error inside a 2xx, and read by the retry policy, the breaker, the
// rate limits and the mark for SDKs alike.
type verdict struct {
	reason  retry.Reason    // why another attempt may help; NotRetryable if it would end the same
	outcome breaker.Outcome // what it says of the provider
	limited bool            // a rate limit refused it
	tokens  bool            // that was one of tokens
	quota   bool            // an account is used up: nothing but its owner helps
}

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

// statusVerdict is what a status of 400 or above is worth.
func statusVerdict(code int) verdict {
	v := verdict{reason: statusReasons[code], outcome: breaker.Ignored}
	switch {
	case code == http.StatusTooManyRequests:
		v.limited = true
	case code == http.StatusNotImplemented: // the caller asked for what is not there
	case code == http.StatusRequestTimeout, code >= http.StatusInternalServerError:
		v.outcome = breaker.Failure
	}
	return v
}

// errorVerdict is what an error status is worth, with the codes in its body.
func errorVerdict(code int, e apiError) verdict {
	if e.isQuota() || code == http.StatusPaymentRequired {
		return verdict{outcome: breaker.Ignored, quota: true}
	}
	v := statusVerdict(code)
	v.tokens = v.limited && e.kind == "tokens" // https://platform.openai.com/docs/guides/rate-limits
	return v
}

// inBandVerdict is what an error inside a 2xx is worth: as much as the status
// that its codes stand for. One of unknown worth is retried, and says nothing
// of the provider.
func inBandVerdict(e apiError, unknown retry.Reason) verdict {
	code := e.status()
	if code == 0 && !e.isQuota() {
		return verdict{reason: unknown, outcome: breaker.Ignored}
	}
	return errorVerdict(code, e)
}

// brokenVerdict is what an answer is worth that is none, or that broke off.
func brokenVerdict(reason retry.Reason) verdict {
	return verdict{reason: reason, outcome: breaker.Failure}
}
