package retry

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

// answer is a base that does as little as possible.
type answer struct{}

func (answer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(nil)), Request: req}, nil
}

func small(t testing.TB) (*Transport, func() *http.Request) {
	payload := make([]byte, 1<<10)
	ctx := t.Context()
	return NewTransport(answer{}, Config{}), func() *http.Request { return keyed(ctx, t, bytes.NewReader(payload)) }
}

func send(t testing.TB, over http.RoundTripper, req *http.Request) {
	resp, err := over.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(nil); err == nil {
		_ = resp.Body.Close()
	}
}

func BenchmarkTransport(b *testing.B) {
	transport, req := small(b)
	for name, over := range map[string]http.RoundTripper{"bare": answer{}, "retry": transport} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				send(b, over, req())
			}
		})
	}
}

func BenchmarkTwoFailuresThenSuccess(b *testing.B) {
	data := make([]byte, 10<<20)
	base := &failing{}
	transport := NewTransport(base, Config{Budget: Unlimited, Backoff: steady(0)})
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, testURL, bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		send(b, transport, req)
	}
}

// failing answers 503 twice and then 200.
type failing struct{ calls int }

func (f *failing) RoundTrip(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	f.calls++
	code := http.StatusServiceUnavailable
	if f.calls%3 == 0 {
		code = http.StatusOK
	}
	return &http.Response{StatusCode: code, Body: http.NoBody, Request: req}, nil
}
