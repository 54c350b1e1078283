package openai

import (
	"maps"
	"net/url"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/measure"
	"github.com/retrip-go/retrip/internal/throttle"
	"github.com/retrip-go/retrip/retry"
)

// These are the names of the metrics and attributes of rate limits. Dashboards
// depend on them.
const (
	metricPacingRate    = "retrip.pacing.rate"
	metricPacingWaiting = "retrip.pacing.waiting"
	metricPacingWaits   = "retrip.pacing.waits"

	attrPacingOutcome = "retrip.pacing.outcome"
	attrBackend       = "retrip.backend"
	attrEndpoint      = "retrip.endpoint"
	attrTarget        = "retrip.target"
)

// pacingLabels tell one account from another in a metric. A credential is no label:
// it would be a secret, and its number is unbounded. Accounts that differ only in it
// share their series.
type pacingLabels struct{ address, model, target string }

// attributes omits whatever is unknown, so that it makes no series of its own.
func (l pacingLabels) attributes() []attribute.KeyValue {
	var attrs []attribute.KeyValue
	attrs = measure.Append(attrs, attrAddress, l.address)
	attrs = measure.Append(attrs, attrModel, l.model)
	return measure.Append(attrs, attrTarget, l.target)
}

// waitLabels are those of the histogram of waits, which knows the call and how its
// wait ended.
type waitLabels struct {
	pacingLabels

	endpoint, outcome string
}

// A pacingRecorder records what the rate limits of one Transport do. The tables of
// labels bound what callers and providers can invent: each new label is a series that
// the SDK keeps for as long as the process lives.
type pacingRecorder struct {
	backend   string          // as in the metrics of the retry layer, whose calls these are
	addresses *measure.Labels // the hosts that have a label of their own
	models    *measure.Labels // likewise the models
	waits     measure.Histogram
	ofWait    *measure.Cache[waitLabels] // the attributes of waits
	gauges    *pacingGauges              // shared with other Transports
}

// newPacingRecorder makes the recorder of a pacer, which joins the gauges of its
// MeterProvider.
func newPacingRecorder(cfg *Config, p *pacer) *pacingRecorder {
	m := measure.Meter(cfg.MeterProvider, "openai")
	r := &pacingRecorder{
		backend:   cfg.Retry.Backend,
		addresses: measure.NewLabels(measure.MaxAddresses),
		models:    measure.NewLabels(measure.MaxModels),
		waits:     measure.NewHistogram(m, metricPacingWaits, "s", "Time that calls waited for their account's rate limit.", measure.DelayBounds),
		gauges:    join(cfg.MeterProvider, p),
	}
	if r.backend == "" {
		r.backend = retry.DefaultBackend // which the retry layer fills in for itself alone
	}
	r.ofWait = measure.NewCache(r.attributes)
	return r
}

// attributes adds what a board filters calls by to the labels of the account.
func (r *pacingRecorder) attributes(l waitLabels) []attribute.KeyValue {
	attrs := append(l.attributes(), attribute.String(attrBackend, r.backend))
	attrs = measure.Append(attrs, attrEndpoint, l.endpoint)
	return measure.Append(attrs, attrPacingOutcome, l.outcome)
}

// labels returns the labels of an account. They are made once, when the account is. The
// target's name comes from the Config, so it needs no bound.
func (r *pacingRecorder) labels(u *url.URL, c *call.Subject) pacingLabels {
	return pacingLabels{address: r.addresses.Bound(u.Hostname()), model: r.models.Bound(c.Model), target: c.Target}
}

// waited records the wait of a call. Attributes are cached, since building them
// costs more than recording. The call is the context, so that an exemplar can link the
// wait to the caller's span.
func (r *pacingRecorder) waited(c *call.Call, l pacingLabels, waited time.Duration, became throttle.State) {
	if r.waits.Enabled(c) {
		r.waits.Record(c, waited.Seconds(), r.ofWait.Get(waitLabels{l, c.Endpoint, outcomeOf(became)}))
	}
}

// outcomeOf returns the value of retrip.pacing.outcome. A call that is still Waiting
// has left, because its caller gave up.
func outcomeOf(became throttle.State) string {
	switch became {
	case throttle.Admitted:
		return "admitted"
	case throttle.Refused:
		return "refused"
	default:
		return "left"
	}
}

