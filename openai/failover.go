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

// The names of the metric and the attributes of fail-over.
const (
	metricFailovers = "retrip.failovers"

	attrTargetFrom = "retrip.target.from"
	attrTargetTo   = "retrip.target.to"
	attrAttempt    = "retrip.retry.attempt" // of span events only
)

// A tier that was left is told of again after warnEvery, and counts as returned to
// when it has answered and nobody has left it for steadyFor.
const (
	warnEvery = 10 * time.Minute
	steadyFor = 10 * time.Second
)

// failoverLabels are what tells one series of moves from another.
type failoverLabels struct{ endpoint, model, address, from, to, errorType string }

// A failoverRecorder tells of moves from one target to another.
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

func (r *failoverRecorder) attributes(l failoverLabels) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String(attrBackend, r.backend)}
	attrs = measure.Append(attrs, attrEndpoint, l.endpoint)
	attrs = measure.Append(attrs, attrModel, l.model)
	attrs = measure.Append(attrs, attrAddress, l.address)
	attrs = measure.Append(attrs, attrTargetFrom, l.from)
	attrs = measure.Append(attrs, attrTargetTo, l.to)
	return measure.Append(attrs, attrErrorType, l.errorType)
}

// failover tells of an attempt that goes to another target than the one before.
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

// leave warns that calls leave a tier, once in a while.
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

// answered notes that a target has answered: calls may be back in their tier.
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

// redirected warns of a target that redirects, once.
func (r *failoverRecorder) redirected(o *operation, d *destination, status int) {
	if _, warned := r.redirects.LoadOrStore(d.name, true); warned || r.logger == nil {
		return
	}
	r.logger.LogAttrs(&o.call, slog.LevelWarn, "a target redirects, which is not followed",
		slog.String("target", d.name), slog.Int("status", status), slog.String("advice", "set its BaseURL to where it serves"))
}

// A TargetSnapshot is a target at one moment.
type TargetSnapshot struct {
	Name   string `json:"name"`
	Tier   int    `json:"tier"`
	Weight int    `json:"weight"`

	// Open is how many of its breakers let nothing through, HalfOpen how many let
	// some requests through to try.
	Open     int `json:"open"`
	HalfOpen int `json:"half_open"`

	// Rate is the requests a second that may go there, and Waiting the calls that
	// wait for it, where a rate limit is felt.
	Rate    float64 `json:"rate,omitempty"`
	Waiting int     `json:"waiting"`

	Rests []RestSnapshot `json:"rests"` // whether calls pass it over, and for how long

	// LastWell is when it last answered well, to a second; zero if it has not yet.
	// LastFailed is when a call last left it for what it answered, or for its
	// silence, and LastError the error.type of that; zero and "" if none has.
	LastWell   time.Time `json:"last_well,omitzero"`
	LastFailed time.Time `json:"last_failed,omitzero"`
	LastError  string    `json:"last_error,omitempty"`
}

// snapshot returns the targets, in their order in the Config.
func (r *router) snapshot(s *Snapshot) []TargetSnapshot {
	list := make([]TargetSnapshot, 0, len(r.targets))
	now := r.now()
	for _, d := range r.targets {
		t := TargetSnapshot{Name: d.name, Tier: d.Tier, Weight: max(d.Weight, 1), Rests: r.rests.of(d.index, now)}
		d.health.tell(&t)
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

func (t *TargetSnapshot) count(s breaker.State) {
	switch s {
	case breaker.Open:
		t.Open++
	case breaker.HalfOpen:
		t.HalfOpen++
	case breaker.Closed:
	}
}
