package openai_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A bomb is a function of the user's, or of a base, that panics the nth time
// that it is called. One that is not set never does.
type bomb struct{ left atomic.Int64 }

func (b *bomb) set(nth int) { b.left.Store(int64(nth)) }

// wentOff reports whether the bomb was set and has panicked.
func (b *bomb) wentOff() bool { return b.left.Load() <= 0 }

func (b *bomb) tick() {
	if b.left.Add(-1) == 0 {
		panic("boom")
	}
}

// A bombedBody ticks when it is read or closed.
type bombedBody struct {
	stub.Body

	read, close func()
}

func (b *bombedBody) Read(p []byte) (int, error) {
	b.read()
	return b.Reader.Read(p)
}

func (b *bombedBody) Close() error {
	_ = b.Body.Close()
	b.close()
	return nil
}

// A bombedHandler ticks when it is asked or told.
type bombedHandler struct {
	slog.Handler

	enabled, handle func()
}

func (h bombedHandler) Enabled(context.Context, slog.Level) bool {
	h.enabled()
	return true
}

func (h bombedHandler) Handle(context.Context, slog.Record) error {
	h.handle()
	return nil
}

type bombedSpan struct {
	talkingSpan

	tick func()
}

func (s bombedSpan) AddEvent(string, ...trace.EventOption) { s.tick() }

type bombedBackoff struct{ tick func() }

func (b bombedBackoff) Reset() {}
func (b bombedBackoff) NextBackOff() time.Duration {
	b.tick()
	return time.Second
}

// A bombedObserver decides nothing, so that the default one would have to.
type bombedObserver struct{ data, end func() }

func (o bombedObserver) Data([]byte) breaker.Outcome {
	o.data()
	return breaker.Undecided
}

func (o bombedObserver) End(err error) breaker.Outcome {
	o.end()
	if err != nil && !errors.Is(err, breaker.ErrBodyClosed) {
		return breaker.Failure
	}
	return breaker.Success
}

// A mined is a chain in which one thing may panic.
type mined struct {
	*testing.T

	cfg       openai.Config
	base      func()
	sent      [2]func() // of the request's body: Read and Close
	got       [2]func() // of the responses' bodies
	span      func()
	sdkRetry  bool
	unread    bool // the caller closes what it gets
	chain     *openai.Transport
	script    []func() *http.Response
	attempts  int
	calls     int
	responses []*bombedBody
	contexts  []context.Context // of the attempts
	operation *bombedCounts
}

