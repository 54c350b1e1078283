package storm

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/openai"
)

const (
	rate        = 2.0 // calls a second of each client
	maxPatience = 30 * time.Second
)

const (
	url     = "https://provider.example/v1/chat/completions"
	payload = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
)

// A fleet gives each of so many clients what it sends its calls through.
type fleet func(base http.RoundTripper, clients int) []http.RoundTripper

func shared(cfg openai.Config) fleet {
	return func(base http.RoundTripper, clients int) []http.RoundTripper {
		return slices.Repeat([]http.RoundTripper{chain(base, cfg)}, clients)
	}
}

func each(cfg openai.Config) fleet {
	return func(base http.RoundTripper, clients int) []http.RoundTripper {
		all := make([]http.RoundTripper, clients)
		for i := range all {
			all[i] = chain(base, cfg)
		}
		return all
	}
}

func chain(base http.RoundTripper, cfg openai.Config) http.RoundTripper {
	cfg.MeterProvider = noop.NewMeterProvider()
	return openai.NewTransport(base, cfg)
}

// naively is a fleet with the usual loop: 4 attempts, with backoff and nothing
// else.
func naively(base http.RoundTripper, clients int) []http.RoundTripper {
	return slices.Repeat([]http.RoundTripper{loop{base, 4}}, clients)
}

// naiveOnce is a fleet that takes everything as it comes.
func naiveOnce(base http.RoundTripper, clients int) []http.RoundTripper {
	return slices.Repeat([]http.RoundTripper{loop{base, 1}}, clients)
}

type loop struct {
	base     http.RoundTripper
	attempts int
}

// RoundTrip implements http.RoundTripper.
func (l loop) RoundTrip(req *http.Request) (*http.Response, error) {
	for attempt := 1; ; attempt++ {
		response, err := l.base.RoundTrip(req)
		if attempt == l.attempts || err == nil && response.StatusCode < 500 {
			return response, err
		}
		if err == nil {
			_ = response.Body.Close()
		}
		// Full jitter, around 500 ms, 1 s, 2 s.
		if !sleep(req.Context(), rand.N(500*time.Millisecond<<attempt)) {
			return nil, context.Cause(req.Context())
		}
	}
}

type clientKey struct{}

func clientOf(ctx context.Context) int { return ctx.Value(clientKey{}).(int) }

// call makes one call, and reports whether it was answered in time.
func call(ctx context.Context, patience time.Duration, through http.RoundTripper, client int) bool {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, clientKey{}, client), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(payload)))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	response, err := through.RoundTrip(req)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}
