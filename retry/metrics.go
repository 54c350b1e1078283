package retry

import (
	"context"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/measure"
)

// The names of this package's metrics and attributes.
const (
	metricRetries     = "retrip.retries"
	metricDelay       = "retrip.retry.delay"
	metricExhaustions = "retrip.retry.exhaustions"
	metricAttempts    = "retrip.retry.attempts"

	attrBackend     = "retrip.backend"
	attrEndpoint    = "retrip.endpoint"
	attrAddress     = "server.address"
	attrErrorType   = "error.type"
	attrReason      = "retrip.retry.reason"
	attrDelaySource = "retrip.retry.delay_source"
	attrStopReason  = "retrip.retry.stop_reason"
)

// A recorder owns the instruments.
type recorder struct {
	backend   string
	addresses *measure.Labels

	retries     measure.Counter
	delay       measure.Histogram
	exhaustions measure.Counter
	attempts    measure.IntHistogram

	options *measure.Cache[labels]
	recent  measure.Recent[outcome, *measure.Options]
}

// An outcome is what the labels of a call that is over are made of, as it comes.
type outcome struct{ endpoint, host, errorType string }

func (o outcome) hash() int { return len(o.endpoint) + len(o.host) + len(o.errorType) }

// labels are what tells one series of this package from another.
type labels struct {
	endpoint, address          string
	errorType                  string
	reason, source, stopReason string
}

func newRecorder(provider metric.MeterProvider, backend string) *recorder {
	m := measure.Meter(provider, "retry")
	r := &recorder{
		backend:     backend,
		addresses:   measure.NewLabels(measure.MaxAddresses),
		retries:     measure.NewCounter(m, metricRetries, "{retry}", "Attempts that followed a failed one."),
		delay:       measure.NewHistogram(m, metricDelay, "s", "Time spent waiting before an attempt.", measure.DelayBounds),
		exhaustions: measure.NewCounter(m, metricExhaustions, "{call}", "Calls that ended in a retryable failure."),
		attempts:    measure.NewIntHistogram(m, metricAttempts, "{attempt}", "Attempts of a call.", measure.AttemptBounds),
	}
	r.options = measure.NewCache(r.attributes)
	return r
}

func (r *recorder) attributes(l labels) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String(attrBackend, r.backend)}
	attrs = measure.Append(attrs, attrEndpoint, l.endpoint)
	attrs = measure.Append(attrs, attrAddress, l.address)
	attrs = measure.Append(attrs, attrErrorType, l.errorType)
	attrs = measure.Append(attrs, attrReason, l.reason)
	attrs = measure.Append(attrs, attrDelaySource, l.source)
	return measure.Append(attrs, attrStopReason, l.stopReason)
}

func (r *recorder) retried(ctx context.Context, l labels) { r.retries.Add(ctx, 1, r.options.Get(l)) }

func (r *recorder) waited(ctx context.Context, d time.Duration, l labels) {
	r.delay.Record(ctx, d.Seconds(), r.options.Get(l))
}

func (r *recorder) exhausted(ctx context.Context, l labels) {
	r.exhaustions.Add(ctx, 1, r.options.Get(l))
}

func (r *recorder) over(ctx context.Context, attempts int, endpoint string, u *url.URL, errorType string) {
	o := outcome{endpoint, u.Host, errorType}
	options, ok := r.recent.Find(o.hash(), o)
	if !ok {
		options = r.options.Get(labels{endpoint: endpoint, address: r.address(u), errorType: errorType})
		if host, ok := measure.Kept(o.host); ok {
			o.host = host
			r.recent.Keep(o.hash(), o, options)
		}
	}
	r.attempts.Record(ctx, int64(attempts), options)
}

func (r *recorder) address(u *url.URL) string { return r.addresses.Bound(u.Hostname()) }

// label returns the reason as an attribute: one of the closed set.
func (r Reason) label() string {
	switch r {
	case NotRetryable,
		ReasonRateLimited, ReasonServerError, ReasonOverloaded, ReasonTimeout,
		ReasonConnection, ReasonBrokenBody, ReasonStreamError, ReasonServerSaysYes,
		StopAttempts, StopBudget, StopDeadline, StopHintTooLong,
		StopNotReplayable, StopRejected, StopServerSaysNo, StopPolicy:
		return string(r)
	}
	return measure.Other
}
