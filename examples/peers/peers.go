package main

import (
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/contract"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// What every peer is asked for, as far as it can be told.
const (
	attempts    = 4
	firstWait   = 500 * time.Millisecond
	longestWait = 8 * time.Second
	threshold   = 5 // failures in a row that open the breaker
	openFor     = 30 * time.Second
)

// settings is what differs between the two tables.
type settings struct {
	wait  time.Duration        // the first backoff; 0 means firstWait
	meter metric.MeterProvider // nil means one that records nothing
	alike bool                 // turns off what retrip alone has: a budget for retries, a breaker that judges by shares
}

func (s settings) firstWait() time.Duration {
	if s.wait > 0 {
		return s.wait
	}
	return firstWait
}

func (s settings) longestWait() time.Duration {
	if s.wait > 0 {
		return 2 * s.wait
	}
	return longestWait
}

func (s settings) meterProvider() metric.MeterProvider {
	if s.meter == nil {
		return noop.NewMeterProvider()
	}
	return s.meter
}

// A peer is a way to get the same work done.
type peer struct {
	name    string
	does    string
	modules []string // whose versions are told
	options []contract.Option
	retries bool
	metered bool // records metrics
	wrap    func(base http.RoundTripper, s settings) http.RoundTripper
}

// tells reports whether it tells a payload in memory from one whose Read may
// block, which it reads in a goroutine of its own.
func (p peer) tells() bool { return p.retries && len(p.modules) == 0 }

var buffers = []contract.Option{contract.Buffers, contract.RepeatsAll}

// What peers do, from less to more: they are compared with those that do the same.
const (
	doesRetry   = "retry"
	doesBreak   = "breaker"
	doesMeasure = "metrics"
	doesBoth    = doesRetry + ", " + doesBreak
	doesThree   = doesBoth + ", " + doesMeasure
	doesAll     = doesThree + ", formats"
)

var less = []string{doesRetry, doesBreak, doesMeasure, doesBoth, doesThree, doesAll}

// alike returns those whose calls are measured, who do the same side by side.
// To the contract's peers it adds what is put together only to be compared.
func alike() []peer {
	peers := append(all(),
		peer{
			name: "retrip, retry + breaker + attempt metrics", does: doesThree, metered: true,
			wrap: func(base http.RoundTripper, s settings) http.RoundTripper {
				metrics := openai.NewMetricsTransport(base, openai.MetricsConfig{MeterProvider: s.meterProvider()})
				return retryAlone(breakerAlone(metrics, s), s)
			},
		},
		peer{
			name: "go-retryablehttp + gobreaker over otelhttp", does: doesThree, modules: []string{retryablehttpModule}, metered: true,
			wrap: func(base http.RoundTripper, s settings) http.RoundTripper {
				return retryablehttpTransport(newBreakerTransport(otelhttpTransport(base, s)), s)
			},
		},
		peer{
			name: "rehttp + gobreaker over otelhttp", does: doesThree, modules: []string{rehttpModule}, metered: true,
			wrap: func(base http.RoundTripper, s settings) http.RoundTripper {
				return rehttpTransport(newBreakerTransport(otelhttpTransport(base, s)), s)
			},
		})
	slices.SortStableFunc(peers, func(a, b peer) int { return slices.Index(less, a.does) - slices.Index(less, b.does) })
	return peers
}

// all returns those that are put to the contract.
func all() []peer {
	return []peer{
		{name: "retrip", does: doesAll, options: buffers, retries: true, metered: true, wrap: chain},
		{name: "retrip, retry alone", does: doesRetry, options: buffers, retries: true, wrap: retryAlone},
		{name: "retrip, breaker alone", does: doesBreak, wrap: breakerAlone},
		{
			name: "retrip, retry + breaker", does: doesBoth, options: buffers, retries: true,
			wrap: func(base http.RoundTripper, s settings) http.RoundTripper {
				return retryAlone(breakerAlone(base, s), s)
			},
		},
		{name: "failsafe-go", does: doesBoth, modules: []string{failsafeModule}, options: buffers, retries: true, wrap: failsafeTransport},
		{
			name: "failsafe-go over otelhttp", does: doesThree, modules: []string{failsafeModule, otelhttpModule}, options: buffers,
			retries: true, metered: true,
			wrap: func(base http.RoundTripper, s settings) http.RoundTripper {
				return failsafeTransport(otelhttpTransport(base, s), s)
			},
		},
		{
			name: "go-retryablehttp + gobreaker", does: doesBoth, modules: []string{retryablehttpModule, gobreakerModule}, options: buffers, retries: true,
			wrap: func(base http.RoundTripper, s settings) http.RoundTripper {
				return retryablehttpTransport(newBreakerTransport(base), s)
			},
		},
		{
			name: "rehttp + gobreaker", does: doesBoth, modules: []string{rehttpModule, gobreakerModule}, options: buffers, retries: true,
			wrap: func(base http.RoundTripper, s settings) http.RoundTripper {
				return rehttpTransport(newBreakerTransport(base), s)
			},
		},
		{name: "otelhttp", does: doesMeasure, modules: []string{otelhttpModule}, metered: true, wrap: otelhttpTransport},
	}
}

// asked returns the peer and, perhaps, the rule that the arguments want examined.
func asked(peers []peer, args []string) (p peer, rule string, ok bool) {
	if len(args) < 2 || args[0] != examineArg {
		return peer{}, "", false
	}
	i := slices.IndexFunc(peers, func(p peer) bool { return p.name == args[1] })
	if i < 0 {
		return peer{}, "", false
	}
	if len(args) > 2 {
		rule = args[2]
	}
	return peers[i], rule, true
}

// everything may be repeated: the others do not ask.
func everything(*http.Request) bool { return true }

func retryConfig(s settings) retry.Config {
	cfg := retry.Config{Safe: everything, MeterProvider: s.meterProvider()}
	if s.wait > 0 {
		cfg.Backoff = func() backoff.BackOff {
			return backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(s.firstWait()), backoff.WithMaxInterval(s.longestWait()), backoff.WithMaxElapsedTime(0))
		}
	}
	if s.alike {
		cfg.Budget = retry.Unlimited
	}
	return cfg
}

func breakerConfig(s settings) breaker.Config {
	cfg := breaker.Config{MeterProvider: s.meterProvider()}
	if s.alike {
		cfg.FailureRatio = -1
	}
	return cfg
}

func chain(base http.RoundTripper, s settings) http.RoundTripper {
	return openai.NewTransport(base, openai.Config{
		Retry: retryConfig(s), Breaker: breakerConfig(s), MeterProvider: s.meterProvider(),
	})
}

func retryAlone(base http.RoundTripper, s settings) http.RoundTripper {
	return retry.NewTransport(base, retryConfig(s))
}

func breakerAlone(base http.RoundTripper, s settings) http.RoundTripper {
	return breaker.NewTransport(base, breakerConfig(s))
}

// versions tells which versions of the peer's modules are built in.
func (p peer) versions() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var list []string
	for _, path := range p.modules {
		for _, m := range info.Deps {
			if m.Path == path {
				list = append(list, m.Version)
			}
		}
	}
	return strings.Join(list, ", ")
}
