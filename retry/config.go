package retry

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// What the zero values of a [Config] stand for.
const (
	DefaultMaxAttempts    = 4
	DefaultMaxRetryAfter  = 60 * time.Second
	DefaultMaxElapsed     = 3 * time.Minute
	DefaultMaxReplayBytes = 32 << 20
	DefaultBackend        = "external"

	// The default Backoff waits 500 ms ± 25 %, then twice as long each time, and
	// never longer than 8 s.
	DefaultInitialBackoff = 500 * time.Millisecond
	DefaultMaxBackoff     = 8 * time.Second
	defaultJitter         = 0.25
)

// A Config says how a [Transport] retries. The zero value is safe for
// production. NewTransport copies it: later changes have no effect. The
// functions in it must be safe for concurrent use.
type Config struct {
	// MaxAttempts is the number of requests sent for one call, the first
	// included. 0 means [DefaultMaxAttempts], 1 turns retries off. A negative
	// number is an error. [WithMaxAttempts] overrides it for a single call.
	MaxAttempts int

	// Backoff makes the waits of one call for which the server named none. It
	// is asked for a BackOff once a call, before the first such wait;
	// backoff.Stop ends the retries of the call. Nil means exponential, from
	// [DefaultInitialBackoff] to [DefaultMaxBackoff], each ± 25 %.
	Backoff func() backoff.BackOff

	// Policy decides, after each attempt, whether and when another one
	// follows. It can't override Safe. Nil means [DefaultPolicy].
	Policy Policy

	// Safe reports whether a request may be sent more than once. What it
	// refuses is sent once, whatever Policy says, but see Repeatable. It must
	// not read the request's body. Nil means the idempotent methods (RFC 9110,
	// section 9.2.2) and requests that carry an Idempotency-Key or
	// X-Idempotency-Key, as net/http has it.
	Safe func(*http.Request) bool

	// Repeatable is asked about an attempt that Policy would repeat, of a
	// request that Safe refused: true sends it again, because this attempt
	// proves that nothing came of it. Attempt.NotSent, which is found out more
	// exactly then, is one such proof. It changes nothing where the payload
	// can't be sent again. The payload of a request that is not Safe is not
	// kept, unless it comes from NewRequest or an outer layer; after NotSent it
	// is still unread. Nil repeats none.
	Repeatable func(*Attempt) bool

	// Inspect looks at each attempt that has a response before Policy does. It
	// may read Attempt.Response.Body if it puts another body in its place that
	// starts from the first byte; that one closes the one it replaces. What
	// Inspect returns becomes Attempt.Err: a failure that the status does not
	// show. The caller gets the response all the same, if no attempt follows.
	// Nil inspects nothing.
	Inspect func(*Attempt) error

	// MaxRetryAfter is the longest wait obeyed if a server asks for one. A
	// longer one ends the call at once with the response at hand: it is never
	// cut short, since an attempt before its time would fail again. 0 means
	// [DefaultMaxRetryAfter]; negative is an error.
	MaxRetryAfter time.Duration

	// MaxElapsed is how long after its start a call may begin an attempt; it
	// ends no attempt under way. 0 means [DefaultMaxElapsed]; negative means
	// that only the deadline of the request's context counts, which always
	// does.
	MaxElapsed time.Duration

	// AttemptTimeout bounds one attempt, from sending it to the response's
	// headers. It does not bound the body. 0 means no limit; negative is an
	// error. An attempt that it ends is not repeated by DefaultPolicy: a silent
	// provider may well be at work on the answer, and bill it. The error has
	// Timeout() true, and is not context.DeadlineExceeded.
	AttemptTimeout time.Duration

	// MaxReplayBytes is the largest payload, in bytes, that is held in memory
	// to be sent again. A larger one is streamed once and logged. 0 means
	// [DefaultMaxReplayBytes]; negative is an error.
	MaxReplayBytes int64

	// Budget limits retries to a share of the traffic, so that they don't
	// keep a struggling server down. Transports may share one. Nil means a
	// private one, NewBudget(DefaultBudgetTokens, DefaultBudgetRefill);
	// [Unlimited] means none.
	Budget *Budget

	// BudgetKey names the bucket of the Budget that a request draws on. Nil
	// means the URL's host. The first 1024 bytes of a name count.
	BudgetKey func(*http.Request) string

	// OnRetry is called before each wait. It runs on the call's goroutine,
	// outside of all locks, so that it delays the call that it is about and no
	// other. Nil means nothing is called.
	OnRetry func(Event)

	// Logger gets a line for each retry (debug) and for each call given up
	// (warn): never a body, a header or a URL's query. Nil logs nothing.
	Logger *slog.Logger

	// MeterProvider makes the instruments. Nil means the global one.
	MeterProvider metric.MeterProvider

	// Backend is the retrip.backend attribute of the metrics. "" means
	// [DefaultBackend]; a model server of one's own may be "internal".
	Backend string
}

