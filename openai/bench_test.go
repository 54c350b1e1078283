package openai_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

const benchURL = "https://api.openai.com/v1/chat/completions"

// newReplies returns a base that answers with 1 KiB of JSON.
func newReplies() *stub.Repeated {
	body := strings.Replace(`{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"message":`+
		`{"role":"assistant","content":"`+`"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}`,
		`"content":"`, `"content":"`+strings.Repeat("x", 806), 1)
	return &stub.Repeated{Type: "application/json", Body: []byte(body)}
}

// newEvents returns a base that answers with a stream of 2,000 events, each as
// long as those of the real API.
func newEvents() *stub.Repeated {
	return &stub.Repeated{Type: "text/event-stream", Body: []byte(strings.Repeat(chunkEvent, 1999) + lastEvents), Unsized: true}
}

const (
	chunkHead  = `data: {"id":"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012","object":"chat.completion.chunk","created":1763900000,"model":"gpt-5-mini-2025-08-07","service_tier":"default","system_fingerprint":"fp_0123456789",`
	chunkEvent = chunkHead + `"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n"
	lastEvents = chunkHead + `"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1999,"total_tokens":2008}}` + "\n\ndata: [DONE]\n\n"
)

// benchPayload is a request of that size that names its model before its
// messages, as SDKs do it.
func benchPayload(size int) []byte {
	head, tail := `{"model":"gpt-5-mini","messages":[{"role":"user","content":"`, `"}]}`
	return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
}

// onlyRead hides what a body is, and so how long.
type onlyRead struct{ io.Reader }

// exchange makes one call and reads its answer to the end.
func exchange(b *testing.B, over http.RoundTripper, payload io.Reader, buffer []byte) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, benchURL, payload)
	if err != nil {
		b.Fatal(err)
	}
	readWhole(b, over, req, buffer)
}

func readWhole(b *testing.B, over http.RoundTripper, req *http.Request, buffer []byte) {
	resp, err := over.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatal(resp, err)
	}
	for err == nil {
		_, err = resp.Body.Read(buffer)
	}
	if err != io.EOF { //nolint:errorlint // Read returns io.EOF itself
		b.Fatal(err)
	}
	_ = resp.Body.Close()
}

func benchChain(tb testing.TB, base http.RoundTripper, cfg openai.Config) *openai.Transport {
	chain := openai.NewTransport(base, cfg)
	tb.Cleanup(func() { _ = chain.Close() })
	return chain
}

func newSDKMeter() metric.MeterProvider {
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
}

// BenchmarkCall is a call of 1 KiB that is answered with 1 KiB of JSON: the
// difference to bare is what a layer, or the chain, costs.
func BenchmarkCall(b *testing.B) {
	base, off := newReplies(), noop.NewMeterProvider()
	always := retry.Config{MeterProvider: off, Safe: func(*http.Request) bool { return true }}
	alone := breaker.NewTransport(base, breaker.Config{MeterProvider: off})
	b.Cleanup(func() { _ = alone.Close() })
	payload, buffer := benchPayload(1<<10), make([]byte, 4<<10)
	for _, row := range []struct {
		name string
		over http.RoundTripper
	}{
		{"bare", base},
		{"retry", retry.NewTransport(base, always)},
		{"breaker", alone},
		{"attempt metrics, no-op meter", openai.NewMetricsTransport(base, openai.MetricsConfig{MeterProvider: off})},
		{"attempt metrics, SDK meter", openai.NewMetricsTransport(base, openai.MetricsConfig{MeterProvider: newSDKMeter()})},
		{"chain, no meter", benchChain(b, base, openai.Config{})},
		{"chain, no-op meter", benchChain(b, base, openai.Config{MeterProvider: off})},
		{"chain, SDK meter", benchChain(b, base, openai.Config{MeterProvider: newSDKMeter()})},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				exchange(b, row.over, bytes.NewReader(payload), buffer)
			}
		})
	}
}

// BenchmarkPayload is a call with a payload in memory, one that can only be
// read, of known length or of unknown, and one of retry.NewRequest.
func BenchmarkPayload(b *testing.B) {
	chain := benchChain(b, newReplies(), openai.Config{MeterProvider: noop.NewMeterProvider()})
	buffer := make([]byte, 4<<10)
	for _, size := range []int{1 << 10, 1 << 20, 10 << 20} {
		payload := benchPayload(size)
		for name, call := range map[string]func(b *testing.B){
			"in memory":  func(b *testing.B) { exchange(b, chain, bytes.NewReader(payload), buffer) },
			"known":      func(b *testing.B) { readWhole(b, chain, ofKnownLength(b, payload), buffer) },
			"unknown":    func(b *testing.B) { exchange(b, chain, onlyRead{bytes.NewReader(payload)}, buffer) },
			"NewRequest": func(b *testing.B) { readWhole(b, chain, newRequest(b, payload), buffer) },
		} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					call(b)
				}
			})
		}
	}
}

