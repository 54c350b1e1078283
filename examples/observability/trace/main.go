// Trace makes one call that fails, is repeated, moves on to a second provider and
// ends well, and prints its trace: the caller's span with the events that retrip
// adds to it, and below it a span of otelhttp for each request.
//
//	go run -C examples/observability ./trace
//	go run -C examples/observability ./trace -json
//
// The second prints the spans as OpenTelemetry's stdout exporter writes them. Both
// providers are openaitest, in this process.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

func main() {
	asJSON := flag.Bool("json", false, "print the spans as the exporter writes them")
	flag.Parse()
	spans, err := record(context.Background())
	if err == nil && *asJSON {
		_, err = os.Stdout.Write(spans)
	} else if err == nil {
		err = printTree(os.Stdout, spans)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// record makes the call, and returns what the exporter wrote of it: a span a line.
func record(ctx context.Context) ([]byte, error) {
	home, second := openaitest.NewServer(), openaitest.NewServer()
	defer home.Close()
	defer second.Close()
	home.Script(openaitest.Chat, openaitest.Status(http.StatusInternalServerError), openaitest.Status(http.StatusServiceUnavailable))

	var written bytes.Buffer
	exporter, err := stdouttrace.New(stdouttrace.WithWriter(&written))
	if err != nil {
		return nil, err
	}
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	transport := newTransport(provider, second.URL) //nolint:contextcheck // it outlives every context
	defer transport.CloseIdleConnections()
	defer transport.Close() //nolint:errcheck // the process ends

	ctx, span := provider.Tracer("example").Start(ctx, "answer a question")
	err = ask(ctx, transport, home.URL)
	span.End()
	return written.Bytes(), errors.Join(err, provider.Shutdown(ctx))
}

// newTransport returns a chain with otelhttp below it: a span is one request, and
// says which attempt of the call it is, and where it goes.
func newTransport(provider trace.TracerProvider, second string) *retrip.Transport {
	traced := otelhttp.NewTransport(named{retrip.BaseTransport()}, otelhttp.WithTracerProvider(provider))
	return retrip.NewTransport(traced, retrip.Config{
		Retry: retry.Config{Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(100 * time.Millisecond) }},
		Targets: []retrip.Target{
			{}, // home
			{Name: "second", BaseURL: second, Header: http.Header{"Authorization": {"Bearer none"}}, Tier: 1},
		},
	})
}

// A named RoundTripper gives the span of a request the attempt's number and its
// target.
type named struct{ base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (n named) RoundTrip(req *http.Request) (*http.Response, error) {
	if call, ok := retrip.CallFrom(req.Context()); ok {
		trace.SpanFromContext(req.Context()).SetAttributes(
			attribute.Int("retrip.retry.attempt", call.Attempt), attribute.String("retrip.target", call.Target))
	}
	return n.base.RoundTrip(req)
}

func ask(ctx context.Context, transport http.RoundTripper, url string) error {
	const payload = `{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hello!"}]}`
	req, err := retry.NewRequest(ctx, http.MethodPost, url+"/chat/completions", []byte(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: transport}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
