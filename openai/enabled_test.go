package openai_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/openai"
)

// A choosy provider's histograms are read only where enabled says so.
type choosy struct {
	metric.MeterProvider

	enabled func(context.Context) bool
}

func (p choosy) Meter(name string, options ...metric.MeterOption) metric.Meter {
	return choosyMeter{p.MeterProvider.Meter(name, options...), p.enabled}
}

type choosyMeter struct {
	metric.Meter

	enabled func(context.Context) bool
}

func (m choosyMeter) Float64Histogram(name string, options ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	h, err := m.Meter.Float64Histogram(name, options...)
	return choosySeconds{h, m.enabled}, err
}

func (m choosyMeter) Int64Histogram(name string, options ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	h, err := m.Meter.Int64Histogram(name, options...)
	return choosyCounts{h, m.enabled}, err
}

type choosySeconds struct {
	metric.Float64Histogram

	enabled func(context.Context) bool
}

func (h choosySeconds) Enabled(ctx context.Context) bool { return h.enabled(ctx) }

type choosyCounts struct {
	metric.Int64Histogram

	enabled func(context.Context) bool
}

func (h choosyCounts) Enabled(ctx context.Context) bool { return h.enabled(ctx) }

func TestWhoMeasuresOnlySomeCallsIsAskedWithTheCall(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	tr := newChain(t, answers(reply(200, `{"model":"m-1","usage":{"prompt_tokens":9}}`)), openai.Config{MeterProvider: choosy{provider, func(ctx context.Context) bool {
		c, _ := openai.CallFrom(ctx)
		return c.Model == "measured"
	}}})
	do(t, tr, ask(t, t.Context(), "measured"))
	do(t, tr, ask(t, t.Context(), "other"))
	data := collect(t, reader)
	for _, name := range []string{inferenceDuration, "gen_ai.client.inference.operation.input_tokens", attemptDuration} {
		if n := data.count(name); n != 1 {
			t.Errorf("%d of %s", n, name)
		}
	}
}

func TestACallThatIsMeasuredFromItsMiddleOnIsRecorded(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	var on atomic.Bool
	tr := newChain(t, answers(reply(200, `{"model":"m-1"}`)), openai.Config{
		Delivery: openai.Immediate, MeterProvider: choosy{provider, func(context.Context) bool { return on.Load() }},
	})
	resp, err := tr.RoundTrip(ask(t, t.Context(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	on.Store(true)
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if n := collect(t, reader).count(inferenceDuration); n != 1 {
		t.Errorf("%d operations", n)
	}
}