// A pacingGauges shows what the rate limits of all Transports do that share a
// MeterProvider. It is shared for this reason: two Transports may pace accounts with the
// same labels, and of two callbacks that observe one series the last one wins. The sum
// can only be made by one callback for both.
type pacingGauges struct {
	rate    metric.Float64ObservableGauge
	waiting metric.Int64ObservableUpDownCounter
	// options caches the attributes of a series, since the gauges are read again and
	// again.
	options *measure.Cache[pacingLabels]
	stop    func() error // unregisters the callback

	mu sync.Mutex
	// pacers are those of Transports that were not closed. A Transport that is dropped
	// without Close stays in memory by this, which is why its doc asks for Close.
	pacers map[*pacer]struct{}
}

// allGauges finds the gauges of each MeterProvider that a Transport uses. It is global,
// because a MeterProvider is all that Transports have in common. Its lock is taken before
// that of any gauges, and is held while one of them is made, so that no provider gets
// two.
var allGauges struct {
	sync.Mutex
	of map[metric.MeterProvider]*pacingGauges
}

// join adds a pacer to the gauges of a provider. Nil stands for the global one. A
// provider whose type is not comparable can be no key of a map, so each of its
// Transports gets gauges of its own.
func join(provider metric.MeterProvider, p *pacer) *pacingGauges {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	allGauges.Lock()
	defer allGauges.Unlock()
	shareable := reflect.ValueOf(provider).Comparable() // a map panics at any other key
	var g *pacingGauges
	if shareable {
		g = allGauges.of[provider]
	}
	if g == nil {
		g = newPacingGauges(provider)
	}
	if shareable {
		if allGauges.of == nil {
			allGauges.of = make(map[metric.MeterProvider]*pacingGauges)
		}
		allGauges.of[provider] = g
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pacers[p] = struct{}{}
	return g
}

// leave removes a pacer. With the last one the callback is unregistered, so that
// nothing is left of closed Transports. A second call for the same pacer does
// nothing.
func (g *pacingGauges) leave(p *pacer) error {
	allGauges.Lock()
	defer allGauges.Unlock()
	g.mu.Lock()
	_, in := g.pacers[p]
	delete(g.pacers, p)
	last := len(g.pacers) == 0
	g.mu.Unlock()
	if !in || !last {
		return nil
	}
	// The provider is not kept, so that the gauges are looked for by their value.
	maps.DeleteFunc(allGauges.of, func(_ metric.MeterProvider, of *pacingGauges) bool { return of == g })
	return g.stop()
}

// newPacingGauges registers the one callback of a provider.
func newPacingGauges(provider metric.MeterProvider) *pacingGauges {
	m := measure.Meter(provider, "openai")
	g := &pacingGauges{
		rate:    measure.NewFloatObservableGauge(m, metricPacingRate, "{request}/s", "Requests a second that may go to accounts whose rate limit is felt."),
		waiting: measure.NewObservableUpDownCounter(m, metricPacingWaiting, "{call}", "Calls that wait for their account's rate limit."),
		options: measure.NewCache(pacingLabels.attributes),
		pacers:  make(map[*pacer]struct{}),
	}
	g.stop = measure.Observe(m, g.observe, g.rate, g.waiting)
	return g
}

// observe adds up the accounts that share their labels: a series has one value in
// each collection. A rate of 0 is left out, because it means that no rate is known
// and not that nothing may go.
func (g *pacingGauges) observe(o metric.Observer) {
	type sum struct {
		rate    float64
		waiting int64
	}
	sums := make(map[pacingLabels]sum)
	for _, p := range g.list() {
		for _, a := range p.accounts.list() {
			if s, ok := a.snapshot(); ok {
				of := sums[a.labels]
				sums[a.labels] = sum{of.rate + s.Rate, of.waiting + int64(s.Waiting)}
			}
		}
	}
	for l, s := range sums { // without a lock: the SDK may take its time
		options := g.options.Get(l).Observe()
		if s.rate > 0 {
			o.ObserveFloat64(g.rate, s.rate, options...)
		}
		o.ObserveInt64(g.waiting, s.waiting, options...)
	}
}

// list returns a copy, since the accounts are read without the lock of the gauges.
func (g *pacingGauges) list() []*pacer {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.pacers))
}
