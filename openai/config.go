package openai

import (
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// What the zero values of a Config stand for.
const (
	DefaultFirstEventTimeout = 15 * time.Minute // of a call whose context has no deadline
	DefaultIdleTimeout       = 5 * time.Minute  // of answers that a format judges
)

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
	// Azure deployment). MaxKeys bounds the accounts of rate limits, too. Observe
	// runs after this package's own; unless it is Undecided without an
	// Observer, its verdict takes the place of that.
	Breaker breaker.Config

	// DisableBreaker leaves the breaker layer out.
	DisableBreaker bool

	// Delivery says when RoundTrip returns a response. The zero value is
	// FromFirstEvent.
	Delivery Delivery

	// FirstEventTimeout bounds the time from when a request is written to the
	// first useful byte of its answer; of a stream, to its first useful event,
	// which comments and openers are not. Only the time counts in which the base
	// has the request or somebody waits in a Read: no upload, no idle reader, no
	// wait of ours. It is over at the headers of a 101 and of an answer that no
	// format judges. An attempt that it ends is not repeated, because a silent
	// provider may well be at work on the answer, and bill it. 0 means
	// DefaultFirstEventTimeout for a call whose context has no deadline, else no
	// limit. Negative turns it off.
	FirstEventTimeout time.Duration

	// IdleTimeout bounds the silence between the bytes of a 2xx body after its
	// first byte, or a stream's first useful event; comments count as life. The
	// body then ends with ErrStalled. Only time spent waiting in a Read counts.
	// 0 means DefaultIdleTimeout for answers that a format judges and none for
	// others; a positive value holds for every 2xx body; negative turns it off.
	IdleTimeout time.Duration

	// InBandErrors says how the body of a 2xx ends that is no answer. The zero
	// value is FailRead.
	InBandErrors InBandErrors

	// Pacing says what is done about the rate limit of an account. The zero value
	// is AfterRefusal.
	Pacing Pacing

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
	case c.Pacing < AfterRefusal || c.Pacing > Off:
		return &ConfigError{"Pacing", c.Pacing, "AfterRefusal or Off"}
	case c.InBandErrors < FailRead || c.InBandErrors > PassThrough:
		return &ConfigError{"InBandErrors", c.InBandErrors, "FailRead or PassThrough"}
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
		c.Breaker.MaxKeys = breaker.DefaultMaxKeys // of the accounts, too
	}
	c.Retry.Inspect = inspectors(newDelivery(c.Delivery).inspect, c.Retry.Inspect)
	c.Breaker.Observe = observers(c.Breaker.Observe)
	return c
}
