package openai

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
)

// observe is the breaker's Observe: the answers of this package know best what
// they come to, all else is judged as plain HTTP.
func observe(response *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
	if response == nil {
		return breaker.DefaultObserve(response, err)
	}
	if a, ok := response.Body.(*answer); ok && a.kind != opaqueAnswer {
		return breaker.Undecided, a, 0
	}
	if response.StatusCode < http.StatusBadRequest {
		return breaker.DefaultObserve(response, err)
	}
	api := peekError(response, call.AttemptFrom(response.Request.Context()))
	outcome, hint := errorOutcome(response, api)
	return outcome, nil, hint
}

// observers returns an Observe that asks this package's own and then user's,
// which may be nil.
func observers(user func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration)) func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration) {
	if user == nil {
		return observe
	}
	return func(response *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
		outcome, observer, hint := observe(response, err)
		if o, w, h := user(response, err); o != breaker.Undecided || w != nil {
			return o, w, h
		}
		return outcome, observer, hint
	}
}
