package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

func newReader() (*sdk.ManualReader, metric.MeterProvider) {
	reader := sdk.NewManualReader()
	return reader, sdk.NewMeterProvider(sdk.WithReader(reader))
}

// A series is what an instrument recorded under one set of attributes.
type series struct {
	name  string
	attrs map[string]string
	count uint64 // of a histogram
	sum   float64
}

type collected []series

func collect(t testing.TB, reader *sdk.ManualReader) (all collected) {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		t.Fatal(err)
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, texts(p.Attributes.ToSlice()), 1, float64(p.Value)})
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, texts(p.Attributes.ToSlice()), 1, float64(p.Value)})
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, texts(p.Attributes.ToSlice()), 1, p.Value})
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, texts(p.Attributes.ToSlice()), p.Count, float64(p.Sum)})
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					all = append(all, series{m.Name, texts(p.Attributes.ToSlice()), p.Count, p.Sum})
				}
			default:
				t.Errorf("%s is a %T", m.Name, m.Data)
			}
		}
	}
	return all
}

// with returns the series of an instrument that have these attributes. The
// value "-" stands for an attribute that is not there.
func (c collected) with(name string, attrs ...string) (found collected) {
next:
	for _, s := range c {
		if s.name != name {
			continue
		}
		for i := 0; i < len(attrs); i += 2 {
			value, ok := s.attrs[attrs[i]]
			if absent := attrs[i+1] == "-"; absent == ok || !absent && value != attrs[i+1] {
				continue next
			}
		}
		found = append(found, s)
	}
	return found
}

// count adds up the observations of the series found.
func (c collected) count(name string, attrs ...string) (n uint64) {
	for _, s := range c.with(name, attrs...) {
		n += s.count
	}
	return n
}

// sum adds up the values of the series found.
func (c collected) sum(name string, attrs ...string) (v float64) {
	for _, s := range c.with(name, attrs...) {
		v += s.sum
	}
	return v
}

const (
	inferenceDuration = "gen_ai.client.inference.duration"
	inputTokens       = "gen_ai.client.inference.usage.input_tokens"
	outputTokens      = "gen_ai.client.inference.usage.output_tokens"
	attemptDuration   = "retrip.client.attempt.duration"
)

// A slow body brings a piece each time its pause is over.
type slowBody struct {
	pause  time.Duration
	pieces []string
	begun  bool // the first piece is being read
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.pieces) == 0 {
		return 0, io.EOF
	}
	if !b.begun {
		time.Sleep(b.pause)
	}
	n := copy(p, b.pieces[0])
	b.pieces[0] = b.pieces[0][n:]
	if b.begun = b.pieces[0] != ""; !b.begun {
		b.pieces = b.pieces[1:]
	}
	return n, nil
}

func slowJSON() io.Reader {
	return &slowBody{pause: time.Second, pieces: []string{`{"object":`, `"chat.completion"`, `}`}}
}

func slowStream() io.Reader {
	delta := `data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}` + "\n\n"
	return &slowBody{pause: time.Second, pieces: []string{delta, delta, "data: [DONE]\n\n"}}
}

// slowly takes 100 ms to the headers.
func slowly(answer stub.Func) stub.Func {
	return func(req *http.Request) (*http.Response, error) {
		time.Sleep(100 * time.Millisecond)
		return answer(req)
	}
}

