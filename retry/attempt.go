package retry

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/hint"
	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

var errStreamUsed = errors.New("retry: the request body was read by an attempt that was then rejected: it can't be sent again")

// An Attempt is one request that was sent, and what came of it. It is valid
// only during the function of the [Config] that gets it: a copy of what is needed
// later must be made there.
type Attempt struct {
	Number   int            // 1 is the first
	Request  *http.Request  // as it was sent; not to be changed
	Response *http.Response // nil if there was none
	Err      error          // why there is no Response, or what Inspect found wrong with it

	// NotSent reports that the request was certainly never written to the
	// server: a breaker refused it, or net/http looked for a connection and got
	// none. False means unknown. A base that makes connections by other means
	// proves nothing. Of the first attempt nothing is known either, unless
	// Config.Repeatable is asked about it or there is an AttemptTimeout: most
	// calls need no second attempt, and pay nothing for watching net/http.
	NotSent bool

	// Safe is what Config.Safe said of the request.
	Safe bool

	// Repeatable says that another attempt is possible at all, whatever Policy
	// may say: the call may be repeated, its payload can be sent again, and the
	// call has more than one attempt. It is set for Inspect, which need not hold
	// any other response to see whether it is worth another attempt.
	Repeatable bool
}

// Hint returns the wait that the response's headers ask for: the first of
// retry-after-ms, x-ms-retry-after-ms and Retry-After (RFC 9110, section
// 10.2.3) that can be read. A date of the past is a wait of 0.
func (a *Attempt) Hint() (wait time.Duration, ok bool) {
	if a.Response == nil {
		return 0, false
	}
	return hint.FromHeader(a.Response.Header, time.Now())
}

// errorType returns the error.type of the attempt, "" if it succeeded.
func (a *Attempt) errorType() string {
	if a.Err != nil {
		return fault.Type(a.Err)
	}
	return fault.StatusType(a.Response.StatusCode)
}

// failure returns what went wrong as an error. It is for an attempt that has failed,
// whose status says so where there is no error.
func (a *Attempt) failure() error {
	if a.Err != nil {
		return a.Err
	}
	return statusError(a.Response.StatusCode)
}

// An attempt is an Attempt with all that the Transport needs for it. Its
// parts are values, so that an attempt is one allocation, and the first of a
// call, which is part of the trip, is none.
type attempt struct {
	Attempt

	ctx      call.Attempt
	request  http.Request
	space    payload.Space
	rejected bool // by a layer below: nothing was sent
	body     body
	reach    *reach // nil unless it matters how far the request got
}

// init makes the attempt's request like origin. It is a shallow copy, since neither the
// Transport nor a base may change a request (http.RoundTripper).
func (a *attempt) init(parent context.Context, origin *http.Request) {
	if payload.TakesOver(origin) {
		a.ctx.InitDetachable(parent)
	} else {
		a.ctx.Init(parent)
	}
	a.request = *origin.WithContext(&a.ctx)
	a.Request = &a.request
}

// watch finds out how far the request gets, by the trace of net/http.
func (a *attempt) watch() {
	a.reach = new(reach)
	a.request = *a.request.WithContext(a.reach.watch(&a.ctx))
}

// cancel ends the attempt and all that its base still does for it.
func (a *attempt) cancel(cause error) { a.ctx.Cancel(cause) }

// roundTrip sends the request, with the time limit of an attempt. The limit
// hangs on the attempt's context, so that a layer below can stop the clock
// while it holds the attempt back.
func (a *attempt) roundTrip(base http.RoundTripper, timeout time.Duration) {
	var timer *time.Timer
	if timeout > 0 {
		limit := &call.TimeLimit{After: timeout}
		a.ctx.Limit = limit
		timer = time.AfterFunc(timeout, func() { a.timeOut(limit) })
		limit.Timer = timer
		defer timer.Stop() // the base may panic
	}
	response, err := base.RoundTrip(a.Request) //nolint:bodyclose // who gets the attempt closes it
	if timer != nil && !timer.Stop() {
		// Headers that race with the timer lose: their body is cut off, or about
		// to be. The layer that sees it closed must know why.
		a.timeOut(a.ctx.Limit)
		// A refusal stays one: nothing was sent, and no limit was needed.
		if !isRejected(err) {
			err = context.Cause(&a.ctx)
		}
	}
	a.Response, a.Err = roundtrip.Mend(a.Request, response, err) //nolint:bodyclose // as above
}

// timeOut ends the attempt because its time is over. The cause is an error of
// ours, by which a breaker below knows the limit from the caller's own cancel.
func (a *attempt) timeOut(limit *call.TimeLimit) {
	a.cancel(&fault.TimeLimitError{Limit: "retry: AttemptTimeout", After: limit.After, Queued: a.reach.queued()})
}

// drop gives the attempt up, whatever has become of it. It closes the body without
// draining it: after a panic nothing more is to be waited for.
func (a *attempt) drop() {
	defer a.cancel(errGivenUp) // also if the body's Close panics
	if a.Response != nil {
		_ = a.Response.Body.Close()
	}
}
