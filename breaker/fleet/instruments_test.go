package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// TestInstruments: no name, unit or label changes unseen.
func TestInstruments(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	m := newMeters(metric.NewMeterProvider(metric.WithReader(reader)))
	m.publish()
	m.receive()
	m.connect(true)
	for reason := range m.reasons {
		m.drop(reason)
	}
	const want = `retrip.fleet.connected {connection} false {} = 1
retrip.fleet.dropped {advice} true {retrip.fleet.reason=failed} = 1
retrip.fleet.dropped {advice} true {retrip.fleet.reason=invalid} = 1
retrip.fleet.dropped {advice} true {retrip.fleet.reason=late} = 1
retrip.fleet.dropped {advice} true {retrip.fleet.reason=not_stored} = 1
retrip.fleet.dropped {advice} true {retrip.fleet.reason=queue_full} = 1
retrip.fleet.published {advice} true {} = 1
retrip.fleet.received {advice} true {} = 1`
	if got := strings.Join(lines(t, reader), "\n"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	m.close()
	if got := lines(t, reader); strings.HasPrefix(got[0], "retrip.fleet.connected") {
		t.Errorf("after close: %s", got[0])
	}
}

// lines returns one for each series: its name, unit, whether it only rises, and
// its labels.
func lines(t *testing.T, reader *metric.ManualReader) (all []string) {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok {
				t.Fatalf("%s is a %T", m.Name, m.Data)
			}
			for _, p := range sum.DataPoints {
				all = append(all, fmt.Sprintf("%s %s %v {%s} = %d", m.Name, m.Unit, sum.IsMonotonic, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Value))
			}
		}
	}
	slices.Sort(all)
	return all
}
