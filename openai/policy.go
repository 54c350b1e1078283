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
// 2xx holds. A Policy of one's own may call it, within a Transport of this
// package.
func DefaultPolicy(a *retry.Attempt) retry.Decision {
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
	if wait, ok := waitOf(a.Response.Header, v.limited, time.Now()); ok {
		next := retry.After(wait, reason)
		if v.limited {
			// Who was asked for the same short wait as many others comes back over
			// as long again, as those do whom the pause holds back.
			next = next.Spread(min(wait, time.Second))
		}
		return next
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
