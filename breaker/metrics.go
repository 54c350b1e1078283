package breaker

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/measure"
)

// The names of the attributes. Dashboards depend on them.
const (
	keyName    = "retrip.breaker.name"
	keyState   = "retrip.breaker.state"
	keyFrom    = "retrip.breaker.from"
	keyTo      = "retrip.breaker.to"
	keyOutcome = "retrip.breaker.outcome"
	keyModel   = "gen_ai.request.model"
)

// maxNames bounds the values of retrip.breaker.name; further breakers share
// the name _OTHER. Callers invent models, and each name makes some ten series.
const maxNames = 128

// A meters has the instruments of a Transport, or of a Breaker alone. Labels stay for as
// long as it does, also those of breakers that were forgotten: the series that they name
// stay in the SDK as well. It is safe for concurrent use.
type meters struct {
	meter       metric.Meter
	calls       measure.Counter
	transitions measure.Counter
	state       metric.Int64ObservableUpDownCounter
	failures    metric.Int64ObservableGauge

	models *measure.Labels

	mu     sync.Mutex
	names  int // in labels, without _OTHER
	labels map[labelled]*label
	stop   func() error // ends the collection; nil before it has begun and after it has ended
}

// newMeters makes the instruments. measure replaces one that can't be made, so that
// metrics never fail a request.
func newMeters(provider metric.MeterProvider) *meters {
	m := measure.Meter(provider, "breaker")
	return &meters{
		meter:       m,
		calls:       measure.NewCounter(m, "retrip.breaker.calls", "{call}", "Requests by what a breaker made of them."),
		transitions: measure.NewCounter(m, "retrip.breaker.transitions", "{transition}", "Changes of a breaker's state."),
		state:       measure.NewObservableUpDownCounter(m, "retrip.breaker.state", "{breaker}", "Breakers in each state."),
		failures:    measure.NewObservableGauge(m, "retrip.breaker.consecutive_failures", "{failure}", "Failures since the last success."),
		models:      measure.NewLabels(measure.MaxModels),
		labels:      make(map[labelled]*label),
	}
}

// A labelled is what the series of one breaker differ in from those of another: its
// name, and the model it is for, by which a board finds it; "" if it is for no
// model alone.
type labelled struct{ name, model string }

// attributes returns the attributes of a series, with what more it has. A model that is
// unknown is left out.
func (l labelled) attributes(more ...attribute.KeyValue) []attribute.KeyValue {
	return measure.Append(append(more, attribute.String(keyName, l.name)), keyModel, l.model)
}

// A label has all sets of attributes that a breaker's name is part of. They are made
// once for a breaker, so that a request builds none.
type label struct {
	alone                                      *measure.Options
	states                                     [HalfOpen + 1]*measure.Options
	success, failure, ignored, stale, rejected *measure.Options
	transitions                                *measure.Cache[[2]State]
}

// label returns the label of a breaker.
func (m *meters) label(of labelled) *label {
	of.model = m.models.Bound(of.model)
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.labels[of]; l != nil {
		return l
	}
	if m.names < maxNames {
		m.names++
	} else if of = of.other(); m.labels[of] != nil {
		return m.labels[of]
	}
	l := newLabel(of)
	m.labels[of] = l
	return l
}

// other returns what the breakers beyond maxNames share.
func (l labelled) other() labelled {
	if l.model != "" {
		l.model = fault.Other
	}
	l.name = fault.Other
	return l
}

// newLabel makes the sets of a name. Those of transitions are made when one happens, since
// most breakers never open.
func newLabel(of labelled) *label {
	outcome := func(value string) *measure.Options {
		return measure.NewOptions(of.attributes(attribute.String(keyOutcome, value))...)
	}
	l := &label{
		alone:    measure.NewOptions(of.attributes()...),
		success:  outcome("success"),
		failure:  outcome("failure"),
		ignored:  outcome("ignored"),
		stale:    outcome("stale"),
		rejected: outcome("rejected"),
		transitions: measure.NewCache(func(t [2]State) []attribute.KeyValue {
			return of.attributes(attribute.String(keyFrom, t[0].String()), attribute.String(keyTo, t[1].String()))
		}),
	}
	for s := range l.states {
		l.states[s] = measure.NewOptions(of.attributes(attribute.String(keyState, State(s).String()))...)
	}
	return l
}

// transition returns the set for a change of state.
func (l *label) transition(from, to State) *measure.Options {
	return l.transitions.Get([2]State{from, to})
}

// observe has the breakers that all goes through collected. One callback serves all of
// them: of two that observe the same series, _OTHER for example, the last would win.
func (m *meters) observe(all func(each func(*Breaker))) {
	stop := measure.Observe(m.meter, func(o metric.Observer) {
		m.collect(o, all)
	}, m.state, m.failures)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop = stop
}

// collect adds up the states of breakers that share a label; of their
// failures it shows the worst.
func (m *meters) collect(o metric.Observer, all func(each func(*Breaker))) {
	type sum struct {
		states   [HalfOpen + 1]int64
		failures int
	}
	sums := make(map[*label]*sum)
	all(func(b *Breaker) {
		s := sums[b.label]
		if s == nil {
			s = new(sum)
			sums[b.label] = s
		}
		state, failures := b.gauges()
		s.states[state]++
		s.failures = max(s.failures, failures)
	})
	for l, s := range sums {
		for state, n := range s.states {
			o.ObserveInt64(m.state, n, l.states[state].Observe()...)
		}
		o.ObserveInt64(m.failures, int64(s.failures), l.alone.Observe()...)
	}
}

// gauges returns what is collected of the breaker, both from the same moment.
func (b *Breaker) gauges() (state State, failures int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.stateAt(b.now()), b.m.row.counted
}

// close ends the collection; it may be called more than once.
func (m *meters) close() error {
	m.mu.Lock()
	stop := m.stop
	m.stop = nil
	m.mu.Unlock()
	if stop == nil {
		return nil
	}
	return stop()
}
