package retry

import (
	"io"
	"net/http"

	"github.com/retrip-go/retrip/internal/call"
)

// deliver makes response, the attempt's own or one kept from before, what the
// caller gets. It reports whether the response has a body that the caller
// still has to read: the call is over only then. The call's owner, which may
// be nil, hears of its end.
func (a *attempt) deliver(response *http.Response, owner *call.Call) (unread bool) {
	switch {
	case response.StatusCode == http.StatusSwitchingProtocols:
		// The connection is the caller's now, and is an io.Writer: no wrapper
		// may stand before it.
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

// A body ends its call when it is over. It also ends the attempt's context
// then, and no sooner: net/http cuts the body of a request whose context ends. The
// call and its metrics last until the caller has all of the answer, because a stream may
// fail after its headers.
type body struct {
	io.ReadCloser

	attempt *call.Attempt
	call    *call.Call // nil if this Transport does not own the call
	status  int
}

// Read ends the call at the body's end. The error is compared and not searched, as
// readers do with io.EOF.
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

// Close ends the call, whose caller wants no more of it.
func (b *body) Close() error {
	b.call.End(b.status, nil)   // before a Read beside it comes back with an error
	defer b.attempt.Cancel(nil) // also if the base's Close panics
	return b.ReadCloser.Close()
}