func ofKnownLength(b *testing.B, payload []byte) *http.Request {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, benchURL, bytes.NewReader(payload))
	if err != nil {
		b.Fatal(err)
	}
	req.Body = struct{ io.ReadCloser }{req.Body}
	return req
}

func newRequest(b *testing.B, payload []byte) *http.Request {
	req, err := retry.NewRequest(b.Context(), http.MethodPost, benchURL, payload)
	if err != nil {
		b.Fatal(err)
	}
	return req
}

// BenchmarkTwoFailuresThenSuccess is a call of 10 MiB that gets two 503s
// before its 200, without waits.
func BenchmarkTwoFailuresThenSuccess(b *testing.B) {
	base := newReplies()
	base.Failures = 2
	chain := benchChain(b, base, openai.Config{
		MeterProvider: noop.NewMeterProvider(), DisableBreaker: true,
		Retry: retry.Config{Budget: retry.Unlimited, Backoff: func() backoff.BackOff { return &backoff.ZeroBackOff{} }},
	})
	payload, buffer := benchPayload(10<<20), make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, chain, bytes.NewReader(payload), buffer)
	}
}

// BenchmarkStream is a stream of 2,000 events out of memory.
func BenchmarkStream(b *testing.B) {
	base := newEvents()
	payload, buffer := benchPayload(1<<10), make([]byte, 4<<10)
	for _, row := range []struct {
		name string
		over http.RoundTripper
	}{
		{"bare", base},
		{"chain, no-op meter", benchChain(b, base, openai.Config{MeterProvider: noop.NewMeterProvider()})},
		{"chain, SDK meter", benchChain(b, base, openai.Config{MeterProvider: newSDKMeter()})},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(base.Body)))
			for b.Loop() {
				exchange(b, row.over, bytes.NewReader(payload), buffer)
			}
		})
	}
}

// BenchmarkEvent is a stream of 2,000 events, each in a Read of its own.
func BenchmarkEvent(b *testing.B) {
	base := stub.Func(func(req *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}},
			Body: &events{left: 2000}, Request: req, ContentLength: -1,
		}, nil
	})
	payload, buffer := benchPayload(1<<10), make([]byte, 4<<10)
	for _, row := range []struct {
		name string
		over http.RoundTripper
	}{
		{"bare", base},
		{"chain, no-op meter", benchChain(b, base, openai.Config{MeterProvider: noop.NewMeterProvider()})},
		{"chain, SDK meter", benchChain(b, base, openai.Config{MeterProvider: newSDKMeter()})},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				exchange(b, row.over, bytes.NewReader(payload), buffer)
				n += 2000
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
		})
	}
}

// An events body has one event for each Read.
type events struct{ left int }

func (e *events) Read(p []byte) (int, error) {
	e.left--
	switch {
	case e.left > 0:
		return copy(p, chunkEvent), nil
	case e.left == 0:
		return copy(p, lastEvents), nil
	}
	return 0, io.EOF
}

func (e *events) Close() error { return nil }

// BenchmarkStreamOverLoopback is a stream of 2,000 events, each sent by itself,
// over a connection. Bare and chain take turns, so that what disturbs the
// machine disturbs both; ratio is the throughput through the chain to that
// without it.
func BenchmarkStreamOverLoopback(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 1999 {
			_, _ = io.WriteString(w, chunkEvent)
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, lastEvents)
	}))
	b.Cleanup(srv.Close)
	base := openai.BaseTransport()
	b.Cleanup(base.CloseIdleConnections)
	chain := benchChain(b, base, openai.Config{MeterProvider: newSDKMeter()})
	buffer := make([]byte, 4<<10)
	measure := func(over http.RoundTripper) time.Duration {
		req, err := retry.NewRequest(b.Context(), http.MethodPost, srv.URL+"/v1/chat/completions", benchPayload(1<<10))
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		readWhole(b, over, req, buffer)
		return time.Since(start)
	}
	var bare, through time.Duration
	for b.Loop() {
		bare += measure(base)
		through += measure(chain)
	}
	b.ReportMetric(bare.Seconds()/through.Seconds(), "ratio")
}
