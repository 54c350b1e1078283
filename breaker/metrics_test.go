package breaker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
)

// collect returns one line for each series, and one for each instrument.
func collect(t *testing.T, reader sdk.Reader) []string {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, scope := range rm.ScopeMetrics {
		if scope.Scope.Name != "github.com/retrip-go/retrip/breaker" {
			t.Errorf("scope %q", scope.Scope.Name)
		}
		for _, m := range scope.Metrics {
			var kind string
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				kind, points = "updowncounter", data.DataPoints
				if data.IsMonotonic {
					kind = "counter"
				}
			case metricdata.Gauge[int64]:
				kind, points = "gauge", data.DataPoints
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
			name := strings.TrimPrefix(m.Name, "retrip.breaker.")
			lines = append(lines, fmt.Sprintf("%s: %s %s", name, kind, m.Unit))
			for _, p := range points {
				var attrs []string
				for _, kv := range p.Attributes.ToSlice() {
					attrs = append(attrs, strings.TrimPrefix(string(kv.Key), "retrip.breaker.")+"="+kv.Value.Emit())
				}
				slices.Sort(attrs)
				lines = append(lines, fmt.Sprintf("%s{%s} %d", name, strings.Join(attrs, ","), p.Value))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader := sdk.NewManualReader()
		steps := []struct {
			code int
			body string
			wait time.Duration
		}{
			{200, "{}", 0},
			{400, "", 0},
			{429, "", 0},
			{500, "", 1500 * time.Millisecond},
			{500, "", time.Second},
			{500, "", time.Second},
			{0, "", 0}, // rejected
		}
		code, content, body := 0, "", io.Reader(nil)
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return response(code, body, "Content-Type", content), nil
		}), breaker.Config{FailureThreshold: 3, MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader))})
		send := func() *http.Response {
			t.Helper()
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if code == 0 {
				if !errors.Is(err, breaker.ErrOpen) {
					t.Fatalf("got %v", err)
				}
				return nil
			}
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		for _, step := range steps {
			time.Sleep(step.wait)
			code, body = step.code, strings.NewReader(step.body)
			if resp := send(); resp != nil {
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
		}
		b := tr.Breaker(key)
		b.Reset()

		// A stream counts when it is over: as what it came to.
		code, content = 200, "text/event-stream"
		for _, end := range []error{nil, io.ErrUnexpectedEOF} {
			body = &chunks{event, end}
			if end == nil {
				body = &chunks{event}
			}
			resp := send()
			_, _ = resp.Body.Read(make([]byte, 100))
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		content = ""
		// One that is late.
		body = strings.NewReader("{}")
		late := send()
		b.Trip()
		b.Reset()
		_, _ = io.ReadAll(late.Body)
		_ = late.Body.Close()
		code, body = 500, http.NoBody
		_ = send().Body.Close()
		code, body = 429, http.NoBody
		_ = send().Body.Close()
		time.Sleep(100 * time.Millisecond)

		want := []string{
			"calls: counter {call}",
			"calls{name=https://api.example.com,outcome=failure} 5",
			"calls{name=https://api.example.com,outcome=ignored} 3",
			"calls{name=https://api.example.com,outcome=rejected} 1",
			"calls{name=https://api.example.com,outcome=stale} 1",
			"calls{name=https://api.example.com,outcome=success} 2",
			"consecutive_failures: gauge {failure}",
			"consecutive_failures{name=https://api.example.com} 1",
			"state: updowncounter {breaker}",
			"state{name=https://api.example.com,state=closed} 1",
			"state{name=https://api.example.com,state=half_open} 0",
			"state{name=https://api.example.com,state=open} 0",
			"transitions: counter {transition}",
			"transitions{from=closed,name=https://api.example.com,to=open} 2",
			"transitions{from=open,name=https://api.example.com,to=closed} 2",
		}
		if got := collect(t, reader); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if got, want := b.Snapshot().Totals, (breaker.Totals{Success: 2, Failure: 5, Ignored: 3, Stale: 1, Rejected: 1}); got != want {
			t.Errorf("totals %+v, want %+v", got, want)
		}

		// After Close nothing is observed any more; what is counted stays.
		if err := errors.Join(tr.Close(), tr.Close()); err != nil {
			t.Error(err)
		}
		for _, line := range collect(t, reader) {
			if strings.HasPrefix(line, "state{") {
				t.Errorf("after Close: %s", line)
			}
		}
	})
}