func TestAnOperationLastsFromItsStartToTheLastByteOfItsAnswer(t *testing.T) {
	t.Parallel()
	const (
		waits    = 2 * 1.0
		attempts = 3 * 0.1
		body     = 3 * 1.0
	)
	for name, answer := range map[string]stub.Func{
		"JSON":   replyWith(200, slowJSON, -1),
		"stream": replyWith(200, slowStream, -1, "Content-Type", "text/event-stream"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reader, provider := newReader()
				tr := newChain(t, answers(slowly(reply(503, "busy")), slowly(lost(io.EOF)), slowly(answer)), openai.Config{
					MeterProvider: provider, Retry: retry.Config{Backoff: at(time.Second)},
				})
				resp, err := tr.RoundTrip(ask(t, t.Context(), "m"))
				if err != nil {
					t.Fatal(err)
				}
				first := make([]byte, 1)
				if _, err := io.ReadFull(resp.Body, first); err != nil {
					t.Fatal(err)
				}
				if n := collect(t, reader).count(inferenceDuration); n != 0 {
					t.Error("recorded before the last byte")
				}
				if _, err := io.ReadAll(resp.Body); err != nil {
					t.Fatal(err)
				}
				data := collect(t, reader)
				time.Sleep(time.Hour) // what the caller does with it is no part of it
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
				for range 2 {
					all := data.with(inferenceDuration)
					if len(all) != 1 || all[0].count != 1 || math.Abs(all[0].sum-(waits+attempts+body)) > 1e-9 {
						t.Fatalf("recorded %+v, want one of %v s", all, waits+attempts+body)
					}
					data = collect(t, reader)
				}
			})
		})
	}
}

// A JSON decoder stops at the end of the value and does not ask for more.
func TestAReaderWhoStopsAtTheLastByteEndsTheOperation(t *testing.T) {
	t.Parallel()
	for _, mode := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole} {
		reader, provider := newReader()
		srv := newServer(t)
		tr := overNetwork(t, openai.Config{MeterProvider: provider, Delivery: mode})
		resp, err := tr.RoundTrip(request(t, t.Context(), http.MethodPost, srv.URL+"/chat/completions", hello))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(resp.Body).Decode(new(any)); err != nil {
			t.Error(err)
		}
		if n := collect(t, reader).count(inferenceDuration); n != 1 {
			t.Errorf("%v: %d operations recorded before Close, want 1", mode, n)
		}
		_ = resp.Body.Close()
	}
}

func TestACallIsOneOperationAndAnAttemptEachRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		tr := newChain(t, answers(slowly(reply(503, "busy")), slowly(lost(io.EOF)), slowly(reply(200, `{"ok":true}`))), openai.Config{
			MeterProvider: provider, Retry: retry.Config{Backoff: at(time.Second)},
		})
		do(t, tr, ask(t, t.Context(), "gpt-5"))
		data := collect(t, reader)
		base := []string{
			"gen_ai.operation.name", "chat", "gen_ai.provider.name", "openai", "gen_ai.request.model", "gpt-5",
			"server.address", "api.example.com", "server.port", "443",
		}
		with := func(attrs ...string) []string { return append(append([]string{}, base...), attrs...) }
		// What a retry has mended is no error of the operation.
		if all := data.with(inferenceDuration, with("error.type", "-")...); len(all) != 1 || len(data.with(inferenceDuration)) != 1 {
			t.Errorf("operations: %+v", data.with(inferenceDuration))
		}
		for _, attrs := range [][]string{
			{"http.response.status_code", "503", "error.type", "503"},
			{"http.response.status_code", "-", "error.type", "connection_error"},
			{"http.response.status_code", "200", "error.type", "-"},
		} {
			if all := data.with(attemptDuration, with(attrs...)...); len(all) != 1 || all[0].count != 1 || math.Abs(all[0].sum-0.1) > 1e-9 {
				t.Errorf("attempts with %v: %+v", attrs, all)
			}
		}
		if n := data.count(attemptDuration); n != 3 {
			t.Errorf("%d attempts", n)
		}
		if all := data.with("retrip.retries", "retrip.backend", "external", "retrip.endpoint", "chat", "server.address", "api.example.com"); len(all) != 2 {
			t.Errorf("retries: %+v", data.with("retrip.retries"))
		}
		if n := data.sum("retrip.retries", "retrip.retry.reason", "overloaded", "error.type", "503", "retrip.retry.delay_source", "backoff"); n != 1 {
			t.Errorf("%v retries after the 503", n)
		}
		if n := data.sum("retrip.retries", "retrip.retry.reason", "connection", "error.type", "connection_error"); n != 1 {
			t.Errorf("%v retries after the lost connection", n)
		}
	})
}

