package fleet

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Why advice was dropped; the values of retrip.fleet.reason.
const (
	reasonQueueFull = "queue_full" // too much was waiting to be published
	reasonFailed    = "failed"     // Redis did not take it
	reasonNotStored = "not_stored" // it was published, but who comes later will not learn of it
	reasonLate      = "late"       // it was over when its turn came, or ends too far ahead
	reasonInvalid   = "invalid"    // it was of another version, or no advice
)

// A meters has the instruments. One that cannot be made is left out, so that metrics
// never keep advice from arriving. This module imports nothing internal of the root
// module, whose version may differ from its own, and so has no helpers for that.
type meters struct {
	published, received, dropped metric.Int64Counter
	reasons                      map[string][]metric.AddOption
	connected                    atomic.Int64
	stop                         metric.Registration
}

// newMeters makes the instruments. A nil provider is the global one. The sets of the
// reasons are made once.
func newMeters(provider metric.MeterProvider) *meters {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter("github.com/retrip-go/retrip/breaker/fleet")
	counter := func(name, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit("{advice}"), metric.WithDescription(description))
		if err != nil {
			otel.Handle(err)
		}
		return c
	}
	m := &meters{
		published: counter("retrip.fleet.published", "Advice published: a breaker has opened here."),
		received:  counter("retrip.fleet.received", "Advice received from other processes."),
		dropped:   counter("retrip.fleet.dropped", "Advice that was not published, not stored or not believed."),
		reasons:   make(map[string][]metric.AddOption),
	}
	for _, reason := range []string{reasonQueueFull, reasonFailed, reasonNotStored, reasonLate, reasonInvalid} {
		m.reasons[reason] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("retrip.fleet.reason", reason)))}
	}
	m.observe(meter)
	return m
}

// observe has it collected whether Redis answers.
func (m *meters) observe(meter metric.Meter) {
	connected, err := meter.Int64ObservableUpDownCounter("retrip.fleet.connected",
		metric.WithUnit("{connection}"), metric.WithDescription("1 if Redis has answered the latest command, else 0."))
	if err == nil {
		m.stop, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			o.ObserveInt64(connected, m.connected.Load())
			return nil
		}, connected)
	}
	if err != nil {
		otel.Handle(err)
	}
}

// publish counts advice that Redis has taken.
func (m *meters) publish() { add(m.published, 1) }

// receive counts advice of others that is believed.
func (m *meters) receive() { add(m.received, 1) }

// drop counts advice that got no further.
func (m *meters) drop(reason string) { m.dropAll(reason, 1) }

// dropAll is drop for several pieces of advice.
func (m *meters) dropAll(reason string, n int) { add(m.dropped, n, m.reasons[reason]...) }

// add adds to a counter, if it could be made.
func add(c metric.Int64Counter, n int, options ...metric.AddOption) {
	if c != nil && n > 0 {
		c.Add(context.Background(), int64(n), options...)
	}
}

// connect notes whether Redis has answered, for the next collection.
func (m *meters) connect(works bool) {
	if works {
		m.connected.Store(1)
	} else {
		m.connected.Store(0)
	}
}

// close ends the collection, which would keep the Redis in memory.
func (m *meters) close() {
	if m.stop != nil {
		_ = m.stop.Unregister()
	}
}
