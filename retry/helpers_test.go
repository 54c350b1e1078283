package retry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testURL = "https://api.example.com/v1/chat/completions?key=planted"

var (
	answers  = stub.Answers
	failure  = stub.Error
	response = stub.Response
)

func status(code int, header ...string) stub.Func {
	return stub.Reply(code, "body of "+http.StatusText(code), header...)
}

// opaque returns a body whose reader nobody can see.
func opaque(data []byte) *stub.Body { return &stub.Body{Reader: bytes.NewReader(data)} }

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
type rejection struct{}

func (rejection) Error() string        { return "rejected" }
func (rejection) Is(target error) bool { return target == fault.ErrRejected }
func (rejection) ErrorType() string    { return "circuit_open" }

func reject() stub.Func { return failure(rejection{}) }
