package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/openai/openaitest"
)

// haveBadDays lets the provider fail, endpoint by endpoint.
func haveBadDays(ctx context.Context, provider *openaitest.Server) {
	slow := openaitest.Answer{Pace: 40 * time.Millisecond}
	provider.Always(openaitest.Completions, slow)
	for {
		provider.Always(openaitest.Chat, slow)
		provider.Reset(openaitest.Embeddings)
		pause(ctx, 10*time.Second)
		provider.Always(openaitest.Embeddings, openaitest.Status(http.StatusTooManyRequests).With("Retry-After", "4"))
		pause(ctx, 4*time.Second)
		provider.Always(openaitest.Chat, openaitest.Status(http.StatusServiceUnavailable))
		if !pause(ctx, 20*time.Second) {
			return
		}
	}
}

// A call is one that is made again and again.
type call struct {
	path, model string
	input       string // the field that holds it
	stream      bool
}

var calls = []call{
	{"/chat/completions", "gpt-5.4-mini", "messages", true},
	{"/completions", "davinci-002", "prompt", true},
	{"/embeddings", "text-embedding-3-small", "input", false},
	{"/moderations", "omni-moderation-latest", "input", false},
}

// repeat makes the call until ctx is over.
func (c call) repeat(ctx context.Context, client *http.Client, url string) {
	for {
		c.once(ctx, client, url)
		if !pause(ctx, 200*time.Millisecond) {
			return
		}
	}
}

// once makes the call. What becomes of it is on the page.
func (c call) once(ctx context.Context, client *http.Client, url string) {
	var input any = "Hello!"
	if c.input == "messages" {
		input = []map[string]string{{"role": "user", "content": "Hello!"}}
	}
	payload, err := json.Marshal(map[string]any{"model": c.model, "stream": c.stream, c.input: input})
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+c.path, bytes.NewReader(payload))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}

// pause waits, and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
