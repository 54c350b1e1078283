// Package measure is what the packages share of OpenTelemetry metrics:
// instruments that can't fail a call, and attribute sets made once.
package measure

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

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

// Guard runs f, and lets no panic or error of a metrics library out of it.
func Guard(f func() error) {
	defer guard(nil)
	if err := f(); err != nil {
		otel.Handle(err)
	}
}

// unlessNoop returns the instrument, or nil if it is the no-op one: then nobody
// has to be asked, and to be guarded against, on every call.
func unlessNoop[Noop, I any](instrument I) (kept I) {
	if _, is := any(instrument).(Noop); !is {
		kept = instrument
	}
	return kept
}

// A Counter is an Int64Counter that never panics; the zero value counts nothing.
type Counter struct{ instrument metric.Int64Counter } // nil if there is nothing to ask

// NewCounter makes a counter; an error goes to otel.Handle.
func NewCounter(m metric.Meter, name, unit, description string) (c Counter) {
	Guard(func() (err error) {
		c.instrument, err = m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		return err
	})
	c.instrument = unlessNoop[noop.Int64Counter](c.instrument)
	return c
}

// Enabled reports whether somebody reads the counter.
func (c Counter) Enabled(ctx context.Context) (enabled bool) {
	if c.instrument == nil {
		return false
	}
	defer guard(nil)
	return c.instrument.Enabled(ctx)
}

// Add counts n under the attributes of o.
func (c Counter) Add(ctx context.Context, n int64, o *Options) {
	if c.instrument == nil {
		return
	}
	defer guard(nil)
	if c.instrument.Enabled(ctx) {
		c.instrument.Add(ctx, n, o.add...)
	}
}

// A Histogram is a Float64Histogram that never panics; the zero value records nothing.
type Histogram struct{ instrument metric.Float64Histogram } // nil if there is nothing to ask

// NewHistogram makes a histogram with the given bounds; an error goes to otel.Handle.
func NewHistogram(m metric.Meter, name, unit, description string, bounds []float64) (h Histogram) {
	Guard(func() (err error) {
		h.instrument, err = m.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(bounds...))
		return err
	})
	h.instrument = unlessNoop[noop.Float64Histogram](h.instrument)
	return h
}

// Enabled reports whether somebody reads the histogram.
func (h Histogram) Enabled(ctx context.Context) (enabled bool) {
	if h.instrument == nil {
		return false
	}
	defer guard(nil)
	return h.instrument.Enabled(ctx)
}

// Record records v under the attributes of o.
func (h Histogram) Record(ctx context.Context, v float64, o *Options) {
	if h.instrument == nil {
		return
	}
	defer guard(nil)
	if h.instrument.Enabled(ctx) {
		h.instrument.Record(ctx, v, o.record...)
	}
}

// An IntHistogram is an Int64Histogram that never panics; the zero value records nothing.
type IntHistogram struct{ instrument metric.Int64Histogram } // nil if there is nothing to ask

// NewIntHistogram makes a histogram with the given bounds; an error goes to otel.Handle.
func NewIntHistogram(m metric.Meter, name, unit, description string, bounds []float64) (h IntHistogram) {
	Guard(func() (err error) {
		h.instrument, err = m.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(bounds...))
		return err
	})
	h.instrument = unlessNoop[noop.Int64Histogram](h.instrument)
	return h
}

// Enabled reports whether somebody reads the histogram.
func (h IntHistogram) Enabled(ctx context.Context) (enabled bool) {
	if h.instrument == nil {
		return false
	}
	defer guard(nil)
	return h.instrument.Enabled(ctx)
}

// Record records v under the attributes of o.
func (h IntHistogram) Record(ctx context.Context, v int64, o *Options) {
	if h.instrument == nil {
		return
	}
	defer guard(nil)
	if h.instrument.Enabled(ctx) {
		h.instrument.Record(ctx, v, o.record...)
	}
}

// Options are one set of attributes, ready for every kind of instrument.
type Options struct {
	add     []metric.AddOption
	record  []metric.RecordOption
	observe []metric.ObserveOption
}

// NewOptions returns the options of a set of attributes.
func NewOptions(attrs ...attribute.KeyValue) *Options {
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

// Get returns the options of key.
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

// A Bound lets a limited number of distinct values through. It is safe for
// concurrent use.
type Bound[K comparable] struct {
	limit int
	mu    sync.RWMutex
	seen  map[K]struct{}
}

// NewBound returns a Bound for limit values.
func NewBound[K comparable](limit int) *Bound[K] {
	return &Bound[K]{limit: limit, seen: make(map[K]struct{})}
}

// Admit reports whether value is one of the first. It keeps value.
func (b *Bound[K]) Admit(value K) bool {
	b.mu.RLock()
	_, known := b.seen[value]
	full := len(b.seen) >= b.limit
	b.mu.RUnlock()
	if known || full {
		return known
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known = b.seen[value]; !known && len(b.seen) >= b.limit {
		return false
	}
	b.seen[value] = struct{}{}
	return true
}

// Labels bounds the values of one attribute: the first ones keep their names,
// the rest are Other.
type Labels struct{ bound *Bound[string] }

// NewLabels returns Labels that let limit values through.
func NewLabels(limit int) *Labels { return &Labels{NewBound[string](limit)} }

// Bound returns value, or Other if there were too many before it.
func (l *Labels) Bound(value string) string {
	if value == "" || l.bound.Admit(value) {
		return value
	}
	return Other
}
