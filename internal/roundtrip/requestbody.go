package roundtrip

import (
	"io"
	"net/http"
	"sync/atomic"
)

// A RequestBody is the body of a request that remembers whether it ended its
// attempt itself. net/http returns what the body failed with, or an error
// without a type, as if the server were to blame: a breaker would count the
// caller's broken pipe as an outage. Close may run concurrently
// with Read.
type RequestBody struct {
	io.ReadCloser

	length int64 // announced; 0 or less if unknown
	read   int64 // by the one who sends it
	failed atomic.Bool
	closed atomic.Bool
}

// NewRequestBody returns a RequestBody over body, of which the request says
// that it has length bytes; 0 or less is unknown, as in http.Request.
func NewRequestBody(body io.ReadCloser, length int64) *RequestBody {
	return &RequestBody{ReadCloser: body, length: length}
}

// Read reads the body, and notes when it fails or has another length than
// announced.
func (b *RequestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(max(n, 0))
	switch {
	case b.closed.Load():
		// The base has given up already, and this Read fails for that.
	case err != nil && err != io.EOF:
		b.failed.Store(true)
	case b.length > 0 && (b.read > b.length || err != nil && b.read < b.length):
		b.failed.Store(true)
	}
	return n, err
}

// Close closes the body.
func (b *RequestBody) Close() error {
	first := !b.closed.Swap(true)
	err := b.ReadCloser.Close()
	if err != nil && first {
		b.failed.Store(true) // net/http gives up for that, too
	}
	return err
}

// Failed reports whether a Read or Close failed, or there were more or fewer
// bytes than announced.
func (b *RequestBody) Failed() bool { return b.failed.Load() }

// BodyFailed reports what the Failed method of a request's body does. A body
// without one is in memory, and does not fail.
func BodyFailed(body io.Reader) bool {
	b, ok := body.(interface{ Failed() bool })
	return ok && b.Failed()
}

// WatchBody returns the request to be sent in the place of req: a copy with a
// RequestBody, or req itself if its body cannot fail or is watched already.
func WatchBody(req *http.Request) *http.Request {
	if !mayFail(req) {
		return req
	}
	sent := req.WithContext(req.Context())
	sent.Body = NewRequestBody(req.Body, req.ContentLength)
	return sent
}

// mayFail reports whether a request's body may fail unnoticed. What is in memory
// can't, unless its length is another than announced. What else can be had again
// by GetBody is taken to be in memory, too.
func mayFail(req *http.Request) bool {
	if req.Body == nil || req.Body == http.NoBody {
		return false
	}
	if length, ok := InMemory(req.Body); ok {
		return req.ContentLength > 0 && req.ContentLength != int64(length)
	}
	_, watched := req.Body.(interface{ Failed() bool })
	return !watched && req.GetBody == nil
}
