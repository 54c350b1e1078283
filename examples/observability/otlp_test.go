package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// maxSeries is what one instrument may have, far below the SDK's 2,000: 128 names
// of breakers and _OTHER in three states are the most there are.
const maxSeries = 129 * 3

// TestAnExportTakesWhateverIsCalled: a model's name and a host are of whoever calls,
// and one text that is no UTF-8 would have all refused that is exported with it.
func TestAnExportTakesWhateverIsCalled(t *testing.T) {
	t.Parallel()
	var received inbox
	srv := httptest.NewServer(&received)
	defer srv.Close()
	exporter, err := otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithEndpointURL(srv.URL+"/v1/metrics"), otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}))
	if err != nil {
		t.Fatal(err)
	}
	provider := metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(exporter)))
	const calls = 10_000
	callAnything(t, provider, calls)
	if err := provider.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Fatalf("the export: %v", err)
	}
	received.check(t, calls)
}

// callAnything makes calls, each of another model to another host. Some fail and
// are repeated elsewhere.
func callAnything(t *testing.T, provider *metric.MeterProvider, calls int) {
	t.Helper()
	n := 0
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		n++
		status, body := http.StatusOK, fmt.Sprintf(`{"object":"chat.completion","model":"answered-\ud800-%d","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}`, n)
		switch n % 5 {
		case 1:
			status, body = http.StatusServiceUnavailable, `{}`
		case 2:
			status, body = http.StatusTooManyRequests, `{}`
		}
		header := http.Header{"Content-Type": {"application/json"}, "Retry-After-Ms": {"1"}}
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req}, nil
	})
	transport := retrip.NewTransport(base, retrip.Config{
		MeterProvider: provider,
		Targets:       []retrip.Target{{}, {Name: "b\xff", BaseURL: "https://b.example.com/v1", Header: http.Header{"Api-Key": {"none"}}, Tier: 1}},
	})
	defer transport.CloseIdleConnections()
	for i := range calls {
		payload := fmt.Sprintf(`{"model":"asked-%s-%d","messages":[]}`, strings.Repeat("\xff", i%200), i)
		req, err := retry.NewRequest(t.Context(), http.MethodPost, "https://api.example.com/v1/chat/completions", []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		req.URL = &url.URL{Scheme: "https", Host: fmt.Sprintf("\xff\xfe-%d.example.com:%d", i, i), Path: req.URL.Path}
		if resp, err := transport.RoundTrip(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// An inbox receives exports as a collector does.
type inbox struct {
	mu      sync.Mutex
	exports []*collector.ExportMetricsServiceRequest
	refused error
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	export := new(collector.ExportMetricsServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, export) // which refuses a text that is no UTF-8
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.refused = err
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.exports = append(b.exports, export)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// check looks at the last export, which has all there is.
func (b *inbox) check(t *testing.T, calls uint64) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused != nil || len(b.exports) == 0 {
		t.Fatalf("%d exports; refused: %v", len(b.exports), b.refused)
	}
	counted := uint64(0)
	for _, resource := range b.exports[len(b.exports)-1].GetResourceMetrics() {
		for _, scope := range resource.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				series, observations := pointsOf(m)
				if m.GetName() == "gen_ai.client.inference.duration" {
					counted = observations
				}
				t.Logf("%4d series of %s", len(series), m.GetName())
				if len(series) == 0 || len(series) > maxSeries {
					t.Errorf("%d series of %s", len(series), m.GetName())
				}
				for _, attributes := range series {
					checkLabels(t, m.GetName(), attributes)
				}
			}
		}
	}
	if counted != calls {
		t.Errorf("%d operations are counted, of %d", counted, calls)
	}
}

func checkLabels(t *testing.T, name string, attributes []*common.KeyValue) {
	t.Helper()
	for _, a := range attributes {
		text := a.GetValue().GetStringValue()
		if a.GetKey() == "otel.metric.overflow" || len(text) > 128 || !utf8.ValidString(text) {
			t.Errorf("%s has %v", name, a)
		}
	}
}

// pointsOf returns the attributes of each series of a metric, and how many
// observations a histogram has.
func pointsOf(m *metrics.Metric) (series [][]*common.KeyValue, observations uint64) {
	for _, p := range m.GetSum().GetDataPoints() {
		series = append(series, p.GetAttributes())
	}
	for _, p := range m.GetGauge().GetDataPoints() {
		series = append(series, p.GetAttributes())
	}
	for _, p := range m.GetHistogram().GetDataPoints() {
		series = append(series, p.GetAttributes())
		observations += p.GetCount()
	}
	return series, observations
}
