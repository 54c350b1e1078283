package soak

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

const (
	inferenceDuration = "gen_ai.client.inference.duration"
	operationDuration = "gen_ai.client.operation.duration"
	attemptDuration   = "retrip.client.attempt.duration"
)

// A series is what an instrument recorded under one set of attributes.
type series struct {
	name  string
	attrs attribute.Set
	count uint64
	sum   float64
}

// books are all series of a chain.
type books []series

func collect(t testing.TB, reader *sdk.ManualReader) (all books) {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		t.Fatal(err)
	}
	numbers := func(name string, points []metricdata.DataPoint[int64]) {
		for _, p := range points {
			all = append(all, series{name, p.Attributes, 1, float64(p.Value)})
		}
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				numbers(m.Name, d.DataPoints)
			case metricdata.Gauge[int64]:
				numbers(m.Name, d.DataPoints)
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, p.Attributes, 1, p.Value})
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, p.Attributes, p.Count, float64(p.Sum)})
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, p.Attributes, p.Count, p.Sum})
				}
			default:
				t.Errorf("%s is a %T", m.Name, m.Data)
			}
		}
	}
	return all
}

// total adds up the series of an instrument that have these attributes.
func (b books) total(name string, attrs ...string) (count uint64, sum float64) {
next:
	for _, s := range b {
		if s.name != name {
			continue
		}
		for i := 0; i < len(attrs); i += 2 {
			if value, ok := s.attrs.Value(attribute.Key(attrs[i])); !ok || value.Emit() != attrs[i+1] {
				continue next
			}
		}
		count, sum = count+s.count, sum+s.sum
	}
	return count, sum
}

func (b books) count(name string) uint64 {
	count, _ := b.total(name)
	return count
}

func (b books) sum(name string, attrs ...string) float64 {
	_, sum := b.total(name, attrs...)
	return sum
}
