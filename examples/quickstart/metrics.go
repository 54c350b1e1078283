package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// told are the attributes that the table tells apart. The others, as model and
// server.address, have one value each here.
var told = []attribute.Key{
	"error.type", "http.response.status_code",
	"retrip.retry.reason", "retrip.retry.delay_source", "retrip.retry.stop_reason",
	"retrip.breaker.state", "retrip.breaker.from", "retrip.breaker.to", "retrip.breaker.outcome",
}

// printMetrics prints what an exporter would send.
func printMetrics(ctx context.Context, out *timeline, reader metric.Reader) error {
	var data metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &data); err != nil {
		return err
	}
	var rows []row
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			rows = append(rows, rowsOf(m)...)
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.metric+a.labels, b.metric+b.labels) })

	out.title("Metrics")
	table := tabwriter.NewWriter(out.w, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", r.metric, r.labels, r.text)
	}
	if err := table.Flush(); err != nil {
		return err
	}

	operations := sum(rows, "gen_ai.client.inference.duration", "")
	rejected := sum(rows, "gen_ai.client.inference.duration", "error.type=circuit_open")
	retries := sum(rows, "retrip.retries", "")
	attempts := sum(rows, "retrip.client.attempt.duration", "")
	out.title(fmt.Sprintf("%d operations - %d rejected + %d retries = %d attempts", operations, rejected, retries, attempts))
	return nil
}

// A row is one series of a metric.
type row struct {
	metric, labels, text string
	count                int64
}

func rowsOf(m metricdata.Metrics) []row {
	var rows []row
	add := func(attrs attribute.Set, count int64, text string) {
		rows = append(rows, row{m.Name, labels(attrs), text, count})
	}
	switch data := m.Data.(type) {
	case metricdata.Histogram[float64]: // of seconds, all of them
		for _, p := range data.DataPoints {
			add(p.Attributes, int64(p.Count), fmt.Sprintf("%d, mean %.2f ms", p.Count, 1000*p.Sum/float64(p.Count)))
		}
	case metricdata.Histogram[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, int64(p.Count), fmt.Sprintf("%d, mean %.1f", p.Count, float64(p.Sum)/float64(p.Count)))
		}
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value, strconv.FormatInt(p.Value, 10))
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value, strconv.FormatInt(p.Value, 10))
		}
	}
	return rows
}

// labels returns what is told of a series, without the prefix that its metric
// has as well.
func labels(attrs attribute.Set) string {
	var parts []string
	for _, key := range told {
		if value, ok := attrs.Value(key); ok {
			name := strings.TrimPrefix(strings.TrimPrefix(string(key), "retrip.retry."), "retrip.breaker.")
			parts = append(parts, name+"="+value.Emit())
		}
	}
	return strings.Join(parts, " ")
}

func sum(rows []row, metric, labels string) (total int64) {
	for _, r := range rows {
		if r.metric == metric && strings.Contains(r.labels, labels) {
			total += r.count
		}
	}
	return total
}
