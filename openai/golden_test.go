package openai_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/retrip-go/retrip/internal/measure"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

const (
	usageEvent = `data: {"model":"m-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}` + "\n\n"
	goodAnswer = `{"model":"m-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}`
)

// play makes one call of each kind there is, one after the other, and each to a
// base of its own.
func play(t *testing.T, tr http.RoundTripper, next *stub.Func) {
	t.Helper()
	one := retry.WithMaxAttempts(t.Context(), 1)
	call := func(ctx context.Context, model string, base ...stub.Func) *http.Response {
		t.Helper()
		*next = answers(base...).RoundTrip
		resp, err := tr.RoundTrip(ask(t, ctx, model))
		if err != nil {
			return nil
		}
		return resp
	}
	whole := func(resp *http.Response) {
		if resp != nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	stream := func(parts ...part) stub.Func { return slowly(timed(parts...)) }
	good := slowly(reply(200, goodAnswer))

	// Model m: answers, retries and an exhaustion.
	whole(call(t.Context(), "m", good))
	whole(call(t.Context(), "m", stream(part{0, roleEvent}, part{time.Second, tokenEvent}, part{time.Second, endEvent + usageEvent + doneEvent})))
	whole(call(t.Context(), "m", slowly(reply(503, "busy")), good))
	whole(call(t.Context(), "m", slowly(reply(500, "broken"))))
	whole(call(t.Context(), "m", slowly(reply(400, "your fault"))))
	whole(call(t.Context(), "m", slowly(reply(200, `{"choices":[`)), slowly(reply(200, `{"error":{"code":"server_error"}}`))))
	whole(call(t.Context(), "m", stream(part{0, roleEvent}, part{0, `data: {"error":{"code":"overloaded"}}` + "\n\n"}), good))

	// Model limited: a 429, and one who waits its pause out.
	whole(call(one, "limited", slowly(reply(429, "slow", "Retry-After", "2"))))
	whole(call(t.Context(), "limited", good))

	// Model dead: a breaker opens, and refuses.
	for range 5 {
		whole(call(one, "dead", slowly(lost(io.EOF))))
		time.Sleep(apart)
	}
	whole(call(t.Context(), "dead", good))

	// Model s: streams that end as they should not.
	whole(call(t.Context(), "s", stream(part{0, tokenEvent})))
	whole(call(t.Context(), "s", stream(part{0, tokenEvent}, part{0, `data: {"error":{"code":"server_error"}}` + "\n\n" + doneEvent})))
	whole(call(t.Context(), "s", stream(part{0, tokenEvent}, part{time.Hour, doneEvent})))
	whole(call(t.Context(), "s", slowly(replyWith(200, func() io.Reader {
		return io.MultiReader(strings.NewReader(tokenEvent), errReader{io.ErrUnexpectedEOF})
	}, -1, "Content-Type", "text/event-stream"))))
	_ = call(t.Context(), "s", stream(part{0, tokenEvent}, part{time.Hour, doneEvent})).Body.Close()
	ctx, cancel := context.WithCancel(t.Context())
	resp := call(ctx, "s", stream(part{0, tokenEvent}, part{time.Hour, doneEvent}))
	time.AfterFunc(time.Second, cancel)
	whole(resp)
	whole(call(ctx, "s", good)) // refused before it begins
}

// boundsOf names the buckets of a histogram.
func boundsOf(bounds []float64) string {
	for name, known := range map[string][]float64{
		"seconds": measure.SecondsBounds, "delays": measure.DelayBounds, "tokens": measure.TokenBounds, "attempts": measure.AttemptBounds,
	} {
		if slices.Equal(bounds, known) {
			return name
		}
	}
	return fmt.Sprint(bounds)
}

// abbreviated writes attributes in order; B and E stand for the base
// attributes and the endpoint labels of metrics.md, with the model.
func abbreviated(attrs map[string]string) string {
	attrs = maps.Clone(attrs)
	var b strings.Builder
	for _, short := range []struct {
		name  string
		attrs map[string]string
	}{
		{"B", map[string]string{
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "server.address": "api.example.com", "server.port": "443",
		}},
		{"E", map[string]string{"retrip.backend": "external", "retrip.endpoint": "chat", "server.address": "api.example.com"}},
	} {
		have := true
		for key, value := range short.attrs {
			have = have && attrs[key] == value
		}
		if !have {
			continue
		}
		b.WriteString(" " + short.name + "(" + cmp.Or(attrs["gen_ai.request.model"], "-") + ")")
		delete(attrs, "gen_ai.request.model")
		for key := range short.attrs {
			delete(attrs, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		b.WriteString(" " + key + "=" + attrs[key])
	}
	return b.String()
}

// golden renders all that was collected, a line a series. What depends on
// chance, the random share of a wait, has no sum.
func golden(t *testing.T, reader *sdk.ManualReader) string {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			head := strings.TrimPrefix(scope.Scope.Name, measure.Module+"/") + ": " + m.Name + " " + m.Unit + " "
			add := func(kind string, attrs map[string]string, count uint64, sum float64) {
				text := abbreviated(attrs)
				value := fmt.Sprintf(" = %.6g", sum)
				if count > 0 {
					value = fmt.Sprintf(" = %d of %.6g", count, sum)
				}
				if m.Unit == "s" && (attrs["gen_ai.request.model"] == "limited" && attrs["error.type"] == "" && m.Name == inferenceDuration || m.Name == "retrip.pacing.waits") {
					value = fmt.Sprintf(" = %d", count)
				}
				lines = append(lines, head+kind+text+value)
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				kind := "counter"
				if !d.IsMonotonic {
					kind = "updowncounter"
				}
				for _, p := range d.DataPoints {
					add(kind, texts(p.Attributes.ToSlice()), 0, float64(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					add("gauge", texts(p.Attributes.ToSlice()), 0, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					add("gauge", texts(p.Attributes.ToSlice()), 0, p.Value)
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					add(boundsOf(p.Bounds), texts(p.Attributes.ToSlice()), p.Count, float64(p.Sum))
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					add(boundsOf(p.Bounds), texts(p.Attributes.ToSlice()), p.Count, p.Sum)
				}
			default:
				t.Errorf("%s is a %T", m.Name, m.Data)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// TestAllInstruments compares what one scenario records, in full, with what
// metrics.md demands.
func TestAllInstruments(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		var next stub.Func
		base := stub.Func(func(req *http.Request) (*http.Response, error) { return next(req) })
		tr := newChain(t, base, openai.Config{
			MeterProvider: provider, IdleTimeout: 5 * time.Second, Retry: retry.Config{MaxAttempts: 2, Backoff: at(time.Second)},
		})
		play(t, tr, &next)
		got := golden(t, reader)
		if got == wantGolden {
			return
		}
		want := strings.Split(wantGolden, "\n")
		for line := range strings.SplitSeq(got, "\n") {
			if i := slices.Index(want, line); i >= 0 {
				want = slices.Delete(want, i, i+1)
				continue
			}
			t.Errorf("recorded %s", line)
		}
		for _, line := range want {
			t.Errorf("missing  %s", line)
		}
	})
}

// wantGolden was checked by hand against metrics.md: 22 operations, of which 2
// never started, and 4 retries are 24 attempts and as many permits.
const wantGolden = `breaker: retrip.breaker.calls {call} counter gen_ai.request.model=dead retrip.breaker.name=https://api.example.com chat dead retrip.breaker.outcome=failure = 5
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=dead retrip.breaker.name=https://api.example.com chat dead retrip.breaker.outcome=rejected = 1
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=limited retrip.breaker.name=https://api.example.com chat limited retrip.breaker.outcome=ignored = 1
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=limited retrip.breaker.name=https://api.example.com chat limited retrip.breaker.outcome=success = 1
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=m retrip.breaker.name=https://api.example.com chat m retrip.breaker.outcome=failure = 6
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=m retrip.breaker.name=https://api.example.com chat m retrip.breaker.outcome=ignored = 1
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=m retrip.breaker.name=https://api.example.com chat m retrip.breaker.outcome=success = 4
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=s retrip.breaker.name=https://api.example.com chat s retrip.breaker.outcome=failure = 4
breaker: retrip.breaker.calls {call} counter gen_ai.request.model=s retrip.breaker.name=https://api.example.com chat s retrip.breaker.outcome=success = 2
breaker: retrip.breaker.consecutive_failures {failure} gauge gen_ai.request.model=dead retrip.breaker.name=https://api.example.com chat dead = 0
breaker: retrip.breaker.consecutive_failures {failure} gauge gen_ai.request.model=limited retrip.breaker.name=https://api.example.com chat limited = 0
breaker: retrip.breaker.consecutive_failures {failure} gauge gen_ai.request.model=m retrip.breaker.name=https://api.example.com chat m = 0
breaker: retrip.breaker.consecutive_failures {failure} gauge gen_ai.request.model=s retrip.breaker.name=https://api.example.com chat s = 2
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=dead retrip.breaker.name=https://api.example.com chat dead retrip.breaker.state=closed = 0
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=dead retrip.breaker.name=https://api.example.com chat dead retrip.breaker.state=half_open = 1
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=dead retrip.breaker.name=https://api.example.com chat dead retrip.breaker.state=open = 0
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=limited retrip.breaker.name=https://api.example.com chat limited retrip.breaker.state=closed = 1
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=limited retrip.breaker.name=https://api.example.com chat limited retrip.breaker.state=half_open = 0
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=limited retrip.breaker.name=https://api.example.com chat limited retrip.breaker.state=open = 0
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=m retrip.breaker.name=https://api.example.com chat m retrip.breaker.state=closed = 1
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=m retrip.breaker.name=https://api.example.com chat m retrip.breaker.state=half_open = 0
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=m retrip.breaker.name=https://api.example.com chat m retrip.breaker.state=open = 0
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=s retrip.breaker.name=https://api.example.com chat s retrip.breaker.state=closed = 1
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=s retrip.breaker.name=https://api.example.com chat s retrip.breaker.state=half_open = 0
breaker: retrip.breaker.state {breaker} updowncounter gen_ai.request.model=s retrip.breaker.name=https://api.example.com chat s retrip.breaker.state=open = 0
breaker: retrip.breaker.transitions {transition} counter gen_ai.request.model=dead retrip.breaker.from=closed retrip.breaker.name=https://api.example.com chat dead retrip.breaker.to=open = 1
openai: gen_ai.client.inference.duration s seconds B(-) error.type=canceled = 1 of 0
openai: gen_ai.client.inference.duration s seconds B(dead) error.type=circuit_open = 1 of 0
openai: gen_ai.client.inference.duration s seconds B(dead) error.type=connection_error = 5 of 0.5
openai: gen_ai.client.inference.duration s seconds B(limited) error.type=429 = 1 of 0.1
openai: gen_ai.client.inference.duration s seconds B(limited) gen_ai.response.model=m-1 = 1
openai: gen_ai.client.inference.duration s seconds B(m) error.type=400 = 1 of 0.1
openai: gen_ai.client.inference.duration s seconds B(m) error.type=500 = 1 of 1.2
openai: gen_ai.client.inference.duration s seconds B(m) error.type=stream_error = 1 of 1.2
openai: gen_ai.client.inference.duration s seconds B(m) gen_ai.response.model=m-1 = 4 of 4.6
openai: gen_ai.client.inference.duration s seconds B(s) = 1 of 0.1
openai: gen_ai.client.inference.duration s seconds B(s) error.type=canceled = 1 of 1.1
openai: gen_ai.client.inference.duration s seconds B(s) error.type=connection_error = 1 of 0.1
openai: gen_ai.client.inference.duration s seconds B(s) error.type=stream_error = 1 of 0.1
openai: gen_ai.client.inference.duration s seconds B(s) error.type=timeout = 1 of 5.1
openai: gen_ai.client.inference.duration s seconds B(s) error.type=truncated = 1 of 0.1
openai: gen_ai.client.inference.operation.input_tokens {token} tokens B(limited) gen_ai.response.model=m-1 = 1 of 9
openai: gen_ai.client.inference.operation.input_tokens {token} tokens B(m) gen_ai.response.model=m-1 = 4 of 36
openai: gen_ai.client.inference.operation.output_tokens {token} tokens B(limited) gen_ai.response.model=m-1 = 1 of 7
openai: gen_ai.client.inference.operation.output_tokens {token} tokens B(m) gen_ai.response.model=m-1 = 4 of 28
openai: gen_ai.client.inference.time_to_first_chunk s seconds B(m) gen_ai.response.model=m-1 = 1 of 1.1
openai: gen_ai.client.inference.time_to_first_chunk s seconds B(s) = 6 of 0.6
openai: gen_ai.client.inference.usage.input_tokens {token} counter B(limited) gen_ai.response.model=m-1 = 9
openai: gen_ai.client.inference.usage.input_tokens {token} counter B(m) gen_ai.response.model=m-1 = 36
openai: gen_ai.client.inference.usage.output_tokens {token} counter B(limited) gen_ai.response.model=m-1 = 7
openai: gen_ai.client.inference.usage.output_tokens {token} counter B(m) gen_ai.response.model=m-1 = 28
openai: retrip.client.attempt.duration s seconds B(dead) error.type=connection_error = 5 of 0.5
openai: retrip.client.attempt.duration s seconds B(limited) error.type=429 http.response.status_code=429 = 1 of 0.1
openai: retrip.client.attempt.duration s seconds B(limited) http.response.status_code=200 = 1 of 0.1
openai: retrip.client.attempt.duration s seconds B(m) error.type=400 http.response.status_code=400 = 1 of 0.1
openai: retrip.client.attempt.duration s seconds B(m) error.type=500 http.response.status_code=500 = 2 of 0.2
openai: retrip.client.attempt.duration s seconds B(m) error.type=503 http.response.status_code=503 = 1 of 0.1
openai: retrip.client.attempt.duration s seconds B(m) http.response.status_code=200 = 7 of 0.7
openai: retrip.client.attempt.duration s seconds B(s) http.response.status_code=200 = 6 of 0.6
openai: retrip.client.stream.outcomes {stream} counter B(m) retrip.stream.outcome=complete = 1
openai: retrip.client.stream.outcomes {stream} counter B(m) retrip.stream.outcome=error_event = 1
openai: retrip.client.stream.outcomes {stream} counter B(s) retrip.stream.outcome=closed_by_caller = 2
openai: retrip.client.stream.outcomes {stream} counter B(s) retrip.stream.outcome=error_event = 1
openai: retrip.client.stream.outcomes {stream} counter B(s) retrip.stream.outcome=reset = 1
openai: retrip.client.stream.outcomes {stream} counter B(s) retrip.stream.outcome=stalled = 1
openai: retrip.client.stream.outcomes {stream} counter B(s) retrip.stream.outcome=truncated = 1
openai: retrip.pacing.rate {request}/s gauge gen_ai.request.model=limited server.address=api.example.com = 1
openai: retrip.pacing.waiting {call} updowncounter gen_ai.request.model=limited server.address=api.example.com = 0
openai: retrip.pacing.waits s delays E(limited) retrip.pacing.outcome=admitted = 1
retry: retrip.retries {retry} counter E(m) error.type=500 retrip.retry.delay_source=backoff retrip.retry.reason=server_error = 1
retry: retrip.retries {retry} counter E(m) error.type=503 retrip.retry.delay_source=backoff retrip.retry.reason=overloaded = 1
retry: retrip.retries {retry} counter E(m) error.type=stream_error retrip.retry.delay_source=backoff retrip.retry.reason=overloaded = 1
retry: retrip.retries {retry} counter E(m) error.type=truncated retrip.retry.delay_source=backoff retrip.retry.reason=broken_body = 1
retry: retrip.retry.attempts {attempt} attempts E(dead) error.type=connection_error = 5 of 5
retry: retrip.retry.attempts {attempt} attempts E(limited) = 1 of 1
retry: retrip.retry.attempts {attempt} attempts E(limited) error.type=429 = 1 of 1
retry: retrip.retry.attempts {attempt} attempts E(m) = 4 of 6
retry: retrip.retry.attempts {attempt} attempts E(m) error.type=400 = 1 of 1
retry: retrip.retry.attempts {attempt} attempts E(m) error.type=500 = 1 of 2
retry: retrip.retry.attempts {attempt} attempts E(m) error.type=stream_error = 1 of 2
retry: retrip.retry.attempts {attempt} attempts E(s) = 6 of 6
retry: retrip.retry.delay s delays E(m) retrip.retry.delay_source=backoff = 4 of 4
retry: retrip.retry.exhaustions {call} counter E(dead) error.type=connection_error retrip.retry.stop_reason=attempts = 5
retry: retrip.retry.exhaustions {call} counter E(limited) error.type=429 retrip.retry.stop_reason=attempts = 1
retry: retrip.retry.exhaustions {call} counter E(m) error.type=500 retrip.retry.stop_reason=attempts = 1
retry: retrip.retry.exhaustions {call} counter E(m) error.type=stream_error retrip.retry.stop_reason=attempts = 1
`
