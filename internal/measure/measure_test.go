package measure

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// reports are the errors that went to otel.Handle, from all tests.
var reports = func() *errorLog {
	l := new(errorLog)
	otel.SetErrorHandler(l)
	return l
}()

type errorLog struct {
	mu     sync.Mutex
	errors []string
}

func (l *errorLog) Handle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors = append(l.errors, err.Error())
}

func (l *errorLog) wants(t *testing.T, part string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(l.errors, func(s string) bool { return strings.Contains(s, part) }) {
		t.Errorf("nobody told otel.Handle of %q", part)
	}
}

func newReader() (*sdk.ManualReader, metric.MeterProvider) {
	reader := sdk.NewManualReader()
	return reader, sdk.NewMeterProvider(sdk.WithReader(reader))
}

func collect(t *testing.T, reader *sdk.ManualReader) (scopes []metricdata.ScopeMetrics) {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	return data.ScopeMetrics
}

func TestInstrumentsRecordUnderTheirPackagesScope(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	m := Meter(provider, "retry")
	o := NewOptions(attribute.String("a", "b"))
	NewCounter(m, "counter", "{x}", "Counts.").Add(t.Context(), 2, o)
	NewHistogram(m, "histogram", "s", "Seconds.", []float64{1, 2}).Record(t.Context(), 1.5, o)
	NewIntHistogram(m, "ints", "{y}", "Ints.", []float64{5}).Record(t.Context(), 7, o)
	up, gauge := NewObservableUpDownCounter(m, "up", "{z}", "Up."), NewObservableGauge(m, "gauge", "s", "Gauge.")
	stop := Observe(m, func(o2 metric.Observer) {
		o2.ObserveInt64(up, 3, o.Observe()...)
		o2.ObserveInt64(gauge, 4, o.Observe()...)
	}, up, gauge)

	scopes := collect(t, reader)
	if len(scopes) != 1 || scopes[0].Scope.Name != "github.com/retrip-go/retrip/retry" {
		t.Fatalf("scopes %+v", scopes)
	}
	want := attribute.NewSet(attribute.String("a", "b"))
	seen := map[string]bool{}
	for _, m := range scopes[0].Metrics {
		seen[m.Name+" "+m.Unit+" "+m.Description] = true
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			if p := d.DataPoints[0]; !p.Attributes.Equals(&want) || p.Value != map[string]int64{"counter": 2, "up": 3}[m.Name] {
				t.Errorf("%s: %+v", m.Name, p)
			}
		case metricdata.Gauge[int64]:
			if p := d.DataPoints[0]; !p.Attributes.Equals(&want) || p.Value != 4 {
				t.Errorf("%s: %+v", m.Name, p)
			}
		case metricdata.Histogram[float64]:
			if p := d.DataPoints[0]; !p.Attributes.Equals(&want) || p.Sum != 1.5 || !slices.Equal(p.Bounds, []float64{1, 2}) {
				t.Errorf("%s: %+v", m.Name, p)
			}
		case metricdata.Histogram[int64]:
			if p := d.DataPoints[0]; !p.Attributes.Equals(&want) || p.Sum != 7 || !slices.Equal(p.Bounds, []float64{5}) {
				t.Errorf("%s: %+v", m.Name, p)
			}
		}
	}
	for _, name := range []string{"counter {x} Counts.", "histogram s Seconds.", "ints {y} Ints.", "up {z} Up.", "gauge s Gauge."} {
		if !seen[name] {
			t.Errorf("%s is missing in %v", name, seen)
		}
	}

	for range 2 {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	for _, m := range collect(t, reader)[0].Metrics {
		if m.Name == "up" || m.Name == "gauge" {
			t.Errorf("%s is collected after its callback was unregistered", m.Name)
		}
	}
}

