package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// A thin wrapper is correct; its hooks are there to make it wrong.
type thin struct {
	base  http.RoundTripper
	send  func(base http.RoundTripper, req *http.Request) (*http.Response, error)
	after func(req *http.Request, resp *http.Response) *http.Response
}

func passThrough(base http.RoundTripper) http.RoundTripper { return &thin{base: base} }

func (t *thin) RoundTrip(req *http.Request) (*http.Response, error) {
	send := t.send
	if send == nil {
		send = http.RoundTripper.RoundTrip
	}
	resp, err := send(t.base, req)
	if resp, err = mended(req, resp, err); err != nil {
		return nil, err
	}
	if t.after != nil {
		resp = t.after(req, resp)
	}
	return resp, nil
}

func (t *thin) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// mended makes of what a base returned what it should have.
func mended(req *http.Request, resp *http.Response, err error) (*http.Response, error) {
	if err != nil {
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		return nil, err
	}
	if resp == nil {
		return nil, errors.New("neither response nor error")
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	resp.Request = req
	return resp, nil
}

// sending is thin with a flaw on the way down.
func sending(send func(base http.RoundTripper, req *http.Request) (*http.Response, error)) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper { return &thin{base: base, send: send} }
}

// changing is thin that sends another request than the caller's.
func changing(change func(req *http.Request) *http.Request) func(http.RoundTripper) http.RoundTripper {
	return sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		return base.RoundTrip(change(req))
	})
}

// answering is thin with a flaw on the way up.
func answering(after func(req *http.Request, resp *http.Response) *http.Response) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper { return &thin{base: base, after: after} }
}

// reading is thin with a flaw in the response's body.
func reading(wrap func(body io.ReadCloser) io.ReadCloser) func(http.RoundTripper) http.RoundTripper {
	return answering(func(_ *http.Request, resp *http.Response) *http.Response {
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return resp
		}
		resp.Body = wrap(resp.Body)
		return resp
	})
}

// A body is a ReadCloser made of functions; nil ones are passed through.
type body struct {
	io.ReadCloser
	read  func(r io.Reader, p []byte) (int, error)
	close func(c io.Closer) error
}

func (b *body) Read(p []byte) (int, error) {
	if b.read == nil {
		return b.ReadCloser.Read(p)
	}
	return b.read(b.ReadCloser, p)
}

func (b *body) Close() error {
	if b.close == nil {
		return b.ReadCloser.Close()
	}
	return b.close(b.ReadCloser)
}

// retries is a small retrying wrapper, correct without flaws.
func retries(f flaws) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper { return &retrier{thin{base: base}, f} }
}

type flaws struct {
	// Of the caller's body.
	leavesBody, closesTwice, leavesUnread, ignoresReadError, ignoresLength, asksGetBody, leavesGetBody, buffersUpgrades bool
	// Of the payload.
	sharesReader, sharesGetBody, noGetBody, keepsPayload, forgetsLength bool
	// Of responses given up.
	leavesAll, leavesOnError, leavesOnPanic, leavesOnEnd, drainsAll, closesBeside, waitsForClose, lastIsError bool
	// Of waiting.
	sleepsOn, losesCause, ignoresCancel bool
}

type retrier struct {
	thin
	flaws
}

func (r *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	streamed := req.Body == nil || req.Body == http.NoBody || req.Trailer != nil ||
		!r.buffersUpgrades && (req.Header.Get("Expect") != "" || req.Header.Get("Upgrade") != "")
	if req.Method != http.MethodPut && req.Header.Get("Idempotency-Key") == "" || streamed {
		return r.thin.RoundTrip(req)
	}
	data, err := r.payload(req)
	if err != nil {
		return nil, err
	}
	payload := &replay{data: data}
	if !r.keepsPayload {
		defer payload.release()
	}
	var last *http.Response // given up, kept until the next attempt is over
	drop := func(leave bool) {
		switch {
		case last == nil || leave || r.leavesAll:
		case r.waitsForClose:
			last.Body.Close()
		default:
			go last.Body.Close()
		}
		last = nil
	}
	defer func() { drop(r.leavesOnPanic) }() // nil unless the base panics
	var shared lockedReader
	for n := 1; ; n++ {
		resp, err := r.attempt(req, payload, &shared)
		resp, err = mended(req, resp, err)
		drop(err != nil && r.leavesOnError)
		again := err != nil && overFor(req) == nil || resp != nil && (resp.StatusCode == 429 || resp.StatusCode >= 500)
		if again && n == 4 && resp != nil && r.lastIsError {
			resp.Body.Close()
			return nil, errors.New("giving up")
		}
		if !again || n == 4 {
			return resp, err
		}
		last = resp
		if err := r.wait(req, resp); err != nil {
			drop(r.leavesOnEnd)
			return nil, err
		}
	}
}

