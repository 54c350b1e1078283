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

// A Config says how a [Transport] deals with a provider. The zero value is safe
// for production. A Transport copies it: later changes have no effect. The functions
// in it are called by all calls of the Transport, so they must be safe for concurrent
// use.
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
	// runs after this package's own, and its verdict takes the place of that. Undecided
	// without an Observer leaves the response to this package.
	Breaker breaker.Config

	// DisableBreaker leaves the breaker layer out: every attempt is sent, however many
	// before it have failed.
	DisableBreaker bool

	// Delivery says when RoundTrip returns a response. The zero value is
	// FromFirstEvent.
	Delivery Delivery

	// FirstEventTimeout bounds the wait of one attempt for the first useful byte of
	// its answer. Of a stream it is the first useful event: comments, pings and
	// openers such as a role are none. 0 means DefaultFirstEventTimeout for a call
	// whose context has no deadline, and no limit for any other. Negative turns it
	// off.
	//
	// The time begins when the request is written, and counts only while the base
	// waits for the headers or a Read waits for bytes. So an upload, a reader who
	// takes a pause, and the waits of this package do not use it up. net/http says by
	// httptrace.WroteRequest when a request is written. A base that does not say so is
	// taken to have written a payload that is in memory as soon as it gets it, and
	// one that is streamed at its last Read or its Close.
	//
	// The limit ends at the headers of a 101 and of an answer that no format judges,
	// such as a file: what is useful in it is not known. An attempt that the limit
	// ends is not repeated at the same place, because a silent provider may be at work
	// on the answer, and bill it. With Targets the next one is asked. The error has
	// Timeout() true.
	FirstEventTimeout time.Duration

	// IdleTimeout bounds the silence between the bytes of a 2xx body: after its
	// first byte, or after a stream's first useful event. A comment ends a silence as
	// any byte does, because providers send them as a sign of life. Only time spent
	// waiting in a Read counts. The body then ends with [ErrStalled]. 0 means
	// DefaultIdleTimeout for answers that a format judges and no limit for others. A
	// positive value holds for every 2xx body. Negative turns it off.
	IdleTimeout time.Duration

	// InBandErrors says how the body of a 2xx ends that is no answer. The zero
	// value is FailRead.
	InBandErrors InBandErrors

	// Targets are the places where calls may go, at most 32. The zero [Target] stands
	// for the place that the request itself names. Put it first in the list: calls that
	// can go nowhere else then have its name in metrics, and its time limits. A call
	// goes to one target of the lowest Tier, and on to the next targets if that one can't serve it.
	// Only POSTs that store nothing are sent elsewhere, such as chat and embeddings: all
	// others go where they say. If all targets fail, the caller gets what the first
	// one answered. Nil sends each request where it says. See [WithoutFailover] and
	// [WithSession].
	Targets []Target

	// Pacing says what is done about the rate limit of an account. The zero value
	// is AfterRefusal.
	Pacing Pacing

	// RetryStateful opts in to repeating POST responses, and every POST that is not
	// repeated otherwise, where nothing can have been stored. That is so if the request
	// was proven never to be sent, or was refused by a 429 or by a 503 that names a time
	// to wait. It is also so if the payload says store:false, and neither joins a
	// conversation nor runs in the background. A tool that the provider runs may run
	// twice then. Only JSON payloads are kept for this. False repeats none of them.
	RetryStateful bool

	// SDKRetries says what to do about an SDK that retries on top of this
	// package. The zero value is StopSDKRetries.
	SDKRetries SDKRetries

	// Logger is handed to Retry and Breaker where those have none. It never gets a
	// body, a header or the query of a URL. Nil logs nothing.
	Logger *slog.Logger

	// MeterProvider makes the instruments, also of Retry and Breaker where
	// those have none. Nil means the global one.
	MeterProvider metric.MeterProvider

	// Backend is the retrip.backend attribute, handed to Retry where that has
	// none. "" means "external".
	Backend string
}

// Validate returns an error that names the first field out of its range and what is
// allowed there, or nil. It is a *ConfigError, or unwraps to a *retry.ConfigError or a
// *breaker.ConfigError. [NewTransport] calls it, so that only a program that wants to
// fail at its start needs to.
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
	if err := validateTargets(c.Targets); err != nil {
		return err
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

// Error names the field, its value and what it may be.
func (e *ConfigError) Error() string {
	return fmt.Sprintf("openai: Config.%s is %v: it may be %s", e.Field, e.Value, e.Allowed)
}

// invalid names the part of the Config that an error of another package is about.
func invalid(part string, err error) error {
	return fmt.Errorf("openai: Config.%s: %w", part, err)
}

// normalised returns c with all defaults filled in, and with what its parts inherit.
// It runs once for a Transport, so that no call has to look for a default.
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
	for i := range c.Targets {
		// Retry sets a timer, which the target of each attempt sets anew.
		if own := c.Targets[i].AttemptTimeout; c.Retry.AttemptTimeout == 0 && own > 0 {
			c.Retry.AttemptTimeout = own
		}
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
	} else if len(c.Targets) > 0 {
		c.Retry.Policy = routed(c.Retry.Policy)
	}
	if c.Retry.BudgetKey == nil {
		c.Retry.BudgetKey = hostAndModel
	}
	if c.Breaker.MaxKeys == 0 {
		c.Breaker.MaxKeys = breaker.DefaultMaxKeys // of the accounts, too
	}
	c.Retry.Inspect = inspectors(newDelivery(&c).inspect, c.Retry.Inspect)
	c.Breaker.Observe = observers(c.Breaker.Observe)
	return c
}
