package openai

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/internal/call"
)

// BenchmarkBeforeTheFirst429 measures all that pacing does for an attempt of an
// account that had none: its credential is hashed, its account found, the call
// counted.
func BenchmarkBeforeTheFirst429(b *testing.B) {
	cfg := Config{MeterProvider: noop.NewMeterProvider()}.normalised()
	p := newPacer(http.DefaultTransport, nil, &cfg)
	c := new(call.Call)
	c.Model = "gpt-5-mini"
	c.Start = p.clock.Now()
	req, err := http.NewRequestWithContext(c.Init(b.Context()), http.MethodPost, "https://api.openai.com/v1/chat/completions", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk-proj-0123456789012345678901234567890123456789")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "OpenAI/Go 3.0.0")
	o := new(operation)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.admit(req, c, o, p.accounts.get(req, c)); err != nil {
			b.Fatal(err)
		}
	}
}
