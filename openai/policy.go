package openai

import (
	"errors"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/retry"
)

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

// DefaultPolicy is what a nil Config.Retry.Policy stands for: retry.DefaultPolicy
// with the codes, statuses and headers of providers. A quota that is used up
// goes before x-should-retry, and that before the status or the error that a
// 2xx holds. With Config.Targets it also decides where the next attempt goes. A Policy of one's own may call it, within a Transport of this
// package.
func DefaultPolicy(a *retry.Attempt) retry.Decision {
	if g := routingOf(a.Request.Context()); g != nil {
		return g.decide(a)
	}
	return plainDecision(a)
}

// plainDecision is that about a call that has one place to go.
func plainDecision(a *retry.Attempt) retry.Decision {
	if a.Response == nil {
		if errors.Is(a.Err, ErrStalled) {
			return retry.Stop(retry.NotRetryable) // silence, of an attempt that was to resume a stream
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

// decisionFor says when the next attempt follows one with a response.
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

// verdictOf returns what an attempt with a response is worth.
func verdictOf(a *retry.Attempt) verdict {
	var broken *AnswerError
	if errors.As(a.Err, &broken) {
		return broken.verdict
	}
	code := a.Response.StatusCode
	if code < http.StatusBadRequest {
		return brokenVerdict(retry.ReasonBrokenBody) // a user's Inspect has said so
	}
	if c := call.From(a.Request.Context()); c != nil {
		if e, ok := c.Answer.(*errorAnswer); ok && e.response == a.Response {
			return e.verdict()
		}
	}
	return statusVerdict(code)
}