// mines are the places where a panic may come from.
var mines = map[string]func(m *mined, tick func()){
	"OnRetry":          func(m *mined, tick func()) { m.cfg.Retry.OnRetry = func(retry.Event) { tick() } },
	"OnStateChange":    func(m *mined, tick func()) { m.cfg.Breaker.OnStateChange = func(breaker.StateChange) { tick() } },
	"Logger's Enabled": func(m *mined, tick func()) { m.cfg.Logger = slog.New(bombedHandler{enabled: tick, handle: func() {}}) },
	"Logger's Handle":  func(m *mined, tick func()) { m.cfg.Logger = slog.New(bombedHandler{enabled: func() {}, handle: tick}) },
	"Logger, of an SDK's repetition": func(m *mined, tick func()) {
		m.cfg.Logger, m.sdkRetry = slog.New(bombedHandler{enabled: tick, handle: func() {}}), true
	},
	"Policy": func(m *mined, tick func()) {
		m.cfg.Retry.Policy = func(a *retry.Attempt) retry.Decision { tick(); return openai.DefaultPolicy(a) }
	},
	"Inspect": func(m *mined, tick func()) { m.cfg.Retry.Inspect = func(*retry.Attempt) error { tick(); return nil } },
	"Safe": func(m *mined, tick func()) {
		m.cfg.Retry.Safe = func(req *http.Request) bool { tick(); return openai.DefaultSafe(req) }
	},
	"Repeatable": func(m *mined, tick func()) {
		m.cfg.Retry.Safe = func(*http.Request) bool { return false }
		m.cfg.Retry.Repeatable = func(*retry.Attempt) bool { tick(); return true }
	},
	"Backoff": func(m *mined, tick func()) {
		m.cfg.Retry.Backoff = func() backoff.BackOff { tick(); return backoff.NewConstantBackOff(time.Second) }
	},
	"NextBackOff": func(m *mined, tick func()) {
		m.cfg.Retry.Backoff = func() backoff.BackOff { return bombedBackoff{tick} }
	},
	"BudgetKey": func(m *mined, tick func()) { m.cfg.Retry.BudgetKey = func(*http.Request) string { tick(); return "" } },
	"Key":       func(m *mined, tick func()) { m.cfg.Breaker.Key = func(*http.Request) string { tick(); return "k" } },
	"Observe": func(m *mined, tick func()) {
		m.cfg.Breaker.Observe = func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration) {
			tick()
			return breaker.Undecided, nil, 0
		}
	},
	"Observer.Data": func(m *mined, tick func()) { m.observe(bombedObserver{tick, func() {}}) },
	"Observer.End":  func(m *mined, tick func()) { m.observe(bombedObserver{func() {}, tick}) },
	"a MeterProvider": func(m *mined, tick func()) {
		m.cfg.MeterProvider = bombedProvider{MeterProvider: noop.NewMeterProvider(), tick: tick}
	},
	"a span":                    func(m *mined, tick func()) { m.span = tick },
	"the base":                  func(m *mined, tick func()) { m.base = tick },
	"the request's Read":        func(m *mined, tick func()) { m.sent[0] = tick },
	"the request's Close":       func(m *mined, tick func()) { m.sent[1] = tick },
	"a response's Read":         func(m *mined, tick func()) { m.got[0] = tick },
	"a response's Close":        func(m *mined, tick func()) { m.got[1] = tick },
	"all of a response's body":  func(m *mined, tick func()) { m.got = [2]func(){tick, tick} },
	"all of the caller's hooks": func(m *mined, tick func()) { m.observe(bombedObserver{tick, tick}); m.span = tick },
}

func (m *mined) observe(o breaker.Observer) {
	m.cfg.Breaker.Observe = func(response *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
		if err != nil || response.StatusCode != http.StatusOK {
			return breaker.DefaultObserve(response, err)
		}
		return breaker.Undecided, o, 0
	}
}

const tokens = `data: {"choices":[{"index":0,"delta":{"content":"x"}}]}` + "\n\n" + endEvent + doneEvent

// scripts are what the base answers with, one attempt after the other.
var scripts = map[string][]func() *http.Response{
	"a stream":               {eventStream(tokens)},
	"JSON":                   {jsonAnswer(200, `{"choices":[]}`)},
	"a retry":                {jsonAnswer(503, `{"error":{"code":"x"}}`), eventStream(tokens)},
	"a cut stream, a retry":  {eventStream(tokens[:10]), jsonAnswer(200, `{"choices":[]}`)},
	"a stream cut off":       {eventStream(tokens[:80])},
	"a rate limit, a retry":  {jsonAnswer(429, `{"error":{"code":"x"}}`), eventStream(tokens)},
	"an error that is final": {jsonAnswer(400, `{"error":{"code":"x"}}`)},
}

func eventStream(events string) func() *http.Response {
	return func() *http.Response {
		return stub.Stream(200, strings.NewReader(events), "Content-Type", "text/event-stream")
	}
}

func jsonAnswer(status int, body string) func() *http.Response {
	return func() *http.Response { return stub.Response(status, body) }
}

