package measure

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// NewObservableUpDownCounter makes an observable counter that may fall; an
// error goes to otel.Handle, and the counter then counts nothing.
func NewObservableUpDownCounter(m metric.Meter, name, unit, description string) (c metric.Int64ObservableUpDownCounter) {
	Guard(func() (err error) {
		c, err = m.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		return err
	})
	if c == nil {
		return noop.Int64ObservableUpDownCounter{}
	}
	return c
}

// NewObservableGauge makes an observable gauge; an error goes to otel.Handle,
// and the gauge then shows nothing.
func NewObservableGauge(m metric.Meter, name, unit, description string) (g metric.Int64ObservableGauge) {
	Guard(func() (err error) {
		g, err = m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		return err
	})
	if g == nil {
		return noop.Int64ObservableGauge{}
	}
	return g
}

// NewFloatObservableGauge makes an observable gauge of fractions; an error goes
// to otel.Handle, and the gauge then shows nothing.
func NewFloatObservableGauge(m metric.Meter, name, unit, description string) (g metric.Float64ObservableGauge) {
	Guard(func() (err error) {
		g, err = m.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		return err
	})
	if g == nil {
		return noop.Float64ObservableGauge{}
	}
	return g
}

// Observe has f called on each collection for the instruments, until the
// returned function is called. An error goes to otel.Handle. stop is never nil, so that
// a Transport can be closed whatever its MeterProvider has done. It forwards the
// provider's error, and keeps its panic from the caller.
func Observe(m metric.Meter, f func(metric.Observer), instruments ...metric.Observable) (stop func() error) {
	stop = func() error { return nil }
	Guard(func() error {
		registration, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			f(o)
			return nil
		}, instruments...)
		if err == nil && registration != nil {
			stop = func() error {
				defer guard(nil)
				return registration.Unregister()
			}
		}
		return err
	})
	return stop
}

// Observe returns the options for use in a callback.
func (o *Options) Observe() []metric.ObserveOption { return o.observe }
