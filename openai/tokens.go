package openai

import (
	"context"

	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/measure"
)

// A tokenRecorder records the tokens of operations as their providers counted them.
// Nothing is estimated: a provider that sends no usage leaves no trace here. The
// conventions have two kinds of instruments, a histogram of what one operation used
// and counters of the total.
type tokenRecorder struct {
	// The histograms say how large calls are, which sizes a model server.
	inputOfOne, outputOfOne measure.IntHistogram
	// The counters say what is billed. Cache and reasoning have no histogram in the
	// conventions. They are parts of the others at some providers, so that adding them
	// up would count tokens twice.
	input, output, cacheRead, cacheWrite, reasoning measure.Counter
}

// newTokenRecorder makes the instruments. measure replaces one that can't be made,
// so metrics never fail a Transport.
func newTokenRecorder(m metric.Meter) tokenRecorder {
	counter := func(name, description string) measure.Counter {
		return measure.NewCounter(m, name, "{token}", description)
	}
	return tokenRecorder{
		inputOfOne:  measure.NewIntHistogram(m, metricInputOfOne, "{token}", "Tokens of a call's input.", measure.TokenBounds),
		outputOfOne: measure.NewIntHistogram(m, metricOutputOfOne, "{token}", "Tokens of a call's output.", measure.TokenBounds),
		input:       counter(metricInput, "Tokens of all input."),
		output:      counter(metricOutput, "Tokens of all output."),
		cacheRead:   counter(metricCacheRead, "Tokens of input that were read from the provider's cache."),
		cacheWrite:  counter(metricCacheWrite, "Tokens of input that were written to the provider's cache."),
		reasoning:   counter(metricReasoning, "Tokens of output that the model reasoned with."),
	}
}

// enabled reports whether one of the instruments has a reader. A view may drop some of
// them, and the numbers are needed as long as one is left.
func (r *tokenRecorder) enabled(ctx context.Context) bool {
	for _, i := range [...]measure.Counter{r.inputOfOne, r.outputOfOne, r.input, r.output, r.cacheRead, r.cacheWrite, r.reasoning} {
		if i.Enabled(ctx) {
			return true
		}
	}
	return false
}

// record records the counts that the provider sent. A count that is unknown is left
// out, since a zero would say that nothing was used. All instruments share the options
// of the operation, which are made once for each series and not for each call.
func (r *tokenRecorder) record(ctx context.Context, u *usage, o *measure.Options) {
	for _, c := range [...]struct {
		instrument measure.Counter
		count      count
	}{
		{r.inputOfOne, u.input},
		{r.outputOfOne, u.output},
		{r.input, u.input},
		{r.output, u.output},
		{r.cacheRead, u.cacheRead},
		{r.cacheWrite, u.cacheWrite},
		{r.reasoning, u.reasoning},
	} {
		if c.count.known {
			c.instrument.Record(ctx, c.count.n, o)
		}
	}
}
