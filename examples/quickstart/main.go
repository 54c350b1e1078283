// Quickstart calls a provider through retrip, and prints what happens when. It
// uses net/http alone; ../openai-go does the same with the official SDK.
//
// Without an environment the provider is openaitest, in this process, and goes
// through a bad day; at last there is a second one, which stands in. With OPENAI_API_KEY, and OPENAI_BASE_URL and OPENAI_MODEL
// where they differ from OpenAI's, it is a real one: two short calls.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/sdk/metric"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// The story takes seconds instead of minutes. Production leaves both unset.
const (
	firstBackoff = 100 * time.Millisecond // the default is 500 ms
	openDuration = time.Second            // the default is 5 s at first, then more, up to 30 s
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	out := newTimeline(w)
	reader := metric.NewManualReader()

	var cfg retrip.Config // its zero value is what a real provider gets
	cfg.MeterProvider = metric.NewMeterProvider(metric.WithReader(reader))
	cfg.Retry.OnRetry = out.retry
	cfg.Breaker.OnStateChange = out.stateChange

	c := chat{
		url:   cmp.Or(os.Getenv("OPENAI_BASE_URL"), "https://api.openai.com/v1"),
		key:   os.Getenv("OPENAI_API_KEY"),
		model: cmp.Or(os.Getenv("OPENAI_MODEL"), "gpt-5.4-mini"),
	}
	var provider *openaitest.Server
	if c.key == "" {
		provider = openaitest.NewServer()
		defer provider.Close()
		c.url, c.key = provider.URL, "none"
		shorten(&cfg)
	}

	transport := retrip.NewTransport(nil, cfg) //nolint:contextcheck // it outlives every context
	defer transport.Close()                    //nolint:errcheck // nobody collects any more
	defer transport.CloseIdleConnections()
	c.client = &http.Client{Transport: transport}

	s := story{timeline: out, cfg: cfg, chat: c, provider: provider}
	if err := s.tell(ctx); err != nil {
		return err
	}
	return printMetrics(ctx, out, reader)
}

func shorten(cfg *retrip.Config) {
	cfg.Retry.Backoff = func() backoff.BackOff {
		return backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstBackoff))
	}
	cfg.Breaker.OpenDuration = openDuration
}
