// Background streams a response that runs in the background with openai-go, and
// reads it whole though its connection breaks off.
//
// Without an environment the provider is openaitest, in this process, and cuts
// the stream twice. With OPENAI_API_KEY, and OPENAI_BASE_URL and OPENAI_MODEL where
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
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, openaitest.OK().CutAfter(6), openaitest.OK().CutAfterBytes(500))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run asks for a response. cuts are how the streams of openaitest end.
func run(ctx context.Context, w io.Writer, cuts ...openaitest.Answer) error {
	var options []option.RequestOption
	if os.Getenv("OPENAI_API_KEY") == "" {
		provider := openaitest.NewServer()
		defer provider.Close()
		provider.Script(openaitest.Responses, cuts...)
		options = append(options, option.WithBaseURL(provider.URL), option.WithAPIKey("none"))
	}
	transport := retrip.NewTransport(nil, retrip.Config{}) //nolint:contextcheck // it outlives every context
	defer transport.CloseIdleConnections()
	client := openai.NewClient(append(options, option.WithHTTPClient(&http.Client{Transport: transport}), option.WithMaxRetries(0))...)

	var report retry.Report // what became of the call
	stream := client.Responses.NewStreaming(retry.WithReport(ctx, &report), responses.ResponseNewParams{
		Model:      cmp.Or(os.Getenv("OPENAI_MODEL"), "gpt-5.4-mini"),
		Input:      responses.ResponseNewParamsInputUnion{OfString: openai.String("Say hello in five words.")},
		Background: openai.Bool(true), // the provider keeps its events: they can be asked for again
	})
	defer stream.Close() //nolint:errcheck // reading tells what there is to tell
	for stream.Next() {
		fmt.Fprint(w, stream.Current().Delta)
	}
	err := stream.Err()
	if lost, ok := errors.AsType[*retrip.ResumeError](err); ok {
		// The stream can't be had any more. The response can: it runs on.
		fmt.Fprintf(w, "\n%s is polled for\n", lost.ResponseID)
		err = poll(ctx, w, &client, lost.ResponseID)
	}
	fmt.Fprintf(w, "\nresumed %d times\n", report.Resumes)
	return err
}

// poll waits until the response is over, and prints all that it says.
func poll(ctx context.Context, w io.Writer, client *openai.Client, id string) error {
	for {
		response, err := client.Responses.Get(ctx, id, responses.ResponseGetParams{})
		if err != nil {
			return err
		}
		if response.Status != responses.ResponseStatusQueued && response.Status != responses.ResponseStatusInProgress {
			fmt.Fprint(w, response.OutputText())
			return nil
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