func TestMetricNamesAreBounded(t *testing.T) {
	t.Parallel()
	reader := sdk.NewManualReader()
	tr := newTransport(t, answer(204, ""), breaker.Config{
		Key:           func(req *http.Request) string { return req.Method },
		MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader)),
	})
	for i := range 200 {
		resp, err := tr.RoundTrip(request(t.Context(), fmt.Sprintf("M%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	tr.Breaker("M199").Trip()
	lines := collect(t, reader)
	names := 0
	for _, line := range lines {
		if strings.HasPrefix(line, "consecutive_failures{") {
			names++
		}
	}
	if names != 129 {
		t.Errorf("%d names, want 128 and _OTHER", names)
	}
	for _, want := range []string{"state{name=_OTHER,state=closed} 71", "state{name=_OTHER,state=open} 1", "calls{name=_OTHER,outcome=success} 72"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestABreakerHasTheModelItIsFor(t *testing.T) {
	t.Parallel()
	reader := sdk.NewManualReader()
	tr := newTransport(t, answer(204, ""), breaker.Config{MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader))})
	for i := range 200 {
		c := new(call.Call)
		c.Subject = call.Subject{Endpoint: "chat", Model: fmt.Sprintf("m%03d", i)}
		resp, err := tr.RoundTrip(request(c.Init(t.Context()), ""))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	models := map[string]bool{}
	for _, line := range collect(t, reader) {
		if strings.HasPrefix(line, "calls{") {
			_, model, ok := strings.Cut(line, "gen_ai.request.model=")
			model, _, _ = strings.Cut(model, ",")
			if models[model] = true; !ok || model != "_OTHER" && !strings.Contains(line, " chat "+model+",") {
				t.Errorf("%s", line)
			}
		}
	}
	if len(models) != 65 {
		t.Errorf("%d models, want 64 and _OTHER", len(models))
	}
}

// hostile is a MeterProvider whose instruments do all they must not.
type hostile struct{ noop.MeterProvider }

func (hostile) Meter(string, ...metric.MeterOption) metric.Meter { return hostileMeter{} }

type hostileMeter struct{ noop.Meter }

func (hostileMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return hostileCounter{}, nil
}

func (hostileMeter) Int64ObservableGauge(string, ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return nil, errors.New("no gauges")
}

func (hostileMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	panic("no callbacks")
}

type hostileCounter struct{ noop.Int64Counter }

func (hostileCounter) Enabled(context.Context) bool                    { return true }
func (hostileCounter) Add(context.Context, int64, ...metric.AddOption) { panic("no counting") }

func TestMetricsNeverFailACall(t *testing.T) {
	t.Parallel()
	b := newBreaker(t, breaker.Config{MeterProvider: hostile{}})
	succeed(t, b, 20)
	fail(t, b, 5)
	b.Trip()
	_ = wantRefusal(t, b)
}

func TestLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	b := newBreaker(t, breaker.Config{Name: "x", Logger: logger, FailureThreshold: 1})
	fail(t, b, 1)
	b.Reset()
	const want = `level=WARN msg="circuit breaker changed its state" key=x from=closed to=open reason=failures_in_a_row seq=1
level=INFO msg="circuit breaker changed its state" key=x from=open to=closed reason=reset seq=2
`
	if got := out.String(); got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}

func TestABreakerAloneIsCollectedUntilItIsClosed(t *testing.T) {
	t.Parallel()
	reader := sdk.NewManualReader()
	cfg := breaker.Config{Name: "alone", MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader))}
	const closed = "state{name=alone,state=closed} 1"
	b := breaker.New(cfg)
	if got := collect(t, reader); !slices.Contains(got, closed) {
		t.Errorf("%q", got)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := collect(t, reader); slices.Contains(got, closed) {
		t.Errorf("after Close: %q", got)
	}
}

func TestABreakerThatWasForgottenGoesOnUnderItsName(t *testing.T) {
	t.Parallel()
	reader := sdk.NewManualReader()
	tr := newTransport(t, answer(http.StatusNoContent, ""), breaker.Config{
		MaxKeys: 1, MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader)),
		Key: func(req *http.Request) string { return req.Method },
	})
	for _, key := range []string{http.MethodGet, http.MethodPut, http.MethodGet} {
		resp, err := tr.RoundTrip(request(t.Context(), key))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if got := collect(t, reader); !slices.Contains(got, "calls{name=GET,outcome=success} 2") || len(tr.Snapshot()) != 1 {
		t.Errorf("%q", got)
	}
	if err := tr.Breaker(http.MethodGet).Close(); err != nil { // whose instruments are the Transport's
		t.Error(err)
	}
	if got := collect(t, reader); !slices.Contains(got, "state{name=GET,state=closed} 1") {
		t.Errorf("after Close of one: %q", got)
	}
}
