package openai

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/hint"
)

type observeFunc = func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration)

// observe is the breaker's Observe: an answer that a format judges knows best
// what it comes to, all else is judged as plain HTTP.
func observe(response *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
	if response == nil {
		return breaker.DefaultObserve(response, err)
	}
	switch answer := call.From(response.Request.Context()).Answer.(type) {
	case *answer:
		if answer.format != nil && !answer.isOpaque() {
			return breaker.Undecided, answer, 0
		}
	case *errorAnswer:
		outcome, wait := answer.verdict().outcome, time.Duration(0)
		if outcome == breaker.Failure {
			wait, _ = hint.FromHeader(response.Header, time.Now())
		}
		return outcome, nil, wait
	}
	return breaker.DefaultObserve(response, err)
}

// observers returns an Observe that asks this package's own and then user's,
// which may be nil.
func observers(user observeFunc) observeFunc {
	if user == nil {
		return observe
	}
	return func(response *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
		outcome, observer, wait := observe(response, err)
		if o, w, asked := user(response, err); o != breaker.Undecided || w != nil {
			return o, w, asked
		}
		return outcome, observer, wait
	}
}
