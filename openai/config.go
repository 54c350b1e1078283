package openai

import (
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// DefaultIdleTimeout is what the zero value of Config.IdleTimeout stands for.
const DefaultIdleTimeout = 5 * time.Minute

// A Config says how a Transport deals with a provider. The zero value is safe
// for production. A Transport copies it.
type Config struct {
	// Retry is the Config of the retry layer. Safe, Repeatable, Policy,
	// BudgetKey and Budget replace what this package would set: the endpoints
	// that may be repeated, a Policy that knows the provider's error codes and
	// headers, and a budget for each host and model. Inspect runs after this
	// package's own, on attempts in which that found nothing wrong.
	Retry retry.Config

	// Breaker is the Config of the breaker layer. Key replaces what this
	// package would set: a breaker for each scheme, host, endpoint and model (or
	// Azure deployment). MaxKeys bounds the pauses of rate limits, too. Observe
	// runs after this package's own; unless it is Undecided without an
	// Observer, its verdict takes the place of that.
	Breaker breaker.Config

	// DisableBreaker leaves the breaker layer out.
	DisableBreaker bool

	// Delivery says when RoundTrip returns a response. The zero value is
	// FromFirstEvent.
	Delivery Delivery

	// FirstEventTimeout bounds the time from a stream's headers to its first
	// useful event; comments and openers don't count, time in which nobody
	// waits in a Read neither. The attempt then fails, and is retried if its
	// response was still held. 0 means no limit: a model may think for long.
	// Negative is an error.
	FirstEventTimeout time.Duration

	// IdleTimeout bounds the silence between two Reads' bytes of a 2xx body,
	// after its first byte, or a stream's first useful event; comments count as
	// life. The body then ends with ErrStalled. Only time spent waiting in a
	// Read counts. 0 means DefaultIdleTimeout, negative turns it off.
	IdleTimeout time.Duration

	// RetryStateful opts in to repeating POST responses, and every POST that
	// is not repeated otherwise, where nothing can have been stored: the
	// request was proven never to be sent, it was refused (a 429, or a 503
	// that names a time to wait), or its payload says store:false and neither
	// joins a conversation nor runs in the background; a tool that the
	// provider runs may run twice then. Only JSON payloads are kept for this.
	RetryStateful bool

	// SDKRetries says what to do about an SDK that retries on top of this
	// package. The zero value is StopSDKRetries.
	SDKRetries SDKRetries

	// Logger is handed to Retry and Breaker where those have none. Nil logs
	// nothing.
	Logger *slog.Logger

	// MeterProvider makes the instruments, also of Retry and Breaker where
	// those have none. Nil means the global one.
	MeterProvider metric.MeterProvider

	// Backend is the retrip.backend attribute, handed to Retry where that has
	// none. "" means "external".
	Backend string
}

// Validate returns an error that names the first field out of its range: a
// *ConfigError, or one that unwraps to a *retry.ConfigError or
// *breaker.ConfigError; else nil.
func (c Config) Validate() error {
	switch {
	case c.Delivery < FromFirstEvent || c.Delivery > Whole:
		return &ConfigError{"Delivery", c.Delivery, "FromFirstEvent, Immediate or Whole"}
	case !c.SDKRetries.valid():
		return &ConfigError{"SDKRetries", c.SDKRetries, "StopSDKRetries, StopSDKRetriesAlways or IgnoreSDKRetries"}
	case c.FirstEventTimeout < 0:
		return &ConfigError{"FirstEventTimeout", c.FirstEventTimeout, "0 for none, or more"}
	}
	if err := c.Retry.Validate(); err != nil {
		return invalid("Retry", err)
	}
	if err := c.Breaker.Validate(); err != nil {
		return invalid("Breaker", err)
	}
	return nil
}

// A ConfigError names a field of a Config that is out of its range.
type ConfigError struct {
	Field   string // the field's name
	Value   any    // what it was set to
	Allowed string // what it may be
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("openai: Config.%s is %v: it may be %s", e.Field, e.Value, e.Allowed)
}

func invalid(part string, err error) error {
	return fmt.Errorf("openai: Config.%s: %w", part, err)
}

// normalised returns c with what its parts inherit.
func (c Config) normalised() Config {
	if c.IdleTimeout == 0 {
		c.IdleTimeout = DefaultIdleTimeout
	}
	if c.Retry.Logger == nil {
		c.Retry.Logger = c.Logger
	}
	if c.Breaker.Logger == nil {
		c.Breaker.Logger = c.Logger
	}
	if c.Retry.MeterProvider == nil {
		c.Retry.MeterProvider = c.MeterProvider
	}
	if c.Breaker.MeterProvider == nil {
		c.Breaker.MeterProvider = c.MeterProvider
	}
	if c.Retry.Backend == "" {
		c.Retry.Backend = c.Backend
	}
	if c.Retry.MaxReplayBytes == 0 {
		c.Retry.MaxReplayBytes = retry.DefaultMaxReplayBytes
	}
	if c.Retry.Safe == nil {
		c.Retry.Safe = DefaultSafe
	}
	if c.Retry.Repeatable == nil && c.RetryStateful {
		c.Retry.Repeatable = isStatelessOrRefused
	}
	if c.Retry.Policy == nil {
		c.Retry.Policy = DefaultPolicy
	}
	if c.Retry.BudgetKey == nil {
		c.Retry.BudgetKey = hostAndModel
	}
	if c.Breaker.MaxKeys == 0 {
		c.Breaker.MaxKeys = breaker.DefaultMaxKeys // of the pauses, too
	}
	c.Retry.Inspect = inspectors((&delivery{mode: c.Delivery}).inspect, c.Retry.Inspect)
	c.Breaker.Observe = observers(c.Breaker.Observe) //nolint:bodyclose // no response is made here
	return c
}
