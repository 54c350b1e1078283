package retry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

var errStreamUsed = errors.New("retry: the request body was read by an attempt that was then rejected: it can't be sent again")

// An attempt is an Attempt with all that becomes of it.
type attempt struct {
	Attempt

	ctx      call.Attempt
	request  http.Request
	space    payload.Space
	rejected bool // by a layer below: nothing was sent
	body     body
	reach    *reach // nil unless it matters how far the request got
}

// init makes the attempt's request like origin.
func (a *attempt) init(parent context.Context, origin *http.Request) {
	if payload.TakesOver(origin) {
		a.ctx.InitDetachable(parent)
	} else {
		a.ctx.Init(parent)
	}
	a.request = *origin.WithContext(&a.ctx)
	a.Request = &a.request
}

// watch finds out how far the request gets.
func (a *attempt) watch() {
	a.reach = new(reach)
	a.request = *a.request.WithContext(a.reach.watch(&a.ctx))
}

func (a *attempt) cancel(cause error) { a.ctx.Cancel(cause) }

// roundTrip sends the request, with the time limit of an attempt.
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
		// to be. Whoever sees it closed must know why.
		a.timeOut(a.ctx.Limit)
		// A refusal stays one: nothing was sent, and no limit was needed.
		if !isRejected(err) {
			err = context.Cause(&a.ctx)
		}
	}
	a.Response, a.Err = roundtrip.Mend(a.Request, response, err) //nolint:bodyclose // as above
}

// timeOut ends the attempt because its time is over.
func (a *attempt) timeOut(limit *call.TimeLimit) {
	a.cancel(&fault.TimeLimitError{Limit: "retry: AttemptTimeout", After: limit.After, Queued: a.reach.queued()})
}

// drop gives the attempt up, whatever has become of it.
func (a *attempt) drop() {
	defer a.cancel(errGivenUp) // also if the body's Close panics
	if a.Response != nil {
		_ = a.Response.Body.Close()
	}
}

// deliver makes response, the attempt's own or one kept from before, what the
// caller gets. It reports whether the call goes on until the response's body is
// over. Then owner, which may be nil, is told.
func (a *attempt) deliver(response *http.Response, owner *call.Call) (goesOn bool) {
	switch {
	case response.StatusCode == http.StatusSwitchingProtocols:
		// The connection is the caller's now, and is an io.Writer.
		a.ctx.Detach()
	case response.Body == http.NoBody:
		a.cancel(nil)
	default:
		a.body = body{ReadCloser: response.Body, attempt: &a.ctx, call: owner, status: response.StatusCode}
		response.Body = &a.body
		return true
	}
	owner.End(response.StatusCode, nil)
	return false
}

// A body ends its call when it is over.
type body struct {
	io.ReadCloser

	attempt *call.Attempt
	call    *call.Call // may be nil
	status  int
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch err {
	case nil:
		return n, nil
	case io.EOF:
		b.call.End(b.status, nil)
	default:
		b.call.End(b.status, err)
	}
	b.attempt.Cancel(nil)
	return n, err
}

func (b *body) Close() error {
	b.call.End(b.status, nil)   // before a Read beside it comes back with an error
	defer b.attempt.Cancel(nil) // also if the base's Close panics
	return b.ReadCloser.Close()
}