func TestAUsersViewWinsOverTheBounds(t *testing.T) {
	t.Parallel()
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader), sdk.WithView(sdk.NewView(
		sdk.Instrument{Name: "histogram"}, sdk.Stream{Aggregation: sdk.AggregationExplicitBucketHistogram{Boundaries: []float64{42}}})))
	NewHistogram(Meter(provider, "x"), "histogram", "s", "", SecondsBounds).Record(t.Context(), 1, NewOptions())
	d := collect(t, reader)[0].Metrics[0].Data.(metricdata.Histogram[float64])
	if got := d.DataPoints[0].Bounds; !slices.Equal(got, []float64{42}) {
		t.Errorf("bounds %v", got)
	}
}

func TestBoundsRise(t *testing.T) {
	t.Parallel()
	for _, bounds := range [][]float64{SecondsBounds, DelayBounds, TokenBounds, AttemptBounds} {
		for i := 1; i < len(bounds); i++ {
			if bounds[i] <= bounds[i-1] {
				t.Errorf("%v", bounds)
			}
		}
	}
}

func TestNoProviderIsTheGlobalOne(t *testing.T) {
	t.Parallel()
	NewCounter(Meter(nil, "x"), "c", "", "").Add(t.Context(), 1, NewOptions()) // it is a no-op here
}

func TestZeroInstrumentsRecordNothing(t *testing.T) {
	t.Parallel()
	var c Counter
	if c.Enabled(t.Context()) {
		t.Error("the zero Counter is read")
	}
	c.Add(t.Context(), 1, nil)
	var h Histogram
	h.Record(t.Context(), 1, nil)
	var i IntHistogram
	i.Record(t.Context(), 1, nil)
}

// useAll makes every kind of instrument and uses it.
func useAll(provider metric.MeterProvider) error {
	ctx, o := context.Background(), NewOptions()
	m := Meter(provider, "x")
	NewCounter(m, "c", "", "").Add(ctx, 1, o)
	NewHistogram(m, "h", "", "", SecondsBounds).Record(ctx, 1, o)
	NewIntHistogram(m, "i", "", "", AttemptBounds).Record(ctx, 1, o)
	up, gauge := NewObservableUpDownCounter(m, "u", "", ""), NewObservableGauge(m, "g", "", "")
	return Observe(m, func(metric.Observer) {}, up, gauge)()
}

func TestABrokenMetricsLibraryFailsNothing(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		provider metric.MeterProvider
		report   string
	}{
		"the provider panics":          {brokenProvider{why: "no provider"}, "no provider"},
		"the meter panics":             {brokenProvider{meter: &brokenMeter{panics: "no meter"}}, "no meter"},
		"the meter returns errors":     {brokenProvider{meter: &brokenMeter{err: errors.New("no instrument")}}, "no instrument"},
		"the meter returns nothing":    {brokenProvider{meter: &brokenMeter{}}, ""},
		"the instruments panic":        {brokenProvider{meter: &brokenMeter{instruments: "no record"}}, "no record"},
		"the instruments can't be off": {brokenProvider{meter: &brokenMeter{instruments: "enabled?"}}, "enabled?"},
		"unregistering fails":          {brokenProvider{meter: &brokenMeter{instruments: "no record", stop: errors.New("stuck")}}, ""},
		"unregistering panics":         {brokenProvider{meter: &brokenMeter{instruments: "no record", panics: "no way out"}}, "no way out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := useAll(row.provider)
			if want := row.provider.(brokenProvider).stop(); !errors.Is(err, want) {
				t.Errorf("stopping: %v, want %v", err, want)
			}
			if row.report != "" {
				reports.wants(t, row.report)
			}
		})
	}
}

// A brokenProvider panics, or has a broken meter.
type brokenProvider struct {
	noop.MeterProvider

	why   string
	meter *brokenMeter
}

func (p brokenProvider) Meter(string, ...metric.MeterOption) metric.Meter {
	if p.meter == nil {
		panic(p.why)
	}
	return p.meter
}