func TestFailedOperationsHaveAnErrorType(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answer stub.Func
		ctx    func(context.Context) (context.Context, context.CancelFunc)
		close  bool
		want   string
	}{
		"an answer":        {answer: reply(200, `{"ok":true}`), want: "-"},
		"an answer closed": {answer: reply(200, `{"ok":true}`), close: true, want: "-"},
		"503":              {answer: reply(503, "busy"), want: "503"},
		"503 closed":       {answer: reply(503, "busy"), close: true, want: "503"},
		"400":              {answer: reply(400, "your fault"), want: "400"},
		"an odd status":    {answer: reply(799, "?"), want: "_OTHER"},
		"a connection":     {answer: lost(io.ErrUnexpectedEOF), want: "connection_error"},
		"anything":         {answer: lost(errors.New("else")), want: "_OTHER"},
		"a deadline": {answer: lost(context.DeadlineExceeded), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 0)
		}, want: "timeout"},
		"a cancel": {answer: lost(context.Canceled), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Millisecond, cancel)
			return ctx, cancel
		}, want: "canceled"},
		"a deadline in a wait": {answer: reply(503, "busy"), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Millisecond, func() { cancel(context.DeadlineExceeded) })
			return ctx, func() { cancel(nil) }
		}, want: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reader, provider := newReader()
				tr := newChain(t, answers(slowly(row.answer)), openai.Config{MeterProvider: provider})
				ctx := t.Context()
				if row.ctx != nil {
					var cancel context.CancelFunc
					ctx, cancel = row.ctx(ctx)
					defer cancel()
				}
				req := ask(t, ctx, "m")
				resp, err := tr.RoundTrip(req)
				if err == nil && !row.close {
					_, _ = io.ReadAll(resp.Body)
				}
				if err == nil {
					_ = resp.Body.Close()
				}
				if name == "a deadline" { // over before it began: refused without a call
					return
				}
				data := collect(t, reader)
				if n := data.count(inferenceDuration); n != 1 {
					t.Errorf("%d operations", n)
				}
				if n := data.count(inferenceDuration, "error.type", row.want); n != 1 {
					t.Errorf("want error.type %s, got %+v", row.want, data.with(inferenceDuration))
				}
			})
		})
	}
}

func TestABodyThatBreaksIsAFailedOperation(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	srv := newServer(t)
	delta := openaitest.Event("", `{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`)
	srv.Always(openaitest.Chat, openaitest.Stream(delta, delta, delta).CutAfter(2))
	tr := overNetwork(t, openai.Config{MeterProvider: provider})
	got := do(t, tr, request(t, t.Context(), http.MethodPost, srv.URL+"/chat/completions", `{"model":"m","stream":true}`))
	if got.err == nil || got.body != delta+delta {
		t.Fatalf("got %+v, want two events and an error", got)
	}
	data := collect(t, reader)
	if data.count(inferenceDuration) != 1 || data.count(inferenceDuration, "error.type", "-") != 0 {
		t.Errorf("operations: %+v", data.with(inferenceDuration))
	}
	if data.count(attemptDuration, "http.response.status_code", "200", "error.type", "-") != 1 {
		t.Errorf("attempts: %+v", data.with(attemptDuration))
	}
}

func TestTheBooksBalance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		n := 0
		tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
			n++
			list := []stub.Func{
				reply(200, `{"ok":true}`), reply(503, "busy"), lost(io.EOF), reply(200, `{"ok":true}`),
				reply(429, "slow", "Retry-After", "1"), reply(500, "?"), reply(400, "no"),
			}
			return answers(list[n*n%len(list)]).RoundTrip(req)
		}), openai.Config{MeterProvider: provider})
		const calls = 300
		for i := range calls {
			do(t, tr, ask(t, t.Context(), "m"))
			time.Sleep(time.Duration(i%7) * time.Second)
		}
		data := collect(t, reader)
		operations, attempts := data.count(inferenceDuration), data.count(attemptDuration)
		retries, started := data.sum("retrip.retries"), data.count("retrip.retry.attempts")
		if operations != calls || attempts != uint64(n) || float64(attempts) != float64(started)+retries {
			t.Errorf("%d operations, %d started; %d attempts of %d; %v retries", operations, started, attempts, n, retries)
		}
		if waited, took := data.sum("retrip.retry.delay"), data.sum(inferenceDuration); waited == 0 || waited > took+1e-6 {
			t.Errorf("waited %v s in operations that took %v s", waited, took)
		}
		settled := data.sum("retrip.breaker.calls") - data.sum("retrip.breaker.calls", "retrip.breaker.outcome", "rejected") -
			data.sum("retrip.breaker.calls", "retrip.breaker.outcome", "paused")
		if settled != float64(attempts) {
			t.Errorf("%v permits settled for %d attempts", settled, attempts)
		}
		if data.sum("retrip.breaker.state") != 1 || len(data.with("retrip.breaker.state")) != 3 {
			t.Errorf("states %+v", data.with("retrip.breaker.state"))
		}
	})
}

