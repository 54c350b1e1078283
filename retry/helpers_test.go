package retry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testURL = "https://api.example.com/v1/chat/completions?key=planted"

// A script is a base that gives one answer after the other, the last one for
// ever.
type script struct {
	answers []func(*http.Request) (*http.Response, error)

	mu     sync.Mutex
	calls  int
	bodies [][]byte
	times  []time.Time
	idle   int
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	if req.Body != nil {
		var err error
		if sent, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	s.mu.Lock()
	n := s.calls
	s.calls++
	s.bodies = append(s.bodies, sent)
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	return s.answers[min(n, len(s.answers)-1)](req)
}

func (s *script) CloseIdleConnections() { s.idle++ }

func answers(list ...func(*http.Request) (*http.Response, error)) *script {
	return &script{answers: list}
}

func status(code int, header ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		return response(code, "body of "+http.StatusText(code), header...), nil
	}
}

func response(code int, body string, header ...string) *http.Response {
	resp := &http.Response{
		StatusCode: code, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

func failure(err error) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// unconnected fails with err as net/http does when it gets no connection.
func unconnected(err error) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
			trace.GetConn(req.URL.Host)
		}
		return nil, err
	}
}

// disconnected fails with err as net/http does when it loses a connection.
func disconnected(err error) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		if trace := httptrace.ContextClientTrace(req.Context()); trace != nil {
			trace.GetConn(req.URL.Host)
			trace.GotConn(httptrace.GotConnInfo{})
		}
		return nil, err
	}
}

// keyed returns a POST that may be repeated.
func keyed(ctx context.Context, t testing.TB, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, testURL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "k")
	return req
}

// steady waits d before every attempt.
func steady(d time.Duration) func() backoff.BackOff {
	return func() backoff.BackOff { return backoff.NewConstantBackOff(d) }
}

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the response: %v", err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatalf("closing the response: %v", err)
	}
	return string(body)
}

// A countingBody counts its Closes and can't be seen through.
type countingBody struct {
	io.Reader

	mu     sync.Mutex
	closed int
}

func opaque(data []byte) *countingBody {
	return &countingBody{Reader: io.LimitReader(bytes.NewReader(data), int64(len(data)))}
}

func (b *countingBody) Close() error {
	b.mu.Lock()
	b.closed++
	b.mu.Unlock()
	return nil
}

// An endlessBody never ends, until its attempt does.
type endlessBody struct {
	ctx    context.Context
	closed chan struct{}
}

func (b *endlessBody) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b *endlessBody) Close() error {
	close(b.closed)
	return nil
}

// A rejection is what a breaker returns.
type rejection struct {
	wait   time.Duration
	paused bool
}

func (r *rejection) Error() string                 { return "rejected" }
func (r *rejection) Paused() (time.Duration, bool) { return r.wait, r.paused }
func (r *rejection) ErrorType() string             { return "circuit_open" }

func reject(wait time.Duration, paused bool) func(*http.Request) (*http.Response, error) {
	return failure(&rejection{wait, paused})
}