// RoundTrip is the base.
func (m *mined) RoundTrip(req *http.Request) (*http.Response, error) {
	n := m.attempts
	m.attempts++
	m.contexts = append(m.contexts, req.Context())
	_ = req.Context().Done() // net/http asks for it, and something is in the caller's context from then on
	_, err := io.Copy(io.Discard, req.Body)
	_ = req.Body.Close()
	m.base()
	if err != nil {
		return nil, err
	}
	resp := m.script[min(n, len(m.script)-1)]()
	body := &bombedBody{Body: stub.Body{Reader: resp.Body}, read: m.got[0], close: m.got[1]}
	m.responses = append(m.responses, body)
	resp.Body = body
	return resp, nil
}

// call makes a call as a server does that recovers from panics, and returns how
// it ended.
func (m *mined) call(script []func() *http.Response) (report retry.Report, err error) {
	m.script, m.attempts, m.responses, m.contexts = script, 0, nil, nil
	m.calls++
	ctx := retry.WithReport(trace.ContextWithSpan(context.Background(), bombedSpan{tick: m.span}), &report)
	req := request(m, ctx, http.MethodPost, chatURL, streamed)
	body := &bombedBody{Body: stub.Body{Reader: req.Body}, read: m.sent[0], close: m.sent[1]}
	req.Body, req.GetBody = body, nil
	if m.sdkRetry {
		req.Header.Set("X-Stainless-Retry-Count", "1")
	}
	var resp *http.Response
	if recovers(func() { resp, err = m.chain.RoundTrip(req) }) {
		err = errPanic
	}
	if resp != nil {
		if !m.unread && recovers(func() { _, err = io.Copy(io.Discard, resp.Body) }) {
			err = errPanic
		}
		if recovers(func() { _ = resp.Body.Close() }) {
			err = errPanic
		}
	}
	synctest.Wait()
	time.Sleep(time.Minute) // what runs in the background comes to its end
	if body.Closed() == 0 {
		m.Error("the request's body is open")
	}
	for n, body := range m.responses {
		if body.Closed() == 0 {
			m.Errorf("the body of response %d of %d is open", n+1, len(m.responses))
		}
	}
	for n, ctx := range m.contexts {
		if ctx.Err() == nil {
			m.Errorf("attempt %d of %d goes on", n+1, len(m.contexts))
		}
	}
	return report, err
}

var errPanic = errors.New("a panic")

func recovers(f func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	f()
	return false
}

// balance looks for a place, a permit, a token or an operation that was lost.
func (m *mined) balance(attempts int) {
	m.Helper()
	var settled uint64
	for _, b := range m.chain.Snapshot().Breakers {
		settled += b.Totals.Success + b.Totals.Failure + b.Totals.Ignored + b.Totals.Stale
		if b.Probes != 0 {
			m.Errorf("%d places are taken", b.Probes)
		}
	}
	if settled < uint64(attempts) {
		m.Errorf("%d permits were settled of %d", settled, attempts)
	}
	if n := m.operation.durations.Load(); m.operation != nil && n != int64(m.calls) {
		m.Errorf("%d operations were recorded of %d", n, m.calls)
	}
}

func TestAPanicCostsNothingButItself(t *testing.T) {
	t.Parallel()
	quiet()
	for place, mine := range mines {
		for scene, script := range scripts {
			for _, delivery := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole} {
				t.Run(place+", "+scene+", "+delivery.String(), func(t *testing.T) {
					t.Parallel()
					for nth, goesOff := 1, true; goesOff && nth < 12; nth++ {
						goesOff = false
						for ways := range 4 {
							synctest.Test(t, func(t *testing.T) {
								off := blowUp(t, mine, script, delivery, nth, ways&1 != 0, ways&2 != 0)
								goesOff = goesOff || off
							})
						}
					}
				})
			}
		}
	}
}

