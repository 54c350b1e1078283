package retry

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/retrip-go/retrip/internal/stub"
)

func small(t testing.TB) (*Transport, func() *http.Request) {
	payload := make([]byte, 1<<10)
	ctx := t.Context()
	return NewTransport(&stub.Repeated{}, Config{}), func() *http.Request { return keyed(ctx, t, bytes.NewReader(payload)) }
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
	for name, over := range map[string]http.RoundTripper{"bare": &stub.Repeated{}, "retry": transport} {
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
	base := &stub.Repeated{Failures: 2}
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
