package openai_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// post makes a chat call, as an SDK would make it, and returns its answer as it was read.
func post(ctx context.Context, client *http.Client, baseURL, payload string) (answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, baseURL+"/chat/completions", strings.NewReader(payload))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-home")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

const story = `{"model":"gpt-5.4-mini","stream":true,"messages":[{"role":"user","content":"Tell me a story."}]}`

// A stream that breaks off after its first event can't be sent again: part of it has
// been read. Its Read ends in an error that says so, never in a plain end.
func ExampleErrTruncated() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.OK().EndAfter(3)) // HTTP sees nothing wrong
	client := openai.NewClient(openai.Config{})
	defer client.CloseIdleConnections()

	answer, err := post(context.Background(), client, srv.URL, story)
	fmt.Println("half an answer:", err != nil, errors.Is(err, io.ErrUnexpectedEOF)) // a reset matches only the first
	fmt.Println("cut:", errors.Is(err, openai.ErrTruncated))
	fmt.Println("events that came:", strings.Count(answer, "data: "))
	// Output:
	// half an answer: true true
	// cut: true
	// events that came: 3
}

// Who can't use half an answer has streams held until they are whole. One that breaks
// off is asked for again.
func ExampleDelivery() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.OK().CutAfter(3))
	client := openai.NewClient(openai.Config{Delivery: openai.Whole})
	defer client.CloseIdleConnections()

	answer, err := post(context.Background(), client, srv.URL, story)
	fmt.Println("whole:", err == nil && strings.HasSuffix(answer, "data: [DONE]\n\n"))
	fmt.Println("requests:", srv.Count(openaitest.Chat))
	// Output:
	// whole: true
	// requests: 2
}

// A report tells what became of one call, through any client: it travels in the
// context.
func ExampleNewClient_report() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.Status(503))
	client := openai.NewClient(openai.Config{})
	defer client.CloseIdleConnections()

	var report retry.Report
	_, err := post(retry.WithReport(context.Background(), &report), client, srv.URL, story)
	fmt.Println("error:", err)
	fmt.Println("attempts:", report.Attempts, "because of", report.Reason)
	for _, try := range report.Tried {
		fmt.Println(try.Status)
	}
	// Output:
	// error: <nil>
	// attempts: 2 because of overloaded
	// 503
	// 200
}

// A breaker is opened by hand, while a model is being changed, and closed again. Its
// name is that of the Snapshot, which knows it from the first call on.
func ExampleTransport_Breaker() {
	srv := openaitest.NewServer()
	defer srv.Close()
	transport := openai.NewTransport(nil, openai.Config{})
	defer func() { _ = transport.Close() }()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	call := func() {
		_, err := post(context.Background(), client, srv.URL, story)
		fmt.Println("refused:", errors.Is(err, breaker.ErrOpen))
	}
	call()
	name := transport.Snapshot().Breakers[0].Key
	transport.Breaker(name).Trip()
	call()
	transport.Breaker(name).Reset()
	call()
	fmt.Println("requests:", srv.Count(openaitest.Chat))
	// Output:
	// refused: false
	// refused: true
	// refused: false
	// requests: 2
}

// A test of one's own with two targets, the second over TLS: its provider is dead at
// first, so that the call goes to the other, which must not see the first one's key.
func ExampleTarget() {
	home, azure := openaitest.NewServer(), openaitest.NewTLSServer()
	defer home.Close()
	defer azure.Close()
	home.Always(openaitest.Chat, openaitest.Status(503))
	base := openai.BaseTransport()
	openaitest.Trust(base, azure)

	transport := openai.NewTransport(base, openai.Config{Targets: []openai.Target{
		{}, // home: where the request says
		{
			Name:    "azure",
			BaseURL: strings.TrimSuffix(azure.URL, "/v1") + "/openai/deployments/{model}?api-version=2024-10-21",
			Header:  http.Header{"Api-Key": {"azure-key"}},
			Models:  map[string]string{"gpt-5.4-mini": "our-deployment"},
			Tier:    1,
		},
	}})
	defer func() { _ = transport.Close() }()
	defer transport.CloseIdleConnections()

	var report retry.Report
	_, err := post(retry.WithReport(context.Background(), &report), &http.Client{Transport: transport}, home.URL, story)
	fmt.Println("error:", err)
	for _, try := range report.Tried {
		fmt.Println(try.Target, try.Status)
	}
	got := azure.Requests()[0]
	fmt.Println(got.Path, got.Header.Get("Api-Key"))
	fmt.Println("the key of home was seen there:", azure.Saw("sk-home"))
	// Output:
	// error: <nil>
	// home 503
	// azure 200
	// /openai/deployments/our-deployment/chat/completions azure-key
	// the key of home was seen there: false
}
