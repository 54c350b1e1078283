package retry

import (
	"context"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/measure"
)

// The names of this package's metrics and attributes. Dashboards depend on them.
const (
	metricRetries     = "retrip.retries"
	metricDelay       = "retrip.retry.delay"
	metricExhaustions = "retrip.retry.exhaustions"
	metricAttempts    = "retrip.retry.attempts"

	attrBackend     = "retrip.backend"
	attrEndpoint    = "retrip.endpoint"
	attrModel       = "gen_ai.request.model"
	attrAddress     = "server.address"
	attrErrorType   = "error.type"
	attrAttempt     = "retrip.retry.attempt" // of span events only
	attrReason      = "retrip.retry.reason"
	attrDelaySource = "retrip.retry.delay_source"
	attrStopReason  = "retrip.retry.stop_reason"
	attrTarget      = "retrip.target"
)

// A recorder owns the instruments. Attributes are looked up for each call: two
// caches keep that from allocating, one of whole sets and one of the sets that
// were used last. The second one spares the first one's look-up, in which the labels
// are bounded and hashed. It is safe for concurrent use.
type recorder struct {
	backend   string
	addresses *measure.Labels
	models    *measure.Labels

	retries     measure.Counter
	delay       measure.Histogram
	exhaustions measure.Counter
	attempts    measure.IntHistogram

	options *measure.Cache[labels]
	recent  measure.Recent[outcome, *measure.Options]
}

// An outcome is what the labels of a call that is over are made of, before they
// are bounded. Calls are much alike, so that most find the set of one before.
type outcome struct {
	about           call.Subject
	host, errorType string
}

// hash spreads outcomes over the places of recent. It may be this simple, because two
// outcomes with one hash only take each other's place.
func (o outcome) hash() int {
	return len(o.about.Endpoint) + 3*len(o.about.Model) + len(o.host) + len(o.errorType)
}

// labels are what one series of this package differs in from another. They are
// comparable, so that a set of attributes is built once for each of them.
type labels struct {
	endpoint, model, address   string
	errorType                  string
	reason, source, stopReason string
	target                     string
}

// newRecorder makes the instruments. measure replaces one that can't be made, so that
// metrics never fail a Transport.
func newRecorder(provider metric.MeterProvider, backend string) *recorder {
	m := measure.Meter(provider, "retry")
	r := &recorder{
		backend:     backend,
		addresses:   measure.NewLabels(measure.MaxAddresses),
		models:      measure.NewLabels(measure.MaxModels),
		retries:     measure.NewCounter(m, metricRetries, "{retry}", "Attempts that followed a failed one."),
		delay:       measure.NewHistogram(m, metricDelay, "s", "Time spent waiting before an attempt.", measure.DelayBounds),
		exhaustions: measure.NewCounter(m, metricExhaustions, "{call}", "Calls that ended in a retryable failure."),
		attempts:    measure.NewIntHistogram(m, metricAttempts, "{attempt}", "Attempts of a call.", measure.AttemptBounds),
	}
	r.options = measure.NewCache(r.attributes)
	return r
}

// attributes omits whatever is unknown, so that it makes no series of its own. The
// backend is the same for all calls of a Transport.
func (r *recorder) attributes(l labels) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String(attrBackend, r.backend)}
	attrs = measure.Append(attrs, attrEndpoint, l.endpoint)
	attrs = measure.Append(attrs, attrModel, l.model)
	attrs = measure.Append(attrs, attrAddress, l.address)
	attrs = measure.Append(attrs, attrErrorType, l.errorType)
	attrs = measure.Append(attrs, attrReason, l.reason)
	attrs = measure.Append(attrs, attrDelaySource, l.source)
	attrs = measure.Append(attrs, attrTarget, l.target)
	return measure.Append(attrs, attrStopReason, l.stopReason)
}

// retried counts an attempt that followed another one. It is counted when the attempt
// was sent, since a wait may end without one.
func (r *recorder) retried(ctx context.Context, l labels) { r.retries.Add(ctx, 1, r.options.Get(l)) }

// waited records a wait, however it ended: it is the time that the caller has lost.
func (r *recorder) waited(ctx context.Context, d time.Duration, l labels) {
	r.delay.Record(ctx, d.Seconds(), r.options.Get(l))
}

// exhausted counts a call that ended in a failure which another attempt might have
// mended.
func (r *recorder) exhausted(ctx context.Context, l labels) {
	r.exhaustions.Add(ctx, 1, r.options.Get(l))
}

// over records how many attempts a call took. It is asked for each call, so that it
// looks for the options of the latest ones first.
func (r *recorder) over(ctx context.Context, attempts int, about call.Subject, u *url.URL, errorType string) {
	o := outcome{about, u.Host, errorType}
	options, ok := r.recent.Find(o.hash(), o)
	if !ok {
		options = r.options.Get(r.labels(about, u, errorType))
		if host, ok := measure.Kept(o.host); ok {
			o.host = host
			r.recent.Keep(o.hash(), o, options)
		}
	}
	r.attempts.Record(ctx, int64(attempts), options)
}

// labels returns the labels of a call to u about a subject. Models and hosts may
// be anything that a caller or a redirect names: their number is bounded.
func (r *recorder) labels(about call.Subject, u *url.URL, errorType string) labels {
	return labels{
		endpoint: about.Endpoint, model: r.models.Bound(about.Model), address: r.addresses.Bound(u.Hostname()),
		errorType: errorType,
	}
}

// label returns the reason as an attribute: one of the closed set, since a Policy
// may return any text.
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
