package openai

import (
	"net/http"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// A verdict is what one attempt is worth. It is made once, from the status or from an
// error inside a 2xx. The retry policy, the breaker, pacing and the mark for SDKs all
// read the same one, so that they can't contradict each other about an attempt.
type verdict struct {
	reason  retry.Reason    // why another attempt may help; NotRetryable if it would end the same
	outcome breaker.Outcome // what it says of the provider
	limited bool            // a rate limit refused it
	tokens  bool            // the limit that refused it counts tokens, not requests
	quota   bool            // the account is used up, and no wait of ours helps
}

// statusReasons are the statuses that are worth another attempt: those of
// retry.IsRetryableStatus, and some outside of RFC 9110 that proxies and providers
// made up. A status that is missing here would end the same way again.
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

// statusVerdict is what a status of 400 or above is worth by itself. Only what the
// provider is to blame for counts as a failure to the breaker. A 429 does not, although
// it is retried: the provider is well, and its rate limit is the business of pacing.
func statusVerdict(code int) verdict {
	v := verdict{reason: statusReasons[code], outcome: breaker.Ignored}
	switch {
	case code == http.StatusTooManyRequests:
		v.limited = true
	case code == http.StatusNotImplemented: // a 5xx, but the caller asked for what the provider doesn't have
	case code == http.StatusRequestTimeout, code >= http.StatusInternalServerError:
		v.outcome = breaker.Failure
	}
	return v
}

// errorVerdict is what an error status is worth together with the codes in its body.
// The codes of a used-up quota go before the status: OpenAI sends them with a 429, where
// the status alone would have the call repeated in vain.
func errorVerdict(code int, e apiError) verdict {
	if e.isQuota() || code == http.StatusPaymentRequired {
		return verdict{outcome: breaker.Ignored, quota: true}
	}
	v := statusVerdict(code)
	v.tokens = v.limited && e.kind == "tokens" // https://platform.openai.com/docs/guides/rate-limits
	return v
}

// inBandVerdict is what an error inside a 2xx is worth: as much as the status that its
// codes stand for. An error with unknown codes is retried for the reason unknown,
// because it may pass. The breaker ignores it, because it may be the caller's mistake.
func inBandVerdict(e apiError, unknown retry.Reason) verdict {
	code := e.status()
	if code == 0 && !e.isQuota() {
		return verdict{reason: unknown, outcome: breaker.Ignored}
	}
	return errorVerdict(code, e)
}

// brokenVerdict is what a 2xx is worth that is no answer, or that broke off. The
// provider or its network is to blame, since it had accepted the request.
func brokenVerdict(reason retry.Reason) verdict {
	return verdict{reason: reason, outcome: breaker.Failure}
}
