package openai

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/measure"
	"github.com/retrip-go/retrip/retry"
)

// The names of the metric and the attributes of fail-over. The attempt's number is on
// span events only: as a label it would multiply the series.
const (
	metricFailovers = "retrip.failovers"

	attrTargetFrom = "retrip.target.from"
	attrTargetTo   = "retrip.target.to"
	attrAttempt    = "retrip.retry.attempt"
)

const (
	// warnEvery is how often the log says that calls leave their tier. Every call may
	// leave it during an outage, and one line for each would bury the rest of the log.
	warnEvery = 10 * time.Minute

	// steadyFor is how long no call must have left the tier before an answer from it
	// counts as the return. In a brown-out some calls succeed all the time.
	steadyFor = 10 * time.Second
)

// failoverLabels are the labels of one series of moves. They are a comparable struct, so
// that it can be the key of a cache of attributes.
type failoverLabels struct{ endpoint, model, address, from, to, errorType string }

// A failoverRecorder makes moves from one target to another visible: in the metric, in
// the span of the call and in the log. It is safe for concurrent use.
type failoverRecorder struct {
	backend   string
	logger    *slog.Logger // nil logs nothing
	addresses *measure.Labels
	models    *measure.Labels
	failovers measure.Counter
	options   *measure.Cache[failoverLabels]
	redirects sync.Map // names of targets that were warned of

	away   atomic.Bool // the first tier was left, and has not been returned to
	mu     sync.Mutex
	left   time.Time // the latest move out of a tier
	warned time.Time // of that
}

// newFailoverRecorder returns a recorder for a normalised Config. Models and addresses
// come from callers, so that their labels are bounded.
func newFailoverRecorder(cfg *Config) *failoverRecorder {
	m := measure.Meter(cfg.MeterProvider, "openai")
	r := &failoverRecorder{
		backend:   cfg.Retry.Backend,
		logger:    cfg.Logger,
		addresses: measure.NewLabels(measure.MaxAddresses),
		models:    measure.NewLabels(measure.MaxModels),
		failovers: measure.NewCounter(m, metricFailovers, "{failover}", "Attempts that went to another target than the one before."),
	}
	if r.backend == "" {
		r.backend = retry.DefaultBackend
	}
	r.options = measure.NewCache(r.attributes)
	return r
}

// attributes returns the attributes of a series, without those that are empty.
func (r *failoverRecorder) attributes(l failoverLabels) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String(attrBackend, r.backend)}
	attrs = measure.Append(attrs, attrEndpoint, l.endpoint)
	attrs = measure.Append(attrs, attrModel, l.model)
	attrs = measure.Append(attrs, attrAddress, l.address)
	attrs = measure.Append(attrs, attrTargetFrom, l.from)
	attrs = measure.Append(attrs, attrTargetTo, l.to)
	return measure.Append(attrs, attrErrorType, l.errorType)
}

// failover records an attempt that goes to another target than the one before. Only a
// move to a later tier is worth a warning, since within a tier calls are spread
// anyway.
func (r *failoverRecorder) failover(ctx context.Context, o *operation, from, to *destination, why string) {
	if r.failovers.Enabled(ctx) {
		l := failoverLabels{endpoint: o.kind.name, model: r.models.Bound(o.call.Model), address: r.addresses.Bound(o.url.Hostname()), from: from.name, to: to.name, errorType: why}
		r.failovers.Add(ctx, 1, r.options.Get(l))
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent("retrip.failover", trace.WithAttributes(
			attribute.Int(attrAttempt, call.AttemptFrom(ctx).Number),
			attribute.String(attrTargetFrom, from.name), attribute.String(attrTargetTo, to.name), attribute.String(attrErrorType, why)))
	}
	if to.Tier > from.Tier {
		r.leave(ctx, from, to, why)
	}
}

// leave notes that a call leaves its tier, and warns of it at most once in warnEvery.
// The log is written to after the lock is given back: a slow handler must not hold
// up other calls.
func (r *failoverRecorder) leave(ctx context.Context, from, to *destination, why string) {
	r.mu.Lock()
	now := time.Now()
	r.left = now
	r.away.Store(true)
	warns := r.warned.IsZero() || now.Sub(r.warned) >= warnEvery
	if warns {
		r.warned = now
	}
	r.mu.Unlock()
	if warns && r.logger != nil {
		r.logger.LogAttrs(ctx, slog.LevelWarn, "calls leave their tier of targets",
			slog.String("from", from.name), slog.String("to", to.name), slog.Int("tier", to.Tier), slog.String("error_type", why))
	}
}

