package retry

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/retrip-go/retrip/internal/stub"
)

// collect returns one line for each series: its name, attributes and count.
func collect(t testing.TB, reader *metric.ManualReader) []string {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					lines = append(lines, fmt.Sprintf("%s {%s} = %d", m.Name, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Value))
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					lines = append(lines, fmt.Sprintf("%s {%s} = %d in %d", m.Name, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Sum, p.Count))
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					lines = append(lines, fmt.Sprintf("%s {%s} = %g in %d", m.Name, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Sum, p.Count))
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader := metric.NewManualReader()
		cfg := Config{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)), Backoff: steady(500e6), MaxAttempts: 3}
		for _, base := range []*stub.Base{
			answers(status(200)),
			answers(status(503), status(200)),
			answers(status(500)),
			answers(status(400)),
			answers(reject()),
		} {
			transport := NewTransport(base, cfg)
			resp, err := transport.RoundTrip(keyed(t.Context(), t, nil))
			if err == nil {
				readAll(t, resp)
			}
		}
		const at = "retrip.backend=external,server.address=api.example.com"
		want := []string{
			"retrip.retries {error.type=500," + "retrip.backend=external,retrip.retry.delay_source=backoff,retrip.retry.reason=server_error,server.address=api.example.com} = 2",
			"retrip.retries {error.type=503," + "retrip.backend=external,retrip.retry.delay_source=backoff,retrip.retry.reason=overloaded,server.address=api.example.com} = 1",
			"retrip.retry.attempts {" + at + "} = 3 in 2",
			"retrip.retry.attempts {error.type=400," + at + "} = 1 in 1",
			"retrip.retry.attempts {error.type=500," + at + "} = 3 in 1",
			"retrip.retry.delay {retrip.backend=external,retrip.retry.delay_source=backoff,server.address=api.example.com} = 1.5 in 3",
			"retrip.retry.exhaustions {error.type=500,retrip.backend=external,retrip.retry.stop_reason=attempts,server.address=api.example.com} = 1",
		}
		slices.Sort(want)
		got := collect(t, reader)
		for _, line := range got {
			if !slices.Contains(want, line) {
				t.Errorf("unexpected: %s", line)
			}
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("missing:    %s", line)
			}
		}
	})
}

func TestReasonsOfOthersAreNoLabels(t *testing.T) {
	t.Parallel()
	for reason, want := range map[Reason]string{StopPolicy: "policy", NotRetryable: "", "of the user's own": "_OTHER"} {
		if got := reason.label(); got != want {
			t.Errorf("%q is %q", reason, got)
		}
	}
}
