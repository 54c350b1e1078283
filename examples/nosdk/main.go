// Nosdk asks for a chat completion through retrip with net/http alone.
//
// Without an environment the provider is openaitest, in this process. With
// OPENAI_API_KEY, and OPENAI_BASE_URL and OPENAI_MODEL where they differ from
// OpenAI's, it is a real one.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"

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
	url, key := cmp.Or(os.Getenv("OPENAI_BASE_URL"), "https://api.openai.com/v1"), os.Getenv("OPENAI_API_KEY")
	if key == "" {
		provider := openaitest.NewServer()
		defer provider.Close()
		provider.Script(openaitest.Chat, openaitest.ResetBeforeHeaders())
		url, key = provider.URL, "none"
	}
	client := retrip.NewClient(retrip.Config{}) //nolint:contextcheck // it outlives every context
	defer client.CloseIdleConnections()

	payload, err := json.Marshal(map[string]any{
		"model":    cmp.Or(os.Getenv("OPENAI_MODEL"), "gpt-5.4-mini"),
		"messages": []any{map[string]string{"role": "user", "content": "Say hello in five words."}},
	})
	if err != nil {
		return err
	}
	var report retry.Report // what became of the call
	// NewRequest shares the payload among all attempts; http.NewRequest would do, too.
	req, err := retry.NewRequest(retry.WithReport(ctx, &report), http.MethodPost, url+"/chat/completions", payload)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err // a *breaker.OpenError, if the provider is known to be down
	}
	defer resp.Body.Close()
	fmt.Fprintf(w, "%s after %d attempts, the last retry because of: %s\n", resp.Status, report.Attempts, report.Reason)

	var answer struct {
		Choices []struct{ Message struct{ Content string } }
		Error   *struct{ Message string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil || len(answer.Choices) == 0 {
		return fmt.Errorf("%s: %+v", resp.Status, answer.Error)
	}
	fmt.Fprintf(w, "answer: %q\n", answer.Choices[0].Message.Content)
	return nil
}
