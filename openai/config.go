package openai

import (
	"errors"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// A Config says how a Transport deals with a provider. The zero value is safe
// for production. A Transport copies it.
type Config struct {
	// Retry is the Config of the retry layer. Safe, BudgetKey and Budget
	// replace what this package would set: the endpoints that may be repeated,
	// and a budget for each host and model.
	Retry retry.Config

	// Breaker is the Config of the breaker layer. Key replaces what this
	// package would set: a breaker for each scheme, host and model.
	Breaker breaker.Config

	// DisableBreaker leaves the breaker layer out.
	DisableBreaker bool

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

// Validate returns an error that names the first field out of its range and
// unwraps to a *retry.ConfigError or *breaker.ConfigError; else nil.
func (c Config) Validate() error {
	if err := c.Retry.Validate(); err != nil {
		return invalid("Retry", err)
	}
	if err := c.Breaker.Validate(); err != nil {
		return invalid("Breaker", err)
	}
	return nil
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
		c.Retry.Safe = isRepeatable
	}
	if c.Retry.BudgetKey == nil {
		c.Retry.BudgetKey = hostAndModel
	}
	if c.Breaker.Key == nil {
		c.Breaker.Key = originAndModel
	}
	return c
}

var errNoURL = errors.New("openai: the request has no URL")