// Validate returns a [*ConfigError] for the first field that is out of its
// range, else nil.
func (c Config) Validate() error {
	switch {
	case c.MaxAttempts < 0:
		return &ConfigError{"MaxAttempts", c.MaxAttempts, "0 for the default, or at least 1"}
	case c.MaxRetryAfter < 0:
		return &ConfigError{"MaxRetryAfter", c.MaxRetryAfter, "0 for the default, or more"}
	case c.AttemptTimeout < 0:
		return &ConfigError{"AttemptTimeout", c.AttemptTimeout, "0 for none, or more"}
	case c.MaxReplayBytes < 0:
		return &ConfigError{"MaxReplayBytes", c.MaxReplayBytes, "0 for the default, or at least 1"}
	}
	return nil
}

// normalised returns c with its defaults filled in.
func (c Config) normalised() Config {
	if c.MaxAttempts == 0 {
		c.MaxAttempts = DefaultMaxAttempts
	}
	if c.Backoff == nil {
		c.Backoff = defaultBackoff
	}
	if c.Policy == nil {
		c.Policy = DefaultPolicy
	}
	if c.Safe == nil {
		c.Safe = defaultSafe
	}
	if c.MaxRetryAfter == 0 {
		c.MaxRetryAfter = DefaultMaxRetryAfter
	}
	if c.MaxElapsed == 0 {
		c.MaxElapsed = DefaultMaxElapsed
	}
	if c.MaxReplayBytes == 0 {
		c.MaxReplayBytes = DefaultMaxReplayBytes
	}
	if c.Budget == nil {
		c.Budget = NewBudget(DefaultBudgetTokens, DefaultBudgetRefill)
	}
	if c.BudgetKey == nil {
		c.BudgetKey = func(req *http.Request) string { return req.URL.Host }
	}
	if c.Backend == "" {
		c.Backend = DefaultBackend
	}
	return c
}

// A ConfigError names a field of a [Config] that is out of its range.
type ConfigError struct {
	Field   string // the field's name
	Value   any    // what it was set to
	Allowed string // what it may be
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("retry: Config.%s is %v: it may be %s", e.Field, e.Value, e.Allowed)
}

// defaultBackoff makes the waits of one call. They are random, so that the
// callers whom one outage has failed don't return together.
func defaultBackoff() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = DefaultInitialBackoff
	b.Multiplier = 2
	b.RandomizationFactor = defaultJitter
	// The package adds the jitter to MaxInterval; the longest wait includes it.
	b.MaxInterval = time.Duration(float64(DefaultMaxBackoff) / (1 + defaultJitter))
	b.MaxElapsedTime = 0 // MaxElapsed is ours to watch
	b.Reset()
	return b
}

func defaultSafe(req *http.Request) bool {
	return roundtrip.IsIdempotent(req.Method) || hasIdempotencyKey(req)
}

// hasIdempotencyKey reports whether net/http would replay the request on its
// own account; it looks at the same two headers.
func hasIdempotencyKey(req *http.Request) bool {
	_, key := req.Header["Idempotency-Key"]
	_, xKey := req.Header["X-Idempotency-Key"]
	return key || xKey
}
