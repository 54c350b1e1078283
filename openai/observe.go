package openai

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/hint"
)

// An observeFunc is the type of the breaker's Config.Observe.
type observeFunc = func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration)

// observe is the breaker's Observe. An answer with a format follows its own bytes, so
// it becomes the Observer and settles the attempt itself. An error status is worth what
// its verdict says, which the retry policy reads as well: breaker and policy must not
// judge the same attempt differently. Everything else is judged as plain HTTP.
//
// Only a Failure passes on the wait that its headers ask for, since nothing else opens
// a breaker.
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

// observers returns an Observe that asks this package's own and then user, which may
// be nil. What the user says goes before, unless it is Undecided without an Observer:
// that leaves the response to this package. The own one is asked in any case, because
// it reads the codes of an error status.
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