func TestModelLabelsAreBounded(t *testing.T) {
	t.Parallel()
	const calls = 1000
	reader, provider := newReader()
	n := 0
	tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
		n++
		return answers(reply(200, `{"object":"chat.completion","model":"answered-`+strconv.Itoa(n)+`"}`)).RoundTrip(req)
	}), openai.Config{MeterProvider: provider, DisableBreaker: true})
	for i := range calls {
		if got := do(t, tr, ask(t, t.Context(), "asked-"+strconv.Itoa(i))); got.err != nil {
			t.Fatal(got.err)
		}
	}
	data := collect(t, reader)
	for _, attr := range []string{"gen_ai.request.model", "gen_ai.response.model"} {
		values := map[string]map[string]bool{}
		for _, s := range data {
			if v, ok := s.attrs[attr]; ok {
				if values[s.name] == nil {
					values[s.name] = map[string]bool{}
				}
				values[s.name][v] = true
			}
		}
		for name, seen := range values {
			if len(seen) > 65 {
				t.Errorf("%s: %d values of %s", name, len(seen), attr)
			}
		}
		if attr == "gen_ai.request.model" && (len(values[inferenceDuration]) != 65 || !values[inferenceDuration]["_OTHER"]) {
			t.Errorf("%d values of %s, want 64 and _OTHER", len(values[inferenceDuration]), attr)
		}
	}
	if got := data.count(inferenceDuration); got != calls {
		t.Errorf("%d operations are counted", got)
	}
}

func TestAddressLabelsAreBounded(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{MeterProvider: provider, DisableBreaker: true})
	for i := range 1000 {
		url := "https://tenant-" + strconv.Itoa(i) + ".example.com:" + strconv.Itoa(1000+i) + "/v1/chat/completions"
		do(t, tr, request(t, t.Context(), http.MethodPost, url, hello))
	}
	wantFewSeries(t, reader)
}

// wantFewSeries: no instrument has more series than a label may have values, 64 and _OTHER.
func wantFewSeries(t *testing.T, reader *sdk.ManualReader) {
	t.Helper()
	series := map[string]int{}
	for _, s := range collect(t, reader) {
		series[s.name]++
	}
	for name, n := range series {
		if n > 65 {
			t.Errorf("%s has %d series", name, n)
		}
	}
}

func TestTheProviderIsNamedByItsHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"api.openai.com":          "openai",
		"acme.openai.azure.com":   "azure.ai.openai",
		"api.groq.com":            "groq",
		"api.deepseek.com":        "deepseek",
		"localhost:8000":          "openai", // its API shape
		"api.groq.com.evil.test":  "openai",
		"models.internal.example": "openai",
	} {
		reader, provider := newReader()
		tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{MeterProvider: provider})
		do(t, tr, request(t, t.Context(), http.MethodPost, "http://"+host+"/v1/chat/completions", hello))
		if all := collect(t, reader).with(inferenceDuration, "gen_ai.provider.name", want); len(all) != 1 {
			t.Errorf("%s: %+v", host, all)
		}
	}
}

