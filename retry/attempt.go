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
)

var errStreamUsed = errors.New("retry: the request body was read by an attempt that was then rejected: it can't be sent again")

// An attempt is an Attempt with all that it is made of, in one allocation.
type attempt struct {
	Attempt

	rejection fault.Rejection // a breaker's, if it refused
	ctx       call.Attempt
	request   http.Request
	reader    payload.Reader
	body      body
	reach     *reach // nil unless it matters how far the request got
}

// begin makes the attempt's request from the caller's. With trace it finds out
// how far the request gets.
func (a *attempt) begin(parent context.Context, req *http.Request, trace bool) {
	ctx, cancel := context.WithCancelCause(parent)
	if trace {
		a.reach = new(reach)
		ctx = a.reach.watch(ctx)
	}
	a.ctx = call.Attempt{Context: ctx, Cancel: cancel}
	a.request = *req.WithContext(&a.ctx)
	a.Request = &a.request
}

// roundTrip sends the request, and makes sense of a base that does not keep to
// its contract.
func (a *attempt) roundTrip(base http.RoundTripper, timeout time.Duration) {
	var limit *fault.TimeLimitError
	var timer *time.Timer
	if timeout > 0 {
		limit = &fault.TimeLimitError{Limit: "retry: AttemptTimeout", After: timeout}
		timer = time.AfterFunc(timeout, func() { a.ctx.Cancel(limit) })
		defer timer.Stop() // the base may panic
	}
	response, err := base.RoundTrip(&a.request)
	if timer != nil && !timer.Stop() {
		// Headers that race with the timer lose: their body is cut off, or about
		// to be. Whoever sees it closed must know why.
		a.ctx.Cancel(limit)
		// A refusal stays one: nothing was sent, and no limit was needed.
		if _, rejected := fault.AsRejection(err); !rejected {
			err = limit
		}
	}
	switch {
	case response == nil && err == nil:
		err = errNoResponse
	case response == nil:
	case err != nil:
		if response.Body != nil {
			_ = response.Body.Close()
		}
		response = nil
	case response.Body == nil:
		response.Body = http.NoBody
	}
	a.Response, a.Err = response, err
}

// drop gives the attempt up, whatever has become of it.
func (a *attempt) drop() {
	if a.Response != nil {
		_ = a.Response.Body.Close()
	}
	a.ctx.Cancel(errGivenUp)
}

// deliver hands the response to the caller. The attempt's context ends with
// its body.
func (a *attempt) deliver() {
	switch {
	case a.Response.StatusCode == http.StatusSwitchingProtocols:
		// The connection is the caller's now, and is an io.Writer.
	case a.Response.Body == http.NoBody:
		a.ctx.Cancel(nil)
	default:
		a.body = body{ReadCloser: a.Response.Body, cancel: a.ctx.Cancel}
		a.Response.Body = &a.body
	}
}

// A body ends its attempt's context when it is over.
type body struct {
	io.ReadCloser

	cancel context.CancelCauseFunc
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.cancel(nil)
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
