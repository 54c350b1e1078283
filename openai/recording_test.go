//go:build !race

package openai

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/throttle"
)

// Every recording of a call whose like was recorded before allocates nothing of
// ours, and nothing of the SDK's.
func TestARecordingAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	chat := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1/chat/completions"}
	o := &operation{url: chat, metrics: newOperationRecorder(provider)}
	o.request.URL, o.request.Header, o.request.Method = chat, http.Header{}, http.MethodPost
	o.kind = endpointOf(&o.request)
	o.call.Context = context.Background()
	o.call.Subject = call.Subject{Endpoint: "chat", Model: "gpt-5-mini"}
	o.call.Start = time.Now()
	attempt := new(call.Attempt)
	attempt.Init(&o.call)
	req := o.request.WithContext(attempt)
	said := summary{first: time.Second, facts: facts{model: "gpt-5-mini-1", usage: usage{input: count{9, true}, output: count{7, true}, reasoning: count{1, true}}}}

	cfg := Config{MeterProvider: provider}.normalised()
	attempts := NewMetricsTransport(nil, MetricsConfig{MeterProvider: provider})
	pacing := &pacer{}
	waits := newPacingRecorder(&cfg, pacing)
	defer func() { _ = waits.gauges.leave(pacing) }()
	account := waits.labels(chat, &o.call.Subject)
	moves := newFailoverRecorder(&cfg)
	home, eu := &destination{name: "home"}, &destination{name: "eu"}

	for name, record := range map[string]func(){
		"an operation":       func() { o.metrics.record(o, said, "") },
		"a failed operation": func() { o.metrics.record(o, summary{}, "503") },
		"a stream":           func() { o.metrics.streamOver(req, "complete") },
		"a resume":           func() { o.metrics.resumed(o, outcomeResumed) },
		"an attempt":         func() { attempts.record(req, time.Second, &http.Response{StatusCode: http.StatusOK}, nil) },
		"a wait for a limit": func() { waits.waited(&o.call, account, time.Second, throttle.Admitted) },
		"a move to a target": func() { moves.failover(&o.call, o, home, eu, "503") },
	} {
		record()
		n := testing.AllocsPerRun(100, record)
		t.Logf("%s: %v allocations", name, n)
		if n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}
