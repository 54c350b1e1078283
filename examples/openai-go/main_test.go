package main

import (
	"strings"
	"testing"

	"github.com/retrip-go/retrip/openai/openaitest"
)

func TestRun(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "")
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `attempt 1: 503, then a retry
answer: "Hello! How can I help you today?"
attempt 1: connection_error, then a retry
stream: Hello! How can 
half an answer: the connection was lost
`
	if out.String() != want {
		t.Errorf("the output is\n%swant\n%s", &out, want)
	}
}

func TestRealProvider(t *testing.T) {
	provider := openaitest.NewServer()
	defer provider.Close()
	t.Setenv("OPENAI_API_KEY", "sk-never-printed")
	t.Setenv("OPENAI_BASE_URL", provider.URL)
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil || strings.Contains(out.String(), "sk-") {
		t.Errorf("%v, after:\n%s", err, &out)
	}
	if got := provider.Requests()[0].Header.Get("Authorization"); got != "Bearer sk-never-printed" {
		t.Errorf("Authorization is %q", got)
	}
	provider.Script(openaitest.Chat, openaitest.Status(401))
	if err := run(t.Context(), &out); err == nil || err.Error() != "the provider says 401" {
		t.Errorf("a 401 ends in %v", err)
	}
}
