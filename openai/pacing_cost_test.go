package openai

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/internal/call"
)

func TestACallCostsItsPayloadAndFourBytesForEachTokenOfItsAnswer(t *testing.T) {
	t.Parallel()
	cfg := Config{MeterProvider: noop.NewMeterProvider()}.normalised()
	for name, row := range map[string]struct{ length, tokens, want int64 }{
		"a payload alone":                {length: 500, want: 500},
		"tokens beside it":               {length: 500, tokens: 1000, want: 4500},
		"a payload of an unknown length": {length: -1, tokens: 1000, want: 4000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPacer(http.DefaultTransport, nil, &cfg)
			c := new(call.Call)
			c.Start, c.MaxTokens = p.clock.Now(), row.tokens
			req, err := http.NewRequestWithContext(c.Init(t.Context()), http.MethodPost, "https://api.openai.com/v1/chat/completions", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = row.length
			if sent, err := p.admit(req, c, new(operation), p.accounts.get(req, c)); err != nil || sent.Cost != row.want {
				t.Errorf("costs %d, %v, want %d", sent.Cost, err, row.want)
			}
		})
	}
}

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
