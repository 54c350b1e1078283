package breaker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/fault"
)

// A body is a response body that settles the permit of its request. Close may
// run concurrently with Read.
type body struct {
	io.ReadCloser
	permit   Permit
	left     int64    // bytes to come; negative if unknown
	observer Observer // nil if the bytes alone decide
	mu       sync.Mutex
	seen     atomic.Bool // there were bytes
	closed   atomic.Bool

	over      bool // the observer is done; under mu
	stream    bool // a success is provisional
	firstByte bool // makes a success, without an observer
}

// watch puts b in the place of resp's body.
func (b *body) watch(resp *http.Response, o Observer) {
	b.stream = isStream(resp)
	if o == nil {
		switch compressed := isCompressed(resp); {
		case b.stream && compressed:
			o = new(byteObserver)
		case b.stream:
			o = new(eventObserver)
		default:
			b.firstByte = compressed
		}
	}
	b.observer = o
	b.left = -1
	if resp.ContentLength > 0 {
		b.left = resp.ContentLength
	}
	b.ReadCloser = resp.Body
	resp.Body = b
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.permit.done() {
		return n, err
	}
	// A base that counts wrongly must not harm more than itself.
	data := p[:min(max(n, 0), len(p))]
	if b.left > 0 {
		b.left -= int64(len(data))
	}
	if b.observer != nil {
		b.observe(data, err)
		return n, err
	}
	if len(data) > 0 && !b.seen.Load() {
		b.seen.Store(true)
	}
	switch {
	case len(data) > 0 && b.firstByte, b.whole(err):
		b.permit.Success()
	case err != nil && b.closed.Load():
		b.settleClosed()
	case err != nil:
		b.permit.Settle(readVerdict(b.permit.req), 0)
	}
	return n, err
}

func (b *body) whole(err error) bool {
	return err == io.EOF || err == nil && b.left == 0 //nolint:errorlint // Read returns io.EOF itself
}

// Close closes the body, and settles the permit if that was still to be done.
func (b *body) Close() error {
	b.closed.Store(true)
	err := b.ReadCloser.Close()
	switch {
	case b.permit.done():
	case b.observer != nil:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.end(ErrBodyClosed)
	default:
		b.settleClosed()
	}
	return err
}

// settleClosed judges a body that the caller closed before its end, or one of
// our time limits.
func (b *body) settleClosed() {
	switch {
	case contextVerdict(b.permit.req) == Failure:
		b.permit.Failure()
	case b.seen.Load():
		b.permit.Success()
	default:
		b.permit.Ignore()
	}
}

// observe tells the observer what was read.
func (b *body) observe(data []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	if len(data) > 0 {
		b.learn(b.observer.Data(data))
	}
	switch {
	case b.over:
	case b.whole(err):
		b.end(nil)
	case err != nil && b.closed.Load():
		b.end(ErrBodyClosed)
	case err != nil:
		b.end(err)
	}
}

// learn takes a verdict of the observer on data.
func (b *body) learn(verdict Outcome) {
	switch {
	case verdict == Undecided:
	case verdict == Success && b.stream:
		b.permit.succeedForNow()
	default:
		b.over = true
		if verdict == Failure {
			b.permit.revoke()
		}
		b.permit.keep()
		b.permit.Settle(verdict, 0)
	}
}

// end tells the observer that nothing more comes.
func (b *body) end(err error) {
	if b.over {
		return
	}
	b.over = true
	verdict := b.observer.End(err)
	if err != nil {
		over := contextVerdict(b.permit.req)
		if over == Failure || over == Ignored && err != ErrBodyClosed { //nolint:errorlint // never wrapped
			verdict = over
		}
	}
	switch {
	case verdict == Failure:
		b.permit.revoke()
	case verdict == Success, verdict == Undecided && err == nil:
		b.permit.confirm()
	default:
		b.permit.keep()
	}
	if verdict == Undecided {
		verdict = Ignored
	}
	b.permit.Settle(verdict, 0) // does nothing if there was a success
}

// readVerdict judges an error of reading the response.
func readVerdict(req *http.Request) Outcome {
	if verdict := contextVerdict(req); verdict != Undecided {
		return verdict
	}
	return Failure
}

// contextVerdict judges the end of the request's context: a time limit of ours
// is a failure, all else is the caller's own doing. It returns Undecided while
// the context is not over.
func contextVerdict(req *http.Request) Outcome {
	ctx := req.Context()
	if ctx.Err() == nil {
		select {
		case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
			return Ignored
		default:
			return Undecided
		}
	}
	var limit *fault.TimeLimitError
	if errors.As(context.Cause(ctx), &limit) {
		return Failure
	}
	return Ignored
}
