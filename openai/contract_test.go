package openai_test

import (
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/contract"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	safe := retry.Config{Safe: func(*http.Request) bool { return true }}
	for name, row := range map[string]struct {
		wrap    func(http.RoundTripper) http.RoundTripper
		options []contract.Option
		short   bool // also with -short
	}{
		"the chain": {short: true, wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{})
		}},
		"the chain, with all requests safe": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{Retry: safe})
		}, options: []contract.Option{contract.Buffers, contract.RepeatsAll}},
		"the chain with two targets": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{Targets: []openai.Target{{}, {Name: "other", Tier: 1}}})
		}},
		"the chain with two targets, with all requests safe": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{Retry: safe, Targets: []openai.Target{{}, {Name: "other", Tier: 1}}})
		}, options: []contract.Option{contract.Buffers, contract.RepeatsAll}},
		"the chain with targets, in a fleet, held whole": {short: true, wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{
				Targets: []openai.Target{{}, {Name: "other", Tier: 1}}, Breaker: breaker.Config{Fleet: quietFleet{}}, Delivery: openai.Whole,
			})
		}},
		"the chain without pacing": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{Pacing: openai.Off})
		}},
		"the chain, with stateful calls repeated, returned at once": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{RetryStateful: true, Delivery: openai.Immediate, InBandErrors: openai.PassThrough})
		}},
		"the chain over a chain of one attempt": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(openai.NewTransport(base, openai.Config{Retry: retry.Config{MaxAttempts: 1}}), openai.Config{Targets: []openai.Target{{}, {Name: "other", Tier: 1}}})
		}},
		"the chain without its breaker": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewTransport(base, openai.Config{DisableBreaker: true})
		}},
		"retry over breaker": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return retry.NewTransport(breaker.NewTransport(base, breaker.Config{}), retry.Config{})
		}, options: []contract.Option{contract.Buffers}},
		"breaker over retry": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return breaker.NewTransport(retry.NewTransport(base, retry.Config{}), breaker.Config{})
		}, options: []contract.Option{contract.Buffers}},
		"retry over the chain": {wrap: func(base http.RoundTripper) http.RoundTripper {
			return retry.NewTransport(openai.NewTransport(base, openai.Config{}), retry.Config{})
		}, options: []contract.Option{contract.Buffers}},
		"attempt metrics": {short: true, wrap: func(base http.RoundTripper) http.RoundTripper {
			return openai.NewMetricsTransport(base, openai.MetricsConfig{})
		}},
	} {
		if testing.Short() && !row.short {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.Test(t, row.wrap, row.options...)
		})
	}
}

// quietFleet is a Fleet in which nobody has anything to say. With advice a breaker
// opens at its first failure, as no wrapper without one does.
type quietFleet struct{}

func (quietFleet) Name(key string) string                       { return key }
func (quietFleet) Publish(breaker.Advice)                       {}
func (quietFleet) Subscribe(func(breaker.Advice)) (stop func()) { return func() {} }