func (p brokenProvider) stop() error {
	if p.meter == nil {
		return nil
	}
	return p.meter.stop
}

// A brokenMeter panics, returns errors or nils, or has broken instruments.
type brokenMeter struct {
	noop.Meter

	panics      string
	err         error
	instruments string
	stop        error
}

func (m *brokenMeter) fail() error {
	if m.panics != "" {
		panic(m.panics)
	}
	return m.err
}

func (m *brokenMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	if m.instruments != "" {
		return brokenCounter{why: m.instruments}, nil
	}
	return nil, m.fail()
}

func (m *brokenMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	if m.instruments != "" {
		return brokenHistogram{why: m.instruments}, nil
	}
	return nil, m.fail()
}

func (m *brokenMeter) Int64Histogram(string, ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	if m.instruments != "" {
		return brokenIntHistogram{why: m.instruments}, nil
	}
	return nil, m.fail()
}

func (m *brokenMeter) Int64ObservableUpDownCounter(string, ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	return nil, m.fail()
}

func (m *brokenMeter) Int64ObservableGauge(string, ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return nil, m.fail()
}

func (m *brokenMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	if m.instruments != "" {
		return brokenRegistration{panics: m.panics, err: m.stop}, nil
	}
	return nil, m.fail()
}

type brokenRegistration struct {
	noop.Registration

	panics string
	err    error
}

func (r brokenRegistration) Unregister() error {
	if r.panics != "" {
		panic(r.panics)
	}
	return r.err
}

type brokenCounter struct {
	noop.Int64Counter

	why string
}

func (c brokenCounter) Enabled(context.Context) bool {
	if c.why == "enabled?" {
		panic(c.why)
	}
	return true
}
func (c brokenCounter) Add(context.Context, int64, ...metric.AddOption) { panic(c.why) }

type brokenHistogram struct {
	noop.Float64Histogram

	why string
}

func (brokenHistogram) Enabled(context.Context) bool                              { return true }
func (h brokenHistogram) Record(context.Context, float64, ...metric.RecordOption) { panic(h.why) }

type brokenIntHistogram struct {
	noop.Int64Histogram

	why string
}

func (h brokenIntHistogram) Enabled(context.Context) bool                          { panic(h.why) }
func (h brokenIntHistogram) Record(context.Context, int64, ...metric.RecordOption) {}

func TestGuardLetsNeitherPanicsNorErrorsOut(t *testing.T) {
	t.Parallel()
	Guard(func() error { panic("guarded panic") })
	Guard(func() error { return errors.New("guarded error") })
	Guard(func() error { return nil })
	reports.wants(t, "guarded panic")
	reports.wants(t, "guarded error")
}

func TestACacheMakesTheOptionsOfAKeyOnce(t *testing.T) {
	t.Parallel()
	var made atomic.Int32
	c := NewCache(func(k int) []attribute.KeyValue {
		made.Add(1)
		return []attribute.KeyValue{attribute.Int("k", k)}
	})
	first := c.Get(1)
	for range 10 {
		if c.Get(1) != first {
			t.Fatal("another set for the same key")
		}
	}
	if c.Get(2) == first || made.Load() != 2 {
		t.Errorf("%d sets made for two keys", made.Load())
	}
}

func TestACacheReturnsOneSetToAllWhoAskAtOnce(t *testing.T) {
	t.Parallel()
	c := NewCache(func(k int) []attribute.KeyValue { return []attribute.KeyValue{attribute.Int("k", k)} })
	var got [16][64]*Options
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			for k := range got[i] {
				got[i][k] = c.Get(k)
			}
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] != got[0] {
			t.Fatal("two sets for one key")
		}
	}
}

