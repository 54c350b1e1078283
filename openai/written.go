package openai

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/payload"
)

// A written finds out when the request of the present attempt has been written:
// only from then on can the provider be called silent. One trace, made for the
// first base that asks for one, watches all attempts of the call.
type written struct {
	once    sync.Once
	trace   *httptrace.ClientTrace
	waiting atomic.Pointer[limiter] // of the present attempt
}

// Trace returns the trace by which net/http says how far a request got. The caller's
// own trace, which is in ctx, is called as well.
func (w *written) Trace(ctx context.Context) *httptrace.ClientTrace {
	w.once.Do(func() {
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: w.getConn, WroteRequest: w.wroteRequest})
		w.trace = httptrace.ContextClientTrace(traced)
	})
	return w.trace
}

// getConn notes that the base is net/http's, which says later when the request
// is written. Until then the time is that of a dial, of a place in the connection pool
// or of an upload, and not the provider's.
func (w *written) getConn(string) {
	if l := w.waiting.Load(); l != nil {
		l.traced.Store(true)
		l.waiting.Store(0)
	}
}

// wroteRequest begins the limit. net/http calls it again when it has sent a request anew
// on another connection, and the wait begins anew then.
func (w *written) wroteRequest(httptrace.WroteRequestInfo) {
	if l := w.waiting.Load(); l != nil {
		l.written()
	}
}

// isStreamed reports whether the body of a request comes from its caller while it is
// sent. Everything else is in memory, so that a base has all of it at once.
func isStreamed(req *http.Request) bool {
	_, streamed := req.Body.(*payload.Once)
	return streamed
}

// An upload is the body of a streamed request. A base that reports nothing to a trace
// shows by its last Read, or by Close, that it has the whole request: the provider is
// waited for from then on. Close may run beside Read, as net/http does it.
type upload struct {
	io.ReadCloser

	left  int64 // bytes to come; negative if the length is unknown
	limit *limiter
	over  atomic.Bool
}

// watchUpload returns the request to send in place of req. It is req itself unless
// there is a limit, and an upload to watch for it.
func watchUpload(req *http.Request, l *limiter) *http.Request {
	if l == nil || !isStreamed(req) {
		return req
	}
	u := &upload{ReadCloser: req.Body, left: req.ContentLength, limit: l}
	if u.left == 0 { // unknown, as in http.Request
		u.left = -1
	}
	sent := req.WithContext(req.Context())
	sent.Body = u
	return sent
}

// Read ends the upload at the last byte of a body of known length, since a base need
// not ask for io.EOF.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	u.left -= int64(n)
	if err != nil || u.left == 0 {
		u.end()
	}
	return n, err
}

// Close ends the upload, too: a base may stop early.
func (u *upload) Close() error {
	u.end()
	return u.ReadCloser.Close()
}

// end begins the limit, once. A base with a trace says by that when the request is
// written, which may be long after the last Read.
func (u *upload) end() {
	if !u.over.Swap(true) && !u.limit.traced.Load() {
		u.limit.written()
	}
}

// firstEventLimit returns for how long the first useful byte of a call may be
// waited for, 0 for ever. A call whose context ends by itself needs no bound
// that its caller did not ask for.
func firstEventLimit(ctx context.Context, configured time.Duration) time.Duration {
	if configured != 0 {
		return max(configured, 0)
	}
	if _, bounded := ctx.Deadline(); bounded {
		return 0
	}
	return DefaultFirstEventTimeout
}
