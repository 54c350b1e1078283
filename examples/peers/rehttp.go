package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/PuerkitoBio/rehttp"
)

const rehttpModule = "github.com/PuerkitoBio/rehttp"

// rehttpTransport is rehttp's Transport with the conditions its documentation
// combines: a limit, and any of statuses and errors.
func rehttpTransport(base http.RoundTripper, s settings) http.RoundTripper {
	return rehttp.NewTransport(base, rehttp.RetryAll(
		rehttp.RetryMaxRetries(attempts-1),
		rehttp.RetryAny(
			rehttp.RetryStatuses(
				http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
				http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout),
			rehttp.RetryIsErr(isLost),
		),
	), rehttp.ExpJitterDelay(s.firstWait(), s.longestWait()))
}

// isLost tells errors of the connection from those of the caller and the breaker.
func isLost(err error) bool {
	return err != nil && !isOpen(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
