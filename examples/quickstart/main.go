// Quickstart calls a provider through retrip with the official SDK, and prints
// what happens when.
//
// Without an environment the provider is openaitest, in this process, and goes
// through a bad day. With OPENAI_API_KEY, and OPENAI_BASE_URL and OPENAI_MODEL
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
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"go.opentelemetry.io/otel/sdk/metric"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// A bad day in seconds instead of minutes. Production leaves both unset.
const (
	firstBackoff = 100 * time.Millisecond // the default is 500 ms
	openDuration = time.Second            // the default is 30 s
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

	var provider *openaitest.Server
	var options []option.RequestOption // the SDK finds a real provider by the environment
	if os.Getenv("OPENAI_API_KEY") == "" {
		provider = openaitest.NewServer()
		defer provider.Close()
		options = append(options, option.WithBaseURL(provider.URL), option.WithAPIKey("none"))
		cfg.Retry.Backoff = func() backoff.BackOff {
			return backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstBackoff))
		}
		cfg.Breaker.OpenDuration = openDuration
	}

	transport := retrip.NewTransport(nil, cfg) //nolint:contextcheck // it outlives every context
	defer transport.Close()                    //nolint:errcheck // nobody collects any more
	defer transport.CloseIdleConnections()
	options = append(options,
		option.WithHTTPClient(&http.Client{Transport: transport}),
		option.WithMaxRetries(0), // once is enough: retrip retries
	)

	s := story{
		timeline: out,
		client:   openai.NewClient(options...),
		model:    cmp.Or(os.Getenv("OPENAI_MODEL"), openai.ChatModelGPT5_4Mini),
		provider: provider,
	}
	if err := s.tell(ctx); err != nil {
		return err
	}
	return printMetrics(ctx, out, reader)
}
