// Package measure is what the packages share of OpenTelemetry metrics:
// instruments that can't fail a call, attribute sets made once, and bounds for
// the values of attributes.
//
// A metric that panics, blocks or grows without bound would be an outage of its
// own. Every value from outside becomes a label by [Label] and a [Bound]: models,
// hosts and breakers are named by callers and providers, and each value is a
// series that is kept for ever.
package measure

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Module is the path of this module, and the beginning of every scope name.
const Module = "github.com/retrip-go/retrip"

// Bucket bounds of the histograms, as advice: a View of the user's wins.
var (
	SecondsBounds = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68}
	DelayBounds   = []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 60, 120}
	TokenBounds   = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}
	AttemptBounds = []float64{1, 2, 3, 4, 5, 10}
)

// version is that of this module in the program, for the meters' scopes; "" where
// the program does not know it, as in tests.
var version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if info.Main.Path == Module {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == Module {
			return dep.Version
		}
	}
	return ""
})

// Meter returns the meter of the package pkg ("retry", …). A nil provider is
// the global one.
func Meter(provider metric.MeterProvider, pkg string) (meter metric.Meter) {
	defer guard(func() { meter = noop.Meter{} })
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	return provider.Meter(Module+"/"+pkg, metric.WithInstrumentationVersion(version()))
}

// guard turns a panic of a metrics library into a report to otel.Handle: a
// metric never fails a call. It is to be deferred; then may be nil.
func guard(then func()) {
	if p := recover(); p != nil {
		if then != nil {
			then()
		}
		otel.Handle(fmt.Errorf("retrip: a metric instrument panicked: %v", p))
	}
}

// Guard runs f, and lets no panic or error of a metrics library out of it. otel.Handle
// logs it, or does what the user has set.
func Guard(f func() error) {
	defer guard(nil)
	if err := f(); err != nil {
		otel.Handle(err)
	}
}

// An Instrument is a counter or a histogram that never panics; the zero value
// records nothing. A MeterProvider is the user's choice, and its faults must not become
// those of calls.
type Instrument[N int64 | float64] struct {
	enabled func(context.Context) bool // nil if there is nothing to ask
	record  func(context.Context, N, *Options)
}

// A Counter counts whole things.
type Counter = Instrument[int64]

// A Histogram takes durations.
type Histogram = Instrument[float64]

// An IntHistogram takes numbers of whole things.
type IntHistogram = Instrument[int64]

// Enabled reports whether the instrument has a reader. What is only made to be recorded
// need not be made otherwise.
func (i Instrument[N]) Enabled(ctx context.Context) (enabled bool) {
	if i.enabled == nil {
		return false
	}
	defer guard(nil)
	return i.enabled(ctx)
}

// Add is Record, of a counter.
func (i Instrument[N]) Add(ctx context.Context, n N, o *Options) { i.Record(ctx, n, o) }

// Record records n under the attributes of o.
func (i Instrument[N]) Record(ctx context.Context, n N, o *Options) {
	if i.enabled == nil {
		return
	}
	defer guard(nil)
	if i.enabled(ctx) {
		i.record(ctx, n, o)
	}
}

// instrument makes one; an error goes to otel.Handle. Of a no-op one nothing
// is kept, so that a service without metrics doesn't pay for asking it on every
// call.
func instrument[Noop any, N int64 | float64, I interface{ Enabled(context.Context) bool }](
	made func() (I, error), record func(i I, ctx context.Context, n N, o *Options),
) (instrument Instrument[N]) {
	Guard(func() error {
		i, err := made()
		if _, noop := any(i).(Noop); !noop && any(i) != nil {
			instrument = Instrument[N]{i.Enabled, func(ctx context.Context, n N, o *Options) { record(i, ctx, n, o) }}
		}
		return err
	})
	return instrument
}

// NewCounter makes a counter; an error goes to otel.Handle.
func NewCounter(m metric.Meter, name, unit, description string) Counter {
	return instrument[noop.Int64Counter](func() (metric.Int64Counter, error) {
		return m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	}, func(i metric.Int64Counter, ctx context.Context, n int64, o *Options) { i.Add(ctx, n, o.add...) })
}

// NewHistogram makes a histogram with the given bounds; an error goes to otel.Handle.
func NewHistogram(m metric.Meter, name, unit, description string, bounds []float64) Histogram {
	return instrument[noop.Float64Histogram](func() (metric.Float64Histogram, error) {
		return m.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(bounds...))
	}, func(i metric.Float64Histogram, ctx context.Context, n float64, o *Options) {
		i.Record(ctx, n, o.record...)
	})
}

// NewIntHistogram makes a histogram with the given bounds; an error goes to otel.Handle.
func NewIntHistogram(m metric.Meter, name, unit, description string, bounds []float64) IntHistogram {
	return instrument[noop.Int64Histogram](func() (metric.Int64Histogram, error) {
		return m.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(bounds...))
	}, func(i metric.Int64Histogram, ctx context.Context, n int64, o *Options) { i.Record(ctx, n, o.record...) })
}