func TestAFullCacheStillAnswers(t *testing.T) {
	t.Parallel()
	c := NewCache(func(k int) []attribute.KeyValue { return []attribute.KeyValue{attribute.Int("k", k)} })
	for k := range maxCached + 100 {
		if c.Get(k) == nil {
			t.Fatal("no options")
		}
	}
	if len(c.cached) != maxCached {
		t.Errorf("%d sets are held", len(c.cached))
	}
	config := metric.NewAddConfig(c.Get(maxCached + 50).add)
	set := config.Attributes()
	if v, _ := set.Value("k"); v.AsInt64() != maxCached+50 {
		t.Errorf("k = %v", v.AsInt64())
	}
}

func TestLabelsLetSoManyValuesThrough(t *testing.T) {
	t.Parallel()
	l := NewLabels(3)
	for _, row := range [][2]string{{"a", "a"}, {"b", "b"}, {"", ""}, {"a", "a"}, {"c", "c"}, {"d", Other}, {"a", "a"}, {"", ""}, {"e", Other}, {"c", "c"}} {
		if got := l.Bound(row[0]); got != row[1] {
			t.Errorf("Bound(%q) = %q, want %q", row[0], got, row[1])
		}
	}
}

func TestLabelsAreBoundedUnderConcurrency(t *testing.T) {
	t.Parallel()
	const limit = 16
	l := NewLabels(limit)
	var values sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				values.Store(l.Bound(strconv.Itoa(i)), true)
			}
		})
	}
	wg.Wait()
	n := 0
	values.Range(func(any, any) bool { n++; return true })
	if n != limit+1 {
		t.Errorf("%d values, want %d and %s", n, limit, Other)
	}
}

func TestLabelsOfZeroLetNothingThrough(t *testing.T) {
	t.Parallel()
	if got := NewLabels(0).Bound("a"); got != Other {
		t.Errorf("Bound = %q", got)
	}
}

func TestALabelIsShortAndValid(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLabel)
	for text, want := range map[string]string{
		"": "", "api.example.com": "api.example.com", long: long, long + "y": long,
		"\xff\xfe":                            "\uFFFD",
		"a\xffb":                              "a\uFFFDb",
		long[1:] + "é":                        long[1:],
		strings.Repeat("\xffa", maxLabel/2):   strings.Repeat("\uFFFDa", maxLabel/4),
		strings.Repeat("a\xff", maxLabel/2):   strings.Repeat("a\uFFFD", maxLabel/4),
		strings.Repeat("aa\xff", maxLabel/3):  strings.Repeat("aa\uFFFD", maxLabel/5) + "aa",
		strings.Repeat("é", maxLabel/2) + "é": strings.Repeat("é", maxLabel/2),
	} {
		got := Label(text)
		if got != want || len(got) > maxLabel || !utf8.ValidString(got) {
			t.Errorf("%q: %q (%d bytes), want %q", text, got, len(got), want)
		}
	}
}

func FuzzLabel(f *testing.F) {
	f.Add("api.example.com")
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, text string) {
		got := Label(text)
		if len(got) > maxLabel || !utf8.ValidString(got) || got != text && len(text) <= maxLabel && utf8.ValidString(text) || Label(got) != got {
			t.Errorf("%q: %q", text, got)
		}
	})
}

// Whatever is made a set of attributes, an exporter has to take it.
func TestOptionsHaveLabelsOnly(t *testing.T) {
	t.Parallel()
	o := NewOptions(attribute.String("a", "\xff"), attribute.String("b", strings.Repeat("x", 1000)), attribute.Int("c", 5))
	set := metric.NewAddConfig(o.add).Attributes()
	want := attribute.NewSet(attribute.String("a", "\uFFFD"), attribute.String("b", strings.Repeat("x", maxLabel)), attribute.Int("c", 5))
	if !set.Equals(&want) {
		t.Errorf("%v", set)
	}
}

func TestWhatIsUnknownIsLeftOut(t *testing.T) {
	t.Parallel()
	attrs := Append(Append(nil, "empty", ""), "key", "value")
	if len(attrs) != 1 || attrs[0] != attribute.String("key", "value") {
		t.Errorf("%v", attrs)
	}
}
