package main

import (
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

const otelhttpModule = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

// otelhttpTransport records the metrics only, as retrip does; spans would cost
// more, and none are exported.
func otelhttpTransport(base http.RoundTripper, s settings) http.RoundTripper {
	return otelhttp.NewTransport(base, otelhttp.WithMeterProvider(s.meterProvider()))
}
