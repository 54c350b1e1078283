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

	sent      *call.Request
	rejection fault.Rejection // a breaker's, if it refused
	body      body
	reach     *reach // nil unless it matters how far the request got
}

// An ownAttempt is an attempt with a request of its own, in one allocation.
type ownAttempt struct {
	attempt attempt
	request call.Request
}

// init makes the attempt's request like origin.
func (n *ownAttempt) init(ctx context.Context, origin *http.Request) *attempt {
	n.request.Init(ctx, origin)
	n.attempt.sent = &n.request
	return &n.attempt
}

// watch finds out how far the request gets.
func (a *attempt) watch() {
	a.reach = new(reach)
	a.sent.HTTP = *a.sent.HTTP.WithContext(a.reach.watch(&a.sent.Attempt))
}

func (a *attempt) cancel(cause error) { a.sent.Attempt.Cancel(cause) }

// roundTrip sends the request, with the time limit of an attempt.
func (a *attempt) roundTrip(base http.RoundTripper, timeout time.Duration) {
	var timer *time.Timer
	if timeout > 0 {
		timer = time.AfterFunc(timeout, func() { a.timeOut(timeout) })
		defer timer.Stop() // the base may panic
	}
	response, err := base.RoundTrip(a.Request)
	if timer != nil && !timer.Stop() {
		// Headers that race with the timer lose: their body is cut off, or about
		// to be. Whoever sees it closed must know why.
		a.timeOut(timeout)
		// A refusal stays one: nothing was sent, and no limit was needed.
		if rejectionOf(err) == nil {
			err = context.Cause(&a.sent.Attempt)
		}
	}
	a.Response, a.Err = roundtrip.Mend(a.Request, response, err)
}

// timeOut ends the attempt because its time is over.
func (a *attempt) timeOut(after time.Duration) {
	a.cancel(&fault.TimeLimitError{Limit: "retry: AttemptTimeout", After: after, Queued: a.reach.queued()})
}

// drop gives the attempt up, whatever has become of it.
func (a *attempt) drop() {
	if a.Response != nil {
		_ = a.Response.Body.Close()
	}
	a.cancel(errGivenUp)
}

// deliver hands the response to the caller. The attempt's context ends with
// its body, when the payload is given back; it reports false if that may be done
// now.
func (a *attempt) deliver(source *payload.Source) bool {
	switch {
	case a.Response.StatusCode == http.StatusSwitchingProtocols:
		// The connection is the caller's now, and is an io.Writer. All of the
		// request was sent before: RFC 9110, section 7.8.
		return false
	case a.Response.Body == http.NoBody:
		a.cancel(nil)
		return false
	default:
		a.body = body{ReadCloser: a.Response.Body, attempt: &a.sent.Attempt, payload: source}
		a.Response.Body = &a.body
	}
	return true
}

// A body ends its call when it is over.
type body struct {
	io.ReadCloser

	attempt *call.Attempt
	payload *payload.Source
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.over()
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.over()
	return err
}

func (b *body) over() {
	b.attempt.Cancel(nil)
	b.payload.GiveBack()
}