// Options are one set of attributes, ready for every kind of instrument.
type Options struct {
	add     []metric.AddOption
	record  []metric.RecordOption
	observe []metric.ObserveOption
}

// NewOptions returns the options of a set of attributes. It makes labels of
// their texts.
func NewOptions(attrs ...attribute.KeyValue) *Options {
	for i := range attrs {
		if attrs[i].Value.Type() == attribute.STRING {
			attrs[i].Value = attribute.StringValue(strings.Clone(Label(attrs[i].Value.AsString())))
		}
	}
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return &Options{add: []metric.AddOption{set}, record: []metric.RecordOption{set}, observe: []metric.ObserveOption{set}}
}

// maxCached bounds a Cache. The label values it is asked for are bounded
// before; this is the second lock on the door.
const maxCached = 8192

// A Cache makes the options of each distinct key once. It is safe for
// concurrent use.
type Cache[K comparable] struct {
	make   func(K) []attribute.KeyValue
	mu     sync.RWMutex
	cached map[K]*Options
}

// NewCache returns a Cache that asks attributes what a key's attributes are.
func NewCache[K comparable](attributes func(K) []attribute.KeyValue) *Cache[K] {
	return &Cache[K]{make: attributes, cached: make(map[K]*Options)}
}

// Get returns the options of key. Of two goroutines that make them at the same time the
// first one's are kept. Beyond the bound they are made each time, which is slow but
// right.
func (c *Cache[K]) Get(key K) *Options {
	c.mu.RLock()
	o := c.cached[key]
	c.mu.RUnlock()
	if o != nil {
		return o
	}
	o = NewOptions(c.make(key)...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if first := c.cached[key]; first != nil {
		return first
	}
	if len(c.cached) < maxCached {
		c.cached[key] = o
	}
	return o
}

// maxLabel is how many bytes of a text from outside become a label. Names of models and
// hosts are shorter as a rule.
const maxLabel = 128

// Label returns text as the value of an attribute: valid UTF-8, without which an
// exporter refuses all that is collected, and not too long. It may be a part of
// text: who keeps it keeps a copy, as a part of a URL would keep all of it.
func Label(text string) string {
	if len(text) <= maxLabel && utf8.ValidString(text) {
		return text
	}
	// A rune across the bound is no invalid one: it is looked at whole, and then
	// left out.
	text = strings.ToValidUTF8(text[:min(len(text), maxLabel+utf8.UTFMax)], "\uFFFD")
	if len(text) > maxLabel {
		text = strings.ToValidUTF8(text[:maxLabel], "")
	}
	return text
}

// Append adds an attribute to attrs unless its value is empty: what is
// unknown is left out.
func Append(attrs []attribute.KeyValue, key, value string) []attribute.KeyValue {
	if value == "" {
		return attrs
	}
	return append(attrs, attribute.String(key, value))
}

// Other stands for the label values beyond a bound.
const Other = "_OTHER"

// MaxAddresses bounds the values of server.address.
const MaxAddresses = 64

// MaxModels bounds the values of gen_ai.request.model, and the pairs of that and
// gen_ai.response.model.
const MaxModels = 64

// A Bound lets a limited number of distinct values through: the first that come,
// for good. To forget one for another would end one series and begin a new one, and
// their number would grow all the same. It is safe for concurrent use.
type Bound[K comparable] struct {
	limit int
	clone func(K) K
	mu    sync.RWMutex
	seen  map[K]K
}

// NewBound returns a Bound for limit values. clone copies a value that is to be
// kept, without what it may be a part of.
func NewBound[K comparable](limit int, clone func(K) K) *Bound[K] {
	return &Bound[K]{limit: limit, clone: clone, seen: make(map[K]K)}
}

// Admit returns the kept copy of value if it is one of the first, else false.
func (b *Bound[K]) Admit(value K) (kept K, ok bool) {
	b.mu.RLock()
	kept, known := b.seen[value]
	full := len(b.seen) >= b.limit
	b.mu.RUnlock()
	if known || full {
		return kept, known
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if kept, known = b.seen[value]; known || len(b.seen) >= b.limit {
		return kept, known
	}
	kept = b.clone(value)
	b.seen[kept] = kept
	return kept, true
}

// Labels bounds the values of one attribute: the first ones keep their names,
// the rest are Other.
type Labels struct{ bound *Bound[string] }

// NewLabels returns Labels that let limit values through.
func NewLabels(limit int) *Labels { return &Labels{NewBound(limit, strings.Clone)} }

// Bound returns value as a label of at most 128 bytes, or Other if there were too many before it.
func (l *Labels) Bound(value string) string {
	if value == "" {
		return ""
	}
	if kept, ok := l.bound.Admit(Label(value)); ok {
		return kept
	}
	return Other
}