func TestTheBackendAndTheProviderAreInherited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own, ownProvider := newReader()
		outer, outerProvider := newReader()
		tr := newChain(t, answers(reply(503, "busy"), reply(200, `{"ok":true}`)), openai.Config{
			MeterProvider: outerProvider, Backend: "internal", Retry: retry.Config{MeterProvider: ownProvider},
		})
		do(t, tr, ask(t, t.Context(), "m"))
		if n := collect(t, own).sum("retrip.retries", "retrip.backend", "internal"); n != 1 {
			t.Errorf("%v retries at the retry layer's own provider", n)
		}
		data := collect(t, outer)
		if len(data.with("retrip.retries")) != 0 || data.count(inferenceDuration) != 1 || data.count(attemptDuration) != 2 || len(data.with("retrip.breaker.state")) != 3 {
			t.Errorf("%+v", data)
		}
	})
}

func TestCloseUnregistersTheCallbacks(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{MeterProvider: provider})
	do(t, tr, ask(t, t.Context(), "m"))
	if all := collect(t, reader).with("retrip.breaker.state"); len(all) != 3 {
		t.Fatalf("%d series of the state before Close, want 3", len(all))
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	do(t, tr, ask(t, t.Context(), "m"))
	data := collect(t, reader)
	for _, name := range []string{"retrip.breaker.state", "retrip.breaker.consecutive_failures"} {
		if all := data.with(name); len(all) != 0 {
			t.Errorf("%s is collected after Close: %+v", name, all)
		}
	}
	if data.count(inferenceDuration) != 2 {
		t.Error("operations are no longer recorded")
	}
}

func TestBrokenInstrumentsFailNoCall(t *testing.T) {
	t.Parallel()
	quiet()
	for _, row := range []struct {
		name string
		m    hostileMeter
	}{
		{"all panic when made", hostileMeter{panicWhenMade: true}},
		{"all fail when made", hostileMeter{err: errors.New("no instrument")}},
		{"all are nil", hostileMeter{}},
		{"all panic when used", hostileMeter{panicWhenUsed: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(reply(503, "busy"), lost(io.EOF), reply(429, "slow", "Retry-After", "1"), reply(200, `{"ok":true}`), reply(400, "no"), reply(503, "busy"))
				tr := newChain(t, base, openai.Config{MeterProvider: hostileProvider{m: &row.m}})
				if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil || got.status != 200 || got.body != `{"ok":true}` {
					t.Errorf("got %+v", got)
				}
				if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 400 {
					t.Errorf("got %+v", got)
				}
				for range 10 {
					do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
					time.Sleep(apart)
				}
				wantOpen(t, do(t, tr, ask(t, t.Context(), "m")).err)
			})
		})
	}
	t.Run("there is not even a meter", func(t *testing.T) {
		t.Parallel()
		tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{MeterProvider: hostileProvider{}})
		if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 200 {
			t.Errorf("got %+v", got)
		}
	})
}

// A hostileProvider has a hostileMeter, or panics.
type hostileProvider struct {
	noop.MeterProvider

	m *hostileMeter
}

func (p hostileProvider) Meter(string, ...metric.MeterOption) metric.Meter {
	if p.m == nil {
		panic("no meter")
	}
	return p.m
}

type hostileMeter struct {
	noop.Meter

	panicWhenMade, panicWhenUsed bool
	err                          error
}

func (m *hostileMeter) fail() error {
	if m.panicWhenMade {
		panic("made")
	}
	return m.err
}

func (m *hostileMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	if m.panicWhenUsed {
		return hostileCounter{}, nil
	}
	return nil, m.fail()
}

func (m *hostileMeter) Int64Histogram(string, ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	if m.panicWhenUsed {
		return hostileIntHistogram{}, nil
	}
	return nil, m.fail()
}

func (m *hostileMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	if m.panicWhenUsed {
		return hostileHistogram{}, nil
	}
	return nil, m.fail()
}

func (m *hostileMeter) Int64ObservableUpDownCounter(string, ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	return nil, m.fail()
}

func (m *hostileMeter) Int64ObservableGauge(string, ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return nil, m.fail()
}

func (m *hostileMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return nil, m.fail()
}

type hostileCounter struct{ noop.Int64Counter }

func (hostileCounter) Enabled(context.Context) bool                    { return true }
func (hostileCounter) Add(context.Context, int64, ...metric.AddOption) { panic("used") }

