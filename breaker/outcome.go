package breaker

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/hint"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/internal/sse"
)

// An Outcome is what an attempt says about the API it was made to. The zero
// value is Undecided.
type Outcome int

// The outcomes.
const (
	Undecided Outcome = iota // not known yet
	Success                  // the API has answered, whatever it said
	Failure                  // the API is to blame
	Ignored                  // says nothing: the caller gave up, or made a mistake
)

// String returns "undecided", "success", "failure" or "ignored".
func (o Outcome) String() string {
	switch o {
	case Success:
		return "success"
	case Failure:
		return "failure"
	case Ignored:
		return "ignored"
	default:
		return "undecided"
	}
}

// An Observer watches the body of one response and says what the attempt came
// to. Its methods are never called concurrently.
type Observer interface {
	// Data is given the bytes of the body as they pass, once for every Read
	// that returned some. It must neither change nor keep them. It returns the
	// verdict as soon as it is known, Undecided until then and after that.
	//
	// With a verdict the Observer is done and hears nothing more, End
	// included, but for one case: a Success is provisional, because more may
	// come. The Observer then goes on watching, and may turn it into a Failure
	// once.
	Data(p []byte) Outcome

	// End says that nothing more comes: err is nil if the body was read to its
	// end, ErrBodyClosed if the caller closed it before, else the error of
	// reading it. Undecided leaves a Success as it is; without one it is
	// Ignored. A Success ends a row of failures only when the body ended well:
	// if err is nil, or if End returns Success.
	//
	// If the body broke off because the caller's context was over, what End
	// returns is not used: the attempt is Ignored, or remains a Success.
	End(err error) Outcome
}

// DefaultObserve is what a nil Config.Observe stands for. Errors, 408 and 5xx
// but 501 are failures, 501 and other 4xx are ignored. A response without a
// body to wait for is a success. All others are Undecided, with a
// nil Observer: their body is watched as follows.
//
//   - An event stream is a success at its first event with data, and a failure
//     when reading it fails, before or after. One that ends well is a success,
//     whatever it holds.
//   - Any other body is a success when it has been read to its end, or closed
//     after some of it was read; a failure when reading it fails; and ignored
//     when it is closed unread.
//   - A compressed body is a success at its first byte.
func DefaultObserve(resp *http.Response, err error) (Outcome, Observer, time.Duration) {
	if err != nil {
		if fault.IsRejection(err) {
			return Ignored, nil, 0 // by another breaker below: nothing was sent
		}
		return Failure, nil, 0
	}
	code := resp.StatusCode
	switch {
	case code == http.StatusNotImplemented:
		return Ignored, nil, 0 // by this endpoint, for whomever asks
	case code == http.StatusRequestTimeout, code >= 500:
		return Failure, nil, retryAfter(resp)
	case code >= 400:
		return Ignored, nil, 0
	case code < 200, code >= 300, noBody(resp):
		return Success, nil, 0
	default:
		return Undecided, nil, 0
	}
}

// CountAllErrors is a strict Config.Observe: every status but a 2xx is a
// failure, the 429 and other 4xx too.
func CountAllErrors(resp *http.Response, err error) (Outcome, Observer, time.Duration) {
	if err == nil && (resp.StatusCode < 200 || resp.StatusCode >= 300) {
		return Failure, nil, retryAfter(resp)
	}
	return DefaultObserve(resp, err)
}

func retryAfter(resp *http.Response) time.Duration {
	wait, _ := hint.FromHeader(resp.Header, time.Now())
	return wait
}

// noBody reports whether there is no body to wait for. A ContentLength of 0
// alone does not say so: it is also that of a response made by hand.
func noBody(resp *http.Response) bool {
	return resp.StatusCode == http.StatusNoContent ||
		resp.Body == nil || resp.Body == http.NoBody ||
		resp.Request != nil && resp.Request.Method == http.MethodHead ||
		resp.ContentLength == 0 && roundtrip.First(resp.Header, "Content-Length") == "0"
}

func isStream(resp *http.Response) bool {
	return resp.StatusCode >= 200 && resp.StatusCode < 300 && roundtrip.MediaType(resp.Header) == "text/event-stream"
}

// An eventObserver is the default Observer of event streams.
type eventObserver struct {
	events  sse.Scanner
	started bool // there was an event
}

func (o *eventObserver) Data(p []byte) Outcome {
	verdict := Undecided
	o.events.Feed(p)
	for o.events.Next() {
		if !o.started && (len(o.events.Data()) > 0 || o.events.Oversize()) {
			o.started = true
			verdict = Success
		}
	}
	return verdict
}

func (o *eventObserver) End(err error) Outcome { return endOfStream(err) }

// A byteObserver is the default Observer of streams it can't read.
type byteObserver struct{ started bool }

func (o *byteObserver) Data([]byte) Outcome {
	if o.started {
		return Undecided
	}
	o.started = true
	return Success
}

func (o *byteObserver) End(err error) Outcome { return endOfStream(err) }

// endOfStream judges the end of a stream of which nothing is known: it may tell
// of whatever it likes, or of nothing.
func endOfStream(err error) Outcome {
	switch {
	case err == ErrBodyClosed: //nolint:errorlint // never wrapped
		return Undecided
	case err != nil:
		return Failure
	default:
		return Success
	}
}
