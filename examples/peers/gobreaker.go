package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/sony/gobreaker/v2"
)

const gobreakerModule = "github.com/sony/gobreaker/v2"

// A breakerTransport is gobreaker as its README uses it. gobreaker has no
// RoundTripper, so this one keeps the whole contract: what it breaks would
// not be gobreaker's fault.
type breakerTransport struct {
	base    http.RoundTripper
	breaker *gobreaker.CircuitBreaker[*http.Response]
}

func newBreakerTransport(base http.RoundTripper) *breakerTransport {
	return &breakerTransport{base: base, breaker: gobreaker.NewCircuitBreaker[*http.Response](gobreakerSettings())}
}

func gobreakerSettings() gobreaker.Settings {
	return gobreaker.Settings{
		Timeout:      openFor,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= threshold },
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
	}
}

// errStatus tells gobreaker, which sees errors only, of a response that counts as a failure.
var errStatus = errors.New("the status is a failure")

func (t *breakerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.breaker.Execute(func() (*http.Response, error) {
		resp, err := t.base.RoundTrip(req)
		if err == nil && resp != nil && isFailure(resp, nil) {
			err = errStatus
		}
		return resp, err
	})
	switch {
	case errors.Is(err, errStatus):
		return resp, nil
	case isOpen(err) && req.Body != nil:
		req.Body.Close() // the base has not seen it
	}
	return resp, err
}

func (t *breakerTransport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// isOpen tells gobreaker's refusals.
func isOpen(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}
