// Openai-go asks for an answer, then for a stream, through retrip and the
// official SDK.
//
// Without an environment the provider is openaitest, in this process, and fails
// now and then. With OPENAI_API_KEY, and OPENAI_BASE_URL and OPENAI_MODEL where
// they differ from OpenAI's, it is a real one.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"

	"github.com/openai/openai-go/v3"
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
	var cfg retrip.Config
	cfg.Retry.OnRetry = func(e retry.Event) {
		fmt.Fprintf(w, "attempt %d: %s, then a retry\n", e.Attempt, e.ErrorType)
	}
	transport := retrip.NewTransport(nil, cfg) //nolint:contextcheck // it outlives every context
	defer transport.Close()                    //nolint:errcheck // nobody collects metrics
	defer transport.CloseIdleConnections()

	options := []option.RequestOption{ // what the SDK does not find here, it finds in the environment
		option.WithHTTPClient(&http.Client{Transport: transport}),
		option.WithMaxRetries(0), // retrip retries: two loops would multiply
	}
	if os.Getenv("OPENAI_API_KEY") == "" {
		provider := openaitest.NewServer()
		defer provider.Close()
		provider.Script(openaitest.Chat,
			openaitest.Status(503), openaitest.OK(),
			openaitest.ResetBeforeHeaders(), openaitest.OK().CutAfter(4),
		)
		options = append(options, option.WithBaseURL(provider.URL), option.WithAPIKey("none"))
	}
	client := openai.NewClient(options...)
	params := openai.ChatCompletionNewParams{
		Model:    cmp.Or(os.Getenv("OPENAI_MODEL"), openai.ChatModelGPT5_4Mini),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello in five words.")},
	}

	completion, err := client.Chat.Completions.New(ctx, params)
	var status *openai.Error
	switch {
	case errors.As(err, &status): // the last answer, as without retrip
		return fmt.Errorf("the provider says %d", status.StatusCode)
	case err != nil: // a *breaker.OpenError, if the provider is known to be down
		return err
	}
	for _, choice := range completion.Choices {
		fmt.Fprintf(w, "answer: %q\n", choice.Message.Content)
	}
	return stream(ctx, w, &client, params)
}

func stream(ctx context.Context, w io.Writer, client *openai.Client, params openai.ChatCompletionNewParams) error {
	tokens := client.Chat.Completions.NewStreaming(ctx, params)
	defer tokens.Close() //nolint:errcheck // Err says what went wrong
	fmt.Fprint(w, "stream: ")
	for tokens.Next() {
		for _, choice := range tokens.Current().Choices {
			fmt.Fprint(w, choice.Delta.Content)
		}
	}
	fmt.Fprintln(w)
	err := tokens.Err()
	if errors.Is(err, io.ErrUnexpectedEOF) { // retrip.ErrTruncated is one
		fmt.Fprintln(w, "half an answer: the connection was lost")
		return nil
	}
	return err
}
