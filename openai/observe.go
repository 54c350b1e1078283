package openai

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
)

<<<<<<< HEAD
type observeFunc = func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration)

// observe is the breaker's Observe: an answer that a format judges knows best
// what it comes to, all else is judged as plain HTTP.
=======
// observe is the breaker's Observe: the answers of this package know best what
// they come to, all else is judged as plain HTTP.
>>>>>>> wt-breaker
func observe(response *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
	if response == nil {
		return breaker.DefaultObserve(response, err)
	}
<<<<<<< HEAD
	switch answer := call.From(response.Request.Context()).Answer.(type) {
	case *answer:
		if answer.format != nil && !answer.isOpaque() {
			return breaker.Undecided, answer, 0
		}
	case *errorAnswer:
		wait, _ := waitOf(response.Header, false, time.Now())
		return answer.verdict().outcome, nil, wait
=======
	if a, ok := response.Body.(*answer); ok && a.kind != opaqueAnswer {
		return breaker.Undecided, a, 0
>>>>>>> wt-breaker
	}
	return breaker.DefaultObserve(response, err)
}

// observers returns an Observe that asks this package's own and then user's,
// which may be nil.
<<<<<<< HEAD
func observers(user observeFunc) observeFunc {
=======
func observers(user func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration)) func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration) {
>>>>>>> wt-breaker
	if user == nil {
		return observe
	}
	return func(response *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
<<<<<<< HEAD
		outcome, observer, wait := observe(response, err)
		if o, w, asked := user(response, err); o != breaker.Undecided || w != nil {
			return o, w, asked
=======
		outcome, observer, hint := observe(response, err)
		if o, w, h := user(response, err); o != breaker.Undecided || w != nil {
			return o, w, h
>>>>>>> wt-breaker
		}
		return outcome, observer, wait
	}
}
