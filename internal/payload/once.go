package payload

import (
	"io"
	"sync"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A Once is the body of a request that is not kept: it is sent once, but may be
// offered several times as long as nothing was read of it. Its Close counts only
// after a Read or once it is final, so that a layer that refuses an attempt,
// and closes its body as it must, doesn't end the call.
type Once struct {
	mu     sync.Mutex // Close may run beside Read, and Read must not hold it
	body   io.ReadCloser
	read   bool // there was a Read
	final  bool // no attempt follows
	shut   bool // there was a Close
	closed bool // body was closed
}

// NewOnce returns a Once over body.
func NewOnce(body io.ReadCloser) *Once { return &Once{body: body} }

// Read reads the body. From then on it can't be sent again.
func (o *Once) Read(p []byte) (int, error) {
	o.mu.Lock()
	if o.shut {
		o.mu.Unlock()
		return 0, errReadAfterClose
	}
	o.read = true
	o.mu.Unlock()
	return o.body.Read(p)
}

// Close closes the body, or notes that it is to be closed in the end.
func (o *Once) Close() error {
	return o.settle(func() { o.shut = true })
}

// Final says that no attempt follows: a Close asked for before takes effect, and
// the caller's body is closed, as a RoundTripper must.
func (o *Once) Final() {
	_ = o.settle(func() { o.final = true })
}

// settle notes something and then closes the body, if it is time. It does so without
// the lock, because a Close may take long, or wait for a Read.
func (o *Once) settle(note func()) error {
	o.mu.Lock()
	note()
	now := o.shut && (o.read || o.final) && !o.closed
	o.closed = o.closed || now
	o.mu.Unlock()
	if now {
		return o.body.Close()
	}
	return nil
}

// Unread reports whether nothing was read of the body yet.
func (o *Once) Unread() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.read
}

// Failed reports whether the body, and not the server, ended the attempt that
// sent it.
func (o *Once) Failed() bool { return roundtrip.BodyFailed(o.body) }

// Again makes the body ready for another attempt, if nothing was read of it.
func (o *Once) Again() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.read {
		return false
	}
	o.shut = false
	return true
}
