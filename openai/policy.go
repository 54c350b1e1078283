package openai

import (
	"errors"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/retry"
)

// An advice is what the header x-should-retry says. OpenAI and Anthropic send it to
// overrule what their SDKs conclude from a status, because they know better than any
// table of statuses whether the work may be repeated.
type advice int

const (
	noAdvice advice = iota // no such header, or a value that is neither true nor false
	retryAdvised
	stopAdvised
)

// adviceOf returns the advice in the headers of a response.
func adviceOf(h http.Header) advice {
	switch roundtrip.First(h, "X-Should-Retry") {
	case "true":
		return retryAdvised
	case "false":
		return stopAdvised
	}
	return noAdvice
}

// DefaultPolicy is the Policy of a [Config] whose Retry.Policy is nil. It adds the codes,
// statuses and headers of providers to [retry.DefaultPolicy]. A quota that is used up
// goes before x-should-retry, because no repetition helps until the account is paid for.
// The header goes before the status, and before an error inside a 2xx.
//
// With [Config.Targets] it also decides where the next attempt goes. A Policy of your own
// may call it, to add a rule without losing these. It must run in a [Transport] of this
// package: under any other it knows nothing of the answer but its status and headers.
func DefaultPolicy(a *retry.Attempt) retry.Decision {
	if g := routingOf(a.Request.Context()); g != nil {
		return g.decide(a)
	}
	return plainDecision(a)
}

// plainDecision decides about a call that has one place to go.
//
// A response with an error beside it is a 2xx that Inspect has found to be no answer.
// A quota is worth a reason of its own, StopServerSaysNo, only where the call would
// have been repeated otherwise; any other error of the caller's is NotRetryable.
func plainDecision(a *retry.Attempt) retry.Decision {
	if a.Response == nil {
		if errors.Is(a.Err, ErrStalled) {
			// No headers came to an attempt that resumes a stream. The resuming body
			// asks again by a schedule of its own.
			return retry.Stop(retry.NotRetryable)
		}
		return retry.DefaultPolicy(a)
	}
	if a.Err == nil && a.Response.StatusCode < http.StatusBadRequest {
		return retry.Stop(retry.NotRetryable)
	}
	v := verdictOf(a)
	advised := adviceOf(a.Response.Header)
	reason := v.reason
	switch {
	case v.quota && (a.Response.StatusCode < http.StatusBadRequest || statusReasons[a.Response.StatusCode] != "" || advised == retryAdvised),
		reason != retry.NotRetryable && advised == stopAdvised:
		return retry.Stop(retry.StopServerSaysNo)
	case reason != retry.NotRetryable:
	case advised == retryAdvised:
		reason = retry.ReasonServerSaysYes
	default:
		return retry.Stop(retry.NotRetryable)
	}
	return decisionFor(a, v, reason)
}

// decisionFor says when the next attempt follows one with a response. A wait that the
// provider named is kept. Where an account is paced, pacing holds the next attempt back
// below the retry layer, since it knows of all calls of the account. A rate limit that
// says only when it is full again bounds the backoff: waiting longer is of no use.
func decisionFor(a *retry.Attempt, v verdict, reason retry.Reason) retry.Decision {
	now, h := time.Now(), a.Response.Header
	wait, known := waitOf(h, now)
	switch {
	case v.limited && isPaced(call.From(a.Request.Context())):
		return retry.After(wait, reason).Below()
	case known:
		return retry.After(wait, reason)
	case v.limited:
		return retry.AfterBackoff(reason).AtMost(fullIn(h, now))
	}
	return retry.AfterBackoff(reason)
}

// verdictOf returns what an attempt with a response is worth. An error status without
// an errorAnswer of its own is judged by its status alone: then the response comes from
// elsewhere, as from a user's own layer, and was not searched for codes.
func verdictOf(a *retry.Attempt) verdict {
	var broken *AnswerError
	if errors.As(a.Err, &broken) {
		return broken.verdict
	}
	code := a.Response.StatusCode
	if code < http.StatusBadRequest {
		return brokenVerdict(retry.ReasonBrokenBody) // a user's Inspect has returned an error
	}
	if c := call.From(a.Request.Context()); c != nil {
		if e, ok := c.Answer.(*errorAnswer); ok && e.response == a.Response {
			return e.verdict()
		}
	}
	return statusVerdict(code)
}