// answered notes that a target has answered, which may mean that calls are back in their
// tier. first is the tier that the call began in. While no tier was left, this costs
// one atomic read. After a return the next outage is warned of at once.
func (r *failoverRecorder) answered(o *operation, t *destination, first int) {
	if !r.away.Load() || t.Tier > first {
		return
	}
	r.mu.Lock()
	back := r.away.Load() && time.Since(r.left) >= steadyFor
	if back {
		r.away.Store(false)
		r.warned = time.Time{}
	}
	r.mu.Unlock()
	if back && r.logger != nil {
		r.logger.LogAttrs(&o.call, slog.LevelInfo, "calls are back in their tier of targets", slog.String("target", t.name), slog.Int("tier", t.Tier))
	}
}

// redirected warns once of each target that redirects. That is a mistake of the
// configuration, which does not go away by itself, and every call would repeat it.
// The Location is not logged, since it may hold a key.
func (r *failoverRecorder) redirected(o *operation, d *destination, status int) {
	if _, warned := r.redirects.LoadOrStore(d.name, true); warned || r.logger == nil {
		return
	}
	r.logger.LogAttrs(&o.call, slog.LevelWarn, "a target redirects, which is not followed",
		slog.String("target", d.name), slog.Int("status", status), slog.String("advice", "set its BaseURL to where it serves"))
}

// A TargetSnapshot is one of [Config.Targets] at one moment, as part of a [Snapshot].
// Nothing in it changes afterwards. It shows no credentials and no URL.
type TargetSnapshot struct {
	Name   string `json:"name"`
	Tier   int    `json:"tier"`
	Weight int    `json:"weight"` // at least 1, since 0 in the Config means 1

	// Open is how many of its breakers let nothing through, and HalfOpen how many let
	// some requests through to try. A target has a breaker for each endpoint and
	// model, so that some of them may be open while others are not.
	Open     int `json:"open"`
	HalfOpen int `json:"half_open"`

	// Rate is how many requests a second pacing lets go there, and Waiting how many
	// calls wait for that. Both are sums over the keys of the target that are paced,
	// and 0 if there are none.
	Rate    float64 `json:"rate,omitempty"`
	Waiting int     `json:"waiting"`

	// Rests are the reasons for which calls pass the target over, ordered by model.
	// The list is empty, not nil, if there is none.
	Rests []RestSnapshot `json:"rests"`

	// LastWell is when it last answered well, exact to a second, and zero if it has not
	// yet. LastFailed is when a call last failed there in a way that another target
	// might not, and LastError is the error.type of that. They are zero and "" if
	// none has.
	LastWell   time.Time `json:"last_well,omitzero"`
	LastFailed time.Time `json:"last_failed,omitzero"`
	LastError  string    `json:"last_error,omitempty"`
}

// snapshot returns the targets in their order in the Config, which is how users know
// them. It sums up breakers and pacing of s, so that these must be filled in before.
func (r *router) snapshot(s *Snapshot) []TargetSnapshot {
	list := make([]TargetSnapshot, 0, len(r.targets))
	now := r.now()
	for _, d := range r.targets {
		t := TargetSnapshot{Name: d.name, Tier: d.Tier, Weight: max(d.Weight, 1), Rests: r.rests.of(d.index, now)}
		d.health.fill(&t)
		for i := range s.Breakers {
			if b := &s.Breakers[i]; b.Target == d.name {
				t.count(b.State)
			}
		}
		for i := range s.Pacing {
			if p := &s.Pacing[i]; p.Target == d.name {
				t.Rate += p.Rate
				t.Waiting += p.Waiting
			}
		}
		list = append(list, t)
	}
	return list
}

// count adds a breaker in the given state. Closed ones are the normal case and are not
// counted.
func (t *TargetSnapshot) count(s breaker.State) {
	switch s {
	case breaker.Open:
		t.Open++
	case breaker.HalfOpen:
		t.HalfOpen++
	case breaker.Closed:
	}
}
