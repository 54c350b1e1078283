package openai_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/openai"
)

// small is a base that answers 1 KiB of JSON and allocates little for it.
type small struct{ answer []byte }

func newSmall() *small {
	return &small{append(append([]byte(`{"model":"m","choices":[{"text":"`), bytes.Repeat([]byte("x"), 950)...), `"}],"usage":{"prompt_tokens":9,"completion_tokens":7}}`...)}
}

func (s *small) RoundTrip(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	return &http.Response{
		StatusCode: http.StatusOK, Header: jsonHeader, Request: req,
		ContentLength: int64(len(s.answer)), Body: io.NopCloser(bytes.NewReader(s.answer)),
	}, nil
}

var jsonHeader = http.Header{"Content-Type": {"application/json"}}

func BenchmarkChain(b *testing.B) {
	payload := append(append([]byte(`{"model":"m","messages":[{"role":"user","content":"`), bytes.Repeat([]byte("x"), 960)...), `"}]}`...)
	buffer := make([]byte, 4<<10)
	base := newSmall()
	chain := func(provider metric.MeterProvider) http.RoundTripper {
		return openai.NewTransport(base, openai.Config{MeterProvider: provider})
	}
	for _, row := range []struct {
		name string
		over http.RoundTripper
	}{
		{"bare", base},
		{"no-op meter", chain(noop.NewMeterProvider())},
		{"SDK meter", chain(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "https://api.openai.com/v1/chat/completions", bytes.NewReader(payload))
				if err != nil {
					b.Fatal(err)
				}
				resp, err := row.over.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = resp.Body.Read(buffer)
				}
				_ = resp.Body.Close()
			}
		})
	}
}
