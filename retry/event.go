package retry

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/retrip-go/retrip/internal/measure"
)

// An Event is a wait that is about to begin; see [Config.OnRetry]. It holds nothing of
// the request or the response, so that it may be logged and kept.
//
//nolint:containedctx // as in slog.Handler, the context is for values and correlation
type Event struct {
	Context     context.Context // the call's, for its values and for correlation
	Attempt     int             // of the failed attempt; 1 is the first
	MaxAttempts int             // of this call
	Reason      Reason          // why another attempt follows
	ErrorType   string          // what the attempt failed with, as the metrics' error.type has it
	Delay       time.Duration   // how long the wait is meant to be
	DelaySource string          // "backoff", or "hint" where the server or the Policy said how long; a fail-over is a hint of 0
	Endpoint    string          // "chat", …; "" if unknown
	Model       string          // as requested; "" if unknown
	Target      string          // where the failed attempt went, by the name of the target; "" if there is only one place
}

// announce reports a wait to OnRetry, the log and the caller's span. The line of the log
// is for debugging alone: a retry that mends a call is nothing to act on.
func (t *Transport) announce(e Event) {
	if t.cfg.OnRetry != nil {
		t.cfg.OnRetry(e)
	}
	if t.cfg.Logger != nil {
		t.cfg.Logger.LogAttrs(e.Context, slog.LevelDebug, "retry",
			slog.Int("attempt", e.Attempt), slog.String("reason", e.Reason.label()), slog.String("error_type", e.ErrorType),
			slog.Duration("delay", e.Delay), slog.String("delay_source", e.DelaySource), slog.String("endpoint", e.Endpoint), e.target())
	}
	if span := trace.SpanFromContext(e.Context); span.IsRecording() {
		span.AddEvent("retrip.retry", trace.WithAttributes(e.attributes()...))
	}
}

// target is the attribute of the log for the target. slog leaves an empty Attr out, as
// is right for a call that has one place to go.
func (e *Event) target() slog.Attr {
	if e.Target == "" {
		return slog.Attr{}
	}
	return slog.String("target", e.Target)
}

// attributes are those of the event of a span. Beside those of the metrics it has the
// number of the attempt, which would be too many series in a metric.
func (e *Event) attributes() []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.Int(attrAttempt, e.Attempt), attribute.String(attrReason, e.Reason.label()),
		attribute.Float64(metricDelay, e.Delay.Seconds()), attribute.String(attrDelaySource, e.DelaySource),
	}
	return measure.Append(attrs, attrTarget, e.Target)
}

// logTooLarge logs that a payload is sent once because of its size. Without that line
// there would be no way to find out why such a call is not retried.
func (t *Transport) logTooLarge(ctx context.Context, endpoint string) {
	if t.cfg.Logger != nil {
		t.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "payload too large to replay",
			slog.Int64("max_replay_bytes", t.cfg.MaxReplayBytes), slog.String("endpoint", endpoint))
	}
}

// logExhaustion logs that a retryable failure goes to the caller. It is a warning, as
// that is what an operator sees of a provider in trouble.
func (t *Transport) logExhaustion(ctx context.Context, attempts int, l labels) {
	if t.cfg.Logger != nil {
		t.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "retries exhausted",
			slog.Int("attempts", attempts), slog.String("stop_reason", l.stopReason), slog.String("error_type", l.errorType),
			slog.String("endpoint", l.endpoint))
	}
}