// blowUp makes a call in which a mine goes off the nth time that it is stepped
// on. It reports whether it did.
func blowUp(t *testing.T, mine func(*mined, func()), script []func() *http.Response, delivery openai.Delivery, nth int, halfOpen, unread bool) bool {
	t.Helper()
	nothing := func() {}
	counts := new(bombedCounts)
	m := &mined{T: t, base: nothing, sent: [2]func(){nothing, nothing}, got: [2]func(){nothing, nothing}, span: nothing, operation: counts}
	m.cfg = openai.Config{Delivery: delivery, MeterProvider: bombedProvider{MeterProvider: noop.NewMeterProvider(), tick: nothing, counts: counts}}
	m.cfg.Retry.Backoff, m.cfg.Retry.Budget = at(time.Second), retry.NewBudget(5, 0)
	m.cfg.Breaker.FailureThreshold = 1
	var b bomb
	mine(m, b.tick)
	if p, ok := m.cfg.MeterProvider.(bombedProvider); ok {
		p.counts = counts
		m.cfg.MeterProvider = p
	}
	m.chain = openai.NewTransport(m, m.cfg)
	defer func() { _ = m.chain.Close() }()
	warm := 0
	if !m.sdkRetry { // the first one of which is what is warned of
		if _, err := m.call(scripts["JSON"]); err != nil {
			t.Fatal(err)
		}
		warm = m.attempts
	}
	trip := func() {
		for _, b := range m.chain.Snapshot().Breakers {
			m.chain.Breaker(b.Key).Trip()
		}
		time.Sleep(time.Minute)
	}
	if halfOpen {
		trip()
	}
	b.set(nth)
	m.unread = unread
	_, err := m.call(script)
	m.unread = false
	off := b.wentOff()
	b.set(0)
	retried := m.attempts > 1
	m.balance(m.attempts + warm)
	if t.Failed() {
		t.Logf("panic %d, half open %v, unread %v: %v", nth, halfOpen, unread, err)
	}
	// It recovers.
	trip()
	if _, err := m.call(scripts["JSON"]); err != nil {
		t.Errorf("the call after it: %v", err)
	}
	m.balance(0)
	for _, b := range m.chain.Snapshot().Breakers {
		if b.State != breaker.Closed {
			t.Errorf("%+v", b)
		}
	}
	if !retried && !m.sdkRetry {
		if report, _ := m.call([]func() *http.Response{jsonAnswer(500, ""), jsonAnswer(200, `{"choices":[]}`)}); report.Attempts < 2 && report.Stopped == retry.StopBudget {
			t.Errorf("a token is lost: %+v", report)
		}
	}
	return off
}

// A bombedProvider makes instruments that tick, and count operations.
type bombedProvider struct {
	metric.MeterProvider

	tick   func()
	counts *bombedCounts
}

type bombedCounts struct{ durations atomic.Int64 }

func (p bombedProvider) Meter(name string, options ...metric.MeterOption) metric.Meter {
	return bombedMeter{p.MeterProvider.Meter(name, options...), p}
}

type bombedMeter struct {
	metric.Meter

	p bombedProvider
}

func (m bombedMeter) Float64Histogram(name string, options ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	h, err := m.Meter.Float64Histogram(name, options...)
	return bombedHistogram{h, m.p, name}, err
}

func (m bombedMeter) Int64Counter(name string, options ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	c, err := m.Meter.Int64Counter(name, options...)
	return bombedCounter{c, m.p}, err
}

type bombedHistogram struct {
	metric.Float64Histogram

	p    bombedProvider
	name string
}

func (h bombedHistogram) Enabled(context.Context) bool { return true }

func (h bombedHistogram) Record(context.Context, float64, ...metric.RecordOption) {
	if h.name == "gen_ai.client.inference.duration" {
		h.p.counts.durations.Add(1)
	}
	h.p.tick()
}

type bombedCounter struct {
	metric.Int64Counter

	p bombedProvider
}

func (c bombedCounter) Enabled(context.Context) bool {
	c.p.tick()
	return true
}

func (c bombedCounter) Add(context.Context, int64, ...metric.AddOption) { c.p.tick() }
