// Azure asks a deployment of Azure OpenAI through retrip, with the official SDK.
//
// Without an environment the provider is openaitest, in this process. With
// AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY it is a real one;
// AZURE_OPENAI_DEPLOYMENT and AZURE_OPENAI_API_VERSION choose what is asked.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
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
	var base http.RoundTripper // nil is retrip's own
	endpoint := os.Getenv("AZURE_OPENAI_ENDPOINT")
	if endpoint == "" {
		// The SDK sends Azure's keys over TLS only. (azure.WithUnsafeAllowHTTP
		// would go past every RoundTripper, and so past retrip.)
		provider := openaitest.NewTLSServer()
		defer provider.Close()
		provider.Script(openaitest.Chat, openaitest.Status(429).With("X-Ms-Retry-After-Ms", "200"))
		endpoint, base = provider.URL[:len(provider.URL)-len("/v1")], provider.Client().Transport
	}

	var cfg retrip.Config
	cfg.Retry.OnRetry = func(e retry.Event) {
		fmt.Fprintf(w, "attempt %d: %s, the next one in %v (%s)\n", e.Attempt, e.ErrorType, e.Delay, e.DelaySource)
	}
	transport := retrip.NewTransport(base, cfg) //nolint:contextcheck // it outlives every context
	defer transport.Close()                     //nolint:errcheck // nobody collects metrics
	defer transport.CloseIdleConnections()

	client := openai.NewClient(
		azure.WithEndpoint(endpoint, cmp.Or(os.Getenv("AZURE_OPENAI_API_VERSION"), "2024-10-21")),
		azure.WithAPIKey(cmp.Or(os.Getenv("AZURE_OPENAI_API_KEY"), "none")),
		option.WithHTTPClient(&http.Client{Transport: transport}),
		option.WithMaxRetries(0), // once is enough: retrip retries
	)
	completion, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model:    cmp.Or(os.Getenv("AZURE_OPENAI_DEPLOYMENT"), "my-deployment"), // becomes a part of the path
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello in five words.")},
	})
	if err != nil {
		return err
	}
	for _, choice := range completion.Choices {
		fmt.Fprintf(w, "answer: %q\n", choice.Message.Content)
	}
	for _, breaker := range transport.Snapshot().Breakers { // each endpoint of each deployment has its own
		fmt.Fprintf(w, "breaker %s: %s, %d ended well\n", breaker.Key, breaker.State, breaker.Totals.Success)
	}
	return nil
}
