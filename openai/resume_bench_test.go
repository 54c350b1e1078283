package openai_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// streamResponse reads the stream of a response.
func streamResponse(t testing.TB, chain http.RoundTripper, payload []byte, buffer []byte) {
	req, err := retry.NewRequest(t.Context(), http.MethodPost, responsesURL, payload)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := chain.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buffer); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// BenchmarkResponse is the stream of a response of 200 words. What is not in the
// background pays nothing for what is.
func BenchmarkResponse(b *testing.B) {
	base := &stub.Repeated{Type: "text/event-stream", Body: []byte(strings.Join(background(200), "")), Unsized: true}
	chain := newChain(b, base, openai.Config{MeterProvider: noop.NewMeterProvider()})
	for name, payload := range map[string]string{"plain": `{"model":"m","input":"hi","stream":true}`, "in the background": inBackground} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buffer := make([]byte, 4<<10)
			for b.Loop() {
				streamResponse(b, chain, []byte(payload), buffer)
			}
		})
	}
}

func TestWhatIsNotInTheBackgroundAllocatesNothingForIt(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	base := &stub.Repeated{Type: "text/event-stream", Body: []byte(strings.Join(background(20), "")), Unsized: true}
	chain := newChain(t, base, openai.Config{MeterProvider: noop.NewMeterProvider()})
	buffer := make([]byte, 4<<10)
	allocations := func(payload string) float64 {
		data := []byte(payload)
		return testing.AllocsPerRun(200, func() { streamResponse(t, chain, data, buffer) })
	}
	plain := allocations(`{"model":"m","input":"hi","stream":true}`)
	for _, payload := range []string{
		`{"model":"m","input":"hi","stream":true,"background":false}`, `{"model":"m","input":"hi","stream":true,"background":null,"include":null}`,
		`{"model":"m","input":"hi","stream":true,"stream_options":{"include_usage":true}}`,
	} {
		if got := allocations(payload); got != plain {
			t.Errorf("%s: %v allocations, without %v", payload, got, plain)
		}
	}
}
