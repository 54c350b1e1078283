package openai_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

func plainCall(b testing.TB, tr http.RoundTripper) {
	req, _ := retry.NewRequest(b.Context(), http.MethodPost, chatURL, []byte(hello))
	req.Header.Set("Content-Type", "application/json")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// perHost answers at once, and allocates what a response takes.
var perHost = stub.Func(func(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	return stub.Response(200, fine), nil
})

func quietly(cfg openai.Config) openai.Config {
	cfg.MeterProvider = noop.NewMeterProvider()
	return cfg
}

func BenchmarkTargets(b *testing.B) {
	for _, row := range []struct {
		name string
		cfg  openai.Config
		open bool
	}{
		{"none", openai.Config{}, false},
		{"two, the first one healthy", openai.Config{Targets: homeAndEU()}, false},
		{"two, the first one open", openai.Config{Targets: homeAndEU(), Breaker: breaker.Config{OpenDuration: time.Hour}}, true},
	} {
		b.Run(row.name, func(b *testing.B) {
			tr := newChain(b, perHost, quietly(row.cfg))
			plainCall(b, tr)
			if row.open {
				tr.Breaker("https://api.example.com chat m home").Trip()
			}
			b.ReportAllocs()
			for b.Loop() {
				plainCall(b, tr)
			}
		})
	}
}

func TestTwoTargetsCostTwoAllocationsWhileTheFirstIsHealthy(t *testing.T) {
	without, with := newChain(t, perHost, quietly(openai.Config{})), newChain(t, perHost, quietly(openai.Config{Targets: homeAndEU()}))
	a := testing.AllocsPerRun(200, func() { plainCall(t, without) })
	b := testing.AllocsPerRun(200, func() { plainCall(t, with) })
	if b > a+2 {
		t.Errorf("%v allocations a call with two targets, %v without", b, a)
	}
}

func TestARenamedPayloadOf10MiBAllocatesNone(t *testing.T) {
	payload := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("x", 10<<20) + `"}],"model":"gpt-4o"}`)
	targets := homeAndEU()
	targets[1].Models = map[string]string{"*": "llama-3.3-70b-versatile"}
	sent := int64(0)
	base := stub.Func(func(req *http.Request) (*http.Response, error) {
		sent, _ = io.Copy(io.Discard, struct{ io.Reader }{req.Body})
		_ = req.Body.Close()
		if req.URL.Host == atHome {
			return stub.Response(503, `{}`), nil
		}
		return stub.Response(200, fine), nil
	})
	tr := newChain(t, base, quietly(openai.Config{Targets: targets, Breaker: neverOpen}))
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			req, _ := retry.NewRequest(b.Context(), http.MethodPost, chatURL, payload)
			resp, err := tr.RoundTrip(req)
			if err != nil || resp.StatusCode != 200 {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	if got := result.AllocedBytesPerOp(); got > 256<<10 || sent != int64(len(payload)+len("llama-3.3-70b-versatile")-len("gpt-4o")) {
		t.Errorf("%d bytes are allocated a call, %d sent", got, sent)
	}
}
