package main

import (
	"strings"
	"testing"

	"github.com/retrip-go/retrip/openai/openaitest"
)

const answer = "answer: \"" + openaitest.DefaultText + "\"\n"

func TestRun(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "")
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "200 OK after 2 attempts, the last retry because of: connection\n"+answer; got != want {
		t.Errorf("the output is\n%swant\n%s", got, want)
	}
}

func TestRealProvider(t *testing.T) {
	provider := openaitest.NewServer()
	defer provider.Close()
	t.Setenv("OPENAI_API_KEY", "sk-never-printed")
	t.Setenv("OPENAI_BASE_URL", provider.URL)
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil || !strings.HasSuffix(out.String(), answer) || strings.Contains(out.String(), "sk-") {
		t.Errorf("%v, after:\n%s", err, &out)
	}
	if got := provider.Requests()[0].Header.Get("Authorization"); got != "Bearer sk-never-printed" {
		t.Errorf("Authorization is %q", got)
	}

	provider.Script(openaitest.Chat, openaitest.Status(401))
	if err := run(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Errorf("a 401 ends in %v", err)
	}
}