type hostileHistogram struct{ noop.Float64Histogram }

func (hostileHistogram) Enabled(context.Context) bool                            { return true }
func (hostileHistogram) Record(context.Context, float64, ...metric.RecordOption) { panic("used") }

type hostileIntHistogram struct{ noop.Int64Histogram }

func (hostileIntHistogram) Enabled(context.Context) bool                          { return true }
func (hostileIntHistogram) Record(context.Context, int64, ...metric.RecordOption) { panic("used") }

func TestTheMetricsLayerWorksAlone(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	tr := openai.NewMetricsTransport(answers(reply(503, "busy"), lost(io.EOF)), openai.MetricsConfig{MeterProvider: provider})
	for range 2 {
		do(t, tr, request(t, t.Context(), http.MethodPost, strings.Replace(chatURL, "https://", "http://", 1), hello))
	}
	data := collect(t, reader)
	common := []string{"gen_ai.operation.name", "chat", "gen_ai.request.model", "-", "server.address", "api.example.com", "server.port", "80"}
	for _, more := range [][]string{
		{"http.response.status_code", "503", "error.type", "503"},
		{"http.response.status_code", "-", "error.type", "connection_error"},
	} {
		if all := data.with(attemptDuration, append(more, common...)...); len(all) != 1 || all[0].count != 1 {
			t.Errorf("%v: %+v", more, data)
		}
	}
}

func TestABaseThatMisbehavesMakesOneAttempt(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		base      stub.Func
		errorType string
	}{
		"a response beside an error": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: http.NoBody}, io.EOF
		}, "connection_error"},
		"neither":                 {func(*http.Request) (*http.Response, error) { return nil, nil }, "_OTHER"}, //nolint:nilnil // what misbehaves
		"a response without body": {func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil }, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader, provider := newReader()
			do(t, openai.NewMetricsTransport(row.base, openai.MetricsConfig{MeterProvider: provider}), ask(t, t.Context(), "m"))
			if data := collect(t, reader); data.count(attemptDuration) != 1 || data.count(attemptDuration, "error.type", row.errorType) != 1 {
				t.Errorf("%+v", data)
			}
		})
	}
}

// A user may drop an instrument with a View, and want the others.
func TestEachInstrumentIsRecordedWithoutTheOthers(t *testing.T) {
	t.Parallel()
	const firstChunk = "gen_ai.client.inference.time_to_first_chunk"
	all := []string{inferenceDuration, firstChunk, inputTokens, "gen_ai.client.inference.operation.input_tokens"}
	for _, wanted := range all {
		t.Run(wanted, func(t *testing.T) {
			t.Parallel()
			reader, options := sdk.NewManualReader(), []sdk.Option(nil)
			for _, name := range all {
				if name != wanted {
					options = append(options, sdk.WithView(sdk.NewView(sdk.Instrument{Name: name}, sdk.Stream{Aggregation: sdk.AggregationDrop{}})))
				}
			}
			const counts = `data: {"choices":[],"usage":{"prompt_tokens":9}}` + "\n\n"
			body := tokenEvent + counts + endEvent + doneEvent
			tr := newChain(t, answers(reply(200, body, "Content-Type", "text/event-stream")), openai.Config{
				MeterProvider: sdk.NewMeterProvider(append(options, sdk.WithReader(reader))...),
			})
			do(t, tr, ask(t, t.Context(), "m"))
			data := collect(t, reader)
			for _, name := range all {
				if got := data.count(name) == 1; got != (name == wanted) {
					t.Errorf("%s is recorded: %v", name, got)
				}
			}
		})
	}
}

// A base says no more than that the context is over.
func TestAnAttemptThatATimeLimitEndsIsATimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		base := stub.Func(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		tr := newChain(t, base, openai.Config{MeterProvider: provider, Retry: retry.Config{AttemptTimeout: time.Second}})
		do(t, tr, ask(t, t.Context(), "m"))
		if data := collect(t, reader); data.count(attemptDuration) != 1 || data.count(attemptDuration, "error.type", "timeout") != 1 {
			t.Errorf("%+v", data.with(attemptDuration))
		}
	})
}