func (r *retrier) payload(req *http.Request) ([]byte, error) {
	if err := overFor(req); err != nil {
		if !r.leavesUnread {
			req.Body.Close()
		}
		return nil, err
	}
	var read bytes.Buffer
	read.Grow(int(max(req.ContentLength, 0)) + bytes.MinRead)
	_, err := read.ReadFrom(req.Body)
	payload := read.Bytes()
	if !r.leavesBody {
		req.Body.Close()
	}
	if r.closesTwice {
		req.Body.Close()
	}
	switch {
	case err != nil && !r.ignoresReadError:
		return nil, fmt.Errorf("reading the payload: %w", err)
	case err == nil && req.ContentLength > 0 && req.ContentLength != int64(len(payload)) && !r.ignoresLength:
		return nil, errors.New("the payload is not as long as ContentLength")
	}
	return payload, nil
}

func (r *retrier) attempt(req *http.Request, payload *replay, shared *lockedReader) (*http.Response, error) {
	if r.asksGetBody && req.GetBody != nil {
		again, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		if !r.leavesGetBody {
			again.Close()
		}
	}
	fresh := payload.reader
	again := fresh
	if r.sharesReader {
		shared.rewind(payload.data)
		fresh = func() io.ReadCloser { return io.NopCloser(shared) }
	}
	if r.sharesGetBody {
		shared.rewind(payload.data)
		again = func() io.ReadCloser { return io.NopCloser(shared) }
	}
	req = req.WithContext(req.Context())
	req.Body, req.ContentLength = fresh(), int64(len(payload.data))
	req.GetBody = func() (io.ReadCloser, error) { return again(), nil }
	if r.noGetBody {
		req.GetBody = nil
	}
	switch {
	case len(payload.data) == 0:
		req.Body = http.NoBody
	case r.forgetsLength:
		req.ContentLength = -1
	}
	return r.base.RoundTrip(req)
}

func (r *retrier) wait(req *http.Request, resp *http.Response) error {
	delay := 500 * time.Millisecond
	if resp != nil && resp.Header.Get("Retry-After") == "20" {
		delay = 20 * time.Second
	}
	switch {
	case resp == nil:
	case r.drainsAll:
		io.Copy(io.Discard, resp.Body) //nolint:errcheck // a flaw
	case r.closesBeside:
		go io.Copy(io.Discard, resp.Body) //nolint:errcheck // a flaw
		time.Sleep(50 * time.Millisecond)
		resp.Body.Close()
	}
	over, cancel := req.Context().Done(), req.Cancel //nolint:staticcheck // bases still have to look at it
	if r.ignoresCancel {
		cancel = nil
	}
	if r.sleepsOn {
		over, cancel = nil, nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-over:
		if r.losesCause {
			return errors.New("cancelled while waiting")
		}
	case <-cancel:
	}
	return overFor(req)
}

// A replay is a payload until it is released; its readers keep it to their end.
type replay struct {
	mu   sync.Mutex
	data []byte
}

func (p *replay) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = nil
}

func (p *replay) reader() io.ReadCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &lockedReader{}
	l.rewind(p.data)
	return &body{ReadCloser: io.NopCloser(l), close: func(io.Closer) error {
		l.rewind(nil)
		return nil
	}}
}

// A lockedReader is one reader for all, but no data race.
type lockedReader struct {
	mu sync.Mutex
	r  bytes.Reader
}

func (l *lockedReader) rewind(payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.Reset(payload)
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}
