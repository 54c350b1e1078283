// Package stub has the base RoundTrippers, responses and bodies that tests put
// in place of a network. They keep the contract of http.RoundTripper: a base that
// breaks it is the subject of a test, and written there.
package stub

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Func is a base made of a function.
type Func func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f Func) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A Base gives one answer after the other, the last one for ever, and remembers
// what it was sent. It is safe for concurrent use.
type Base struct {
	answers []Func

	mu       sync.Mutex
	payloads []string
	times    []time.Time
	idle     int
}

// Answers returns a Base with these answers.
func Answers(list ...Func) *Base { return &Base{answers: list} }

// RoundTrip reads the payload, closes it, and gives the answer that is next. A payload
// that fails ends it, as it ends a real request.
func (b *Base) RoundTrip(req *http.Request) (*http.Response, error) {
	var payload []byte
	if req.Body != nil {
		var err error
		payload, err = io.ReadAll(req.Body)
		if err := errors.Join(err, req.Body.Close()); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	n := len(b.payloads)
	b.payloads = append(b.payloads, string(payload))
	b.times = append(b.times, time.Now())
	b.mu.Unlock()
	return b.answers[min(n, len(b.answers)-1)](req)
}

// CloseIdleConnections is counted, so that a test sees whether layers forward it.
func (b *Base) CloseIdleConnections() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle++
}

// Calls returns how many payloads were read.
func (b *Base) Calls() int { return len(b.Payloads()) }

// Payloads returns what was sent by each call.
func (b *Base) Payloads() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.payloads)
}

// Times returns when the payload of each call had been read.
func (b *Base) Times() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.times)
}

// Idle returns how often CloseIdleConnections was called.
func (b *Base) Idle() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.idle
}

// Reply returns an answer of Response.
func Reply(code int, body string, header ...string) Func {
	return func(*http.Request) (*http.Response, error) { return Response(code, body, header...), nil }
}

// Error returns an answer that is none: RoundTrip fails with err.
func Error(err error) Func {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// Response returns a response of known length. It is JSON, unless header says
// otherwise, which is pairs of names and values.
func Response(code int, body string, header ...string) *http.Response {
	header = append([]string{"Content-Type", "application/json"}, header...)
	resp := Stream(code, strings.NewReader(body), header...)
	resp.ContentLength = int64(len(body))
	return resp
}

// Stream returns a response of unknown length and with these headers only.
func Stream(code int, body io.Reader, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(body), ContentLength: -1}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// A Body counts how often it is closed. It is of no type that net/http knows to be in
// memory, so that its length can't be found out.
type Body struct {
	io.Reader

	closed atomic.Int32
}

// Close does nothing else.
func (b *Body) Close() error {
	b.closed.Add(1)
	return nil
}

// Closed returns how often Close was called.
func (b *Body) Closed() int { return int(b.closed.Load()) }
