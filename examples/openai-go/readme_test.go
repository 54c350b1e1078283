package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// TestTheREADMEsCode runs what the README shows: a client whose call is repeated,
// and then, with a second target, is answered there.
func TestTheREADMEsCode(t *testing.T) {
	srv := openaitest.NewServer() // srv.URL ends in /v1, as an SDK's base URL does
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.Status(503), openaitest.OK().CutAfter(3)) // one answer a request, then healthy ones

	t.Setenv("OPENAI_BASE_URL", srv.URL)
	t.Setenv("OPENAI_API_KEY", "none")

	transport := retrip.NewTransport(nil, retrip.Config{}) // one for the whole service

	client := openai.NewClient( // github.com/openai/openai-go/v3, or any other that takes an *http.Client
		option.WithHTTPClient(&http.Client{Transport: transport}),
		option.WithMaxRetries(0), // retrip retries: two loops would multiply
	)
	defer transport.CloseIdleConnections()

	params := openai.ChatCompletionNewParams{
		Model:    openai.ChatModelGPT5_4Mini,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello in five words.")},
	}
	if _, err := client.Chat.Completions.New(t.Context(), params); err != nil || srv.Count(openaitest.Chat) != 3 {
		t.Errorf("%v after %d requests, not 3", err, srv.Count(openaitest.Chat))
	}

	srv.Script(openaitest.Chat, openaitest.OK().CutAfter(3))
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	defer stream.Close() //nolint:errcheck // Err says what went wrong
	for stream.Next() {
	}
	if err := stream.Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half an answer ends in %v", err)
	}
}

func TestTheREADMEsTargets(t *testing.T) {
	t.Parallel()
	const key = "none"

	var cfg retrip.Config
	cfg.FirstEventTimeout = 20 * time.Second // a target that is silent for that long is left
	cfg.Targets = []retrip.Target{
		{}, // home: where the request says
		{Name: "eu", BaseURL: "https://eu.example.com/openai/v1", Header: http.Header{"Authorization": {"Bearer " + key}}, Tier: 1},
	}

	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

// TestTheREADMEsCodeIsThis finds the code of the README in this file, so that
// it compiles.
func TestTheREADMEsCodeIsThis(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "\n```go\n")[1:]
	if len(blocks) == 0 {
		t.Error("the README has no code")
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "\n```\n")
		for part := range strings.SplitSeq(code, "\n\n") {
			if !strings.Contains(flat(string(file)), flat(part)) {
				t.Errorf("this is not in readme_test.go:\n%s", part)
			}
		}
	}
}

// flat returns code without its indents, and imports as they stand in a group.
func flat(code string) string {
	lines := strings.Split(code, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(strings.TrimSpace(lines[i]), "import ")
	}
	return strings.Join(lines, "\n")
}
