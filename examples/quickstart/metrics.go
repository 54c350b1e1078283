package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// shown are the attributes that the table tells apart. Series that differ in
// others, as in server.port, are added up.
var shown = []attribute.Key{
	"error.type", "http.response.status_code",
	"retrip.retry.reason", "retrip.retry.delay_source", "retrip.retry.stop_reason",
	"retrip.breaker.state", "retrip.breaker.from", "retrip.breaker.to", "retrip.breaker.outcome",
	"retrip.target", "retrip.target.from", "retrip.target.to",
}

// printMetrics prints what an exporter would send.
func printMetrics(ctx context.Context, out *timeline, reader metric.Reader) error {
	var data metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &data); err != nil {
		return err
	}
	rows := map[rowKey]row{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			addRows(rows, m)
		}
	}

	out.title("Metrics")
	table := tabwriter.NewWriter(out.w, 0, 0, 3, ' ', 0)
	for _, key := range slices.SortedFunc(maps.Keys(rows), rowKey.compare) {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", key.metric, key.labels, rows[key])
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

// A rowKey is what tells the rows of the table apart.
type rowKey struct{ metric, labels string }

func (k rowKey) compare(other rowKey) int {
	return cmp.Or(strings.Compare(k.metric, other.metric), strings.Compare(k.labels, other.labels))
}

// A row is what a metric has counted.
type row struct {
	count int64
	total float64 // of what was measured
	mean  string  // the format of the mean; "" for what is counted only
}

func (r row) String() string {
	if r.mean == "" {
		return strconv.FormatInt(r.count, 10)
	}
	return fmt.Sprintf("%d, mean "+r.mean, r.count, r.total/float64(r.count))
}

func addRows(rows map[rowKey]row, m metricdata.Metrics) {
	add := func(attrs attribute.Set, r row) {
		key := rowKey{m.Name, labels(attrs)}
		r.count += rows[key].count
		r.total += rows[key].total
		rows[key] = r
	}
	switch data := m.Data.(type) {
	case metricdata.Histogram[float64]: // of seconds, all of them
		for _, p := range data.DataPoints {
			add(p.Attributes, row{int64(p.Count), 1000 * p.Sum, "%.2f ms"})
		}
	case metricdata.Histogram[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, row{int64(p.Count), float64(p.Sum), "%.1f"})
		}
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, row{count: p.Value})
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, row{count: p.Value})
		}
	}
}

// labels returns what is shown of a series, without the prefix that its metric
// has as well.
func labels(attrs attribute.Set) string {
	var parts []string
	for _, key := range shown {
		if value, ok := attrs.Value(key); ok {
			parts = append(parts, shortName.Replace(string(key))+"="+value.Emit())
		}
	}
	return strings.Join(parts, " ")
}

var shortName = strings.NewReplacer("retrip.retry.", "", "retrip.breaker.", "", "retrip.target.", "", "retrip.", "")

func sum(rows map[rowKey]row, metric, labels string) (total int64) {
	for key, r := range rows {
		if key.metric == metric && strings.Contains(key.labels, labels) {
			total += r.count
		}
	}
	return total
}
