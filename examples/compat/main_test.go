package compat

import (
	"flag"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

const (
	model  = "gpt-5.4-mini"
	prompt = "Say hello."
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	// Keys and addresses come from the tests: no call leaves this machine.
	for _, name := range []string{"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_PROFILE"} {
		_ = os.Unsetenv(name)
	}
	goleak.VerifyTestMain(m)
}

// A scene is a provider, and a chain in front of it.
type scene struct {
	provider *openaitest.Server
	chain    *retrip.Transport
	client   *http.Client // with the chain
	plain    *http.Client // without it
}

// quick waits a millisecond where production waits for seconds.
func quick(cfg retrip.Config) retrip.Config {
	cfg.Retry.Backoff = func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) }
	return cfg
}

func newScene(t *testing.T, cfg retrip.Config) *scene {
	t.Helper()
	provider := openaitest.NewServer()
	t.Cleanup(provider.Close)
	chain := retrip.NewTransport(nil, quick(cfg))
	t.Cleanup(func() {
		chain.CloseIdleConnections()
		if err := chain.Close(); err != nil {
			t.Error(err)
		}
	})
	return &scene{provider, chain, &http.Client{Transport: chain}, provider.Client()}
}

// counts are what the provider saw and what the only breaker recorded.
type counts struct {
	requests                  int
	success, failure, ignored uint64
}

func (s *scene) counts(t *testing.T) counts {
	t.Helper()
	all := s.chain.Snapshot().Breakers
	if len(all) != 1 {
		t.Fatalf("%d breakers, want 1", len(all))
	}
	totals := all[0].Totals
	return counts{len(s.provider.Requests()), totals.Success, totals.Failure, totals.Ignored}
}
