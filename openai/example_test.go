package openai_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// chat prints the status of a chat call, as an SDK would make it.
func chat(client *http.Client, baseURL string) {
	payload := strings.NewReader(`{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hello!"}]}`)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, baseURL+"/chat/completions", payload)
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Proto, resp.Status)
}

func ExampleNewTransport() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.Status(503).With("Retry-After", "0"))

	transport := openai.NewTransport(nil, openai.Config{}) // one for the whole service
	defer func() { _ = transport.Close() }()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	chat(client, srv.URL)
	for _, b := range transport.Snapshot().Breakers {
		fmt.Println("breaker:", b.State)
	}
	fmt.Println("requests:", srv.Count(openaitest.Chat))
	// Output:
	// HTTP/1.1 200 OK
	// breaker: closed
	// requests: 2
}

func ExampleNewClient() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.Status(429).With("Retry-After-Ms", "5"))

	client := openai.NewClient(openai.Config{Retry: retry.Config{
		OnRetry: func(e retry.Event) {
			fmt.Printf("%s of %s: %s, waits by %s\n", e.Endpoint, e.Model, e.Reason, e.DelaySource)
		},
	}})
	defer client.CloseIdleConnections()

	chat(client, srv.URL)
	// Output:
	// chat of gpt-5.4-mini: rate_limited, waits by hint
	// HTTP/1.1 200 OK
}

// A response that runs in the background is read whole, though its connection
// breaks off twice: the provider keeps its events, and the chain asks for those
// that are missing.
func ExampleResumeError() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Responses, openaitest.OK().CutAfter(4), openaitest.OK().CutAfterBytes(500))
	client := openai.NewClient(openai.Config{})
	defer client.CloseIdleConnections()

	payload := strings.NewReader(`{"model":"gpt-5.4-mini","input":"Hello!","background":true,"stream":true}`)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, srv.URL+"/responses", payload)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	stream, err := io.ReadAll(resp.Body)
	var lost *openai.ResumeError
	if errors.As(err, &lost) {
		fmt.Println("ask for", lost.ResponseID) // the stream is lost, the response is not
	}
	fmt.Println("whole:", strings.Contains(string(stream), "event: response.completed"))
	fmt.Println("requests:", srv.Count(openaitest.Responses))
	// Output:
	// whole: true
	// requests: 3
}

// A client whose chain is not needed any more, while its MeterProvider lives
// on, is closed through its Transport.
func ExampleTransport_Close() {
	client := openai.NewClient(openai.Config{})
	transport, ok := client.Transport.(*openai.Transport)
	if ok {
		client.CloseIdleConnections()
		fmt.Println("closed, error:", transport.Close())
	}
	// Output: closed, error: <nil>
}

// A base may be changed before its first use: here it trusts the certificate
// of a server of one's own.
func ExampleBaseTransport() {
	srv := openaitest.NewTLSServer()
	defer srv.Close()

	base := openai.BaseTransport()
	base.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	base.MaxConnsPerHost = 50
	client := &http.Client{Transport: openai.NewTransport(base, openai.Config{})}
	defer client.CloseIdleConnections()

	chat(client, srv.URL)
	// Output: HTTP/2.0 200 OK
}

// The attempts of a client that has retries of its own.
func ExampleNewMetricsTransport() {
	srv := openaitest.NewServer()
	defer srv.Close()

	client := &http.Client{Transport: openai.NewMetricsTransport(nil, openai.MetricsConfig{})}
	defer client.CloseIdleConnections()

	chat(client, srv.URL) // recorded as retrip.client.attempt.duration
	// Output: HTTP/1.1 200 OK
}

// Boards made for the names that OpenTelemetry had until the autumn of 2026 go on
// with two Views. (Token usage was one histogram by gen_ai.token.type; no View
// puts two together.)
func ExampleConfig_olderMetricNames() {
	reader := metric.NewManualReader()
	renamed := func(to, from string) metric.Option {
		return metric.WithView(metric.NewView(metric.Instrument{Name: from}, metric.Stream{Name: to}))
	}
	provider := metric.NewMeterProvider(metric.WithReader(reader),
		renamed("gen_ai.client.operation.duration", "gen_ai.client.inference.duration"),
		renamed("gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.inference.time_to_first_chunk"),
	)
	server := openaitest.NewServer()
	defer server.Close()
	ctx := context.Background()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/chat/completions", strings.NewReader(`{"model":"m","stream":true}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := openai.NewClient(openai.Config{MeterProvider: provider}).Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()

	var data metricdata.ResourceMetrics
	_ = reader.Collect(ctx, &data)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if strings.HasPrefix(m.Name, "gen_ai.") {
				fmt.Println(m.Name)
			}
		}
	}
	// Output:
	// gen_ai.client.operation.duration
	// gen_ai.client.operation.time_to_first_chunk
}
