// Selfhosted streams from any OpenAI-compatible server through retrip: nothing
// but the base URL differs from OpenAI.
//
// Without an environment the provider is openaitest, in this process, and
// behaves as OpenRouter does. With OPENAI_BASE_URL it is a real one, OpenRouter
// (https://openrouter.ai/api/v1), vLLM (http://localhost:8000/v1), Ollama
// (http://localhost:11434/v1); OPENAI_MODEL says what it serves, OPENAI_API_KEY
// is the key if it wants one.
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
	"strings"
	"time"

	sdk "github.com/sashabaranov/go-openai"

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
	config := sdk.DefaultConfig(cmp.Or(os.Getenv("OPENAI_API_KEY"), "none"))
	config.BaseURL = os.Getenv("OPENAI_BASE_URL")
	if config.BaseURL == "" {
		provider := openaitest.NewServer()
		defer provider.Close()
		// The backend is lost when the 200 is already out.
		provider.Script(openaitest.Chat, openaitest.Stream(": OPENROUTER PROCESSING\n\n",
			openaitest.Event("", `{"choices":[],"error":{"code":502,"message":"Provider disconnected"}}`)))
		config.BaseURL = strings.TrimSuffix(provider.URL, "/v1") + "/api/v1"
	}

	cfg := retrip.Config{Backend: "self_hosted", IdleTimeout: time.Minute}
	cfg.Retry.OnRetry = func(e retry.Event) { fmt.Fprintf(w, "attempt %d: %s\n", e.Attempt, e.ErrorType) }
	transport := retrip.NewTransport(nil, cfg) //nolint:contextcheck // it outlives every context
	defer transport.Close()                    //nolint:errcheck // nobody collects metrics
	defer transport.CloseIdleConnections()
	config.HTTPClient = &http.Client{Transport: transport}

	stream, err := sdk.NewClientWithConfig(config).CreateChatCompletionStream(ctx, sdk.ChatCompletionRequest{
		Model:    cmp.Or(os.Getenv("OPENAI_MODEL"), "some/model"),
		Messages: []sdk.ChatCompletionMessage{{Role: sdk.ChatMessageRoleUser, Content: "Say hello in five words."}},
	})
	if err != nil {
		return err
	}
	defer stream.Close() //nolint:errcheck // reading told what there is to tell
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(w)
			return nil
		}
		if err != nil {
			return err // half an answer ends in retrip.ErrTruncated or ErrStalled
		}
		for _, choice := range chunk.Choices {
			fmt.Fprint(w, choice.Delta.Content)
		}
	}
}
