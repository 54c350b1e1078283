package main

import (
	"strings"
	"testing"

	"github.com/retrip-go/retrip/openai/openaitest"
)

func TestRun(t *testing.T) {
	for _, name := range []string{"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"} {
		t.Setenv(name, "")
	}
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "attempt 1: stream_error\nHello! How can I help you today?\n"; got != want {
		t.Errorf("the output is\n%swant\n%s", got, want)
	}
}

func TestBaseURLIsAllThatDiffers(t *testing.T) {
	provider := openaitest.NewServer()
	defer provider.Close()
	t.Setenv("OPENAI_BASE_URL", provider.URL)
	t.Setenv("OPENAI_MODEL", "qwen")
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil || out.String() != openaitest.DefaultText+"\n" {
		t.Errorf("%v, after:\n%s", err, &out)
	}
	if got := provider.Requests(); len(got) != 1 || !strings.Contains(string(got[0].Body), `"qwen"`) {
		t.Errorf("the provider saw %d requests", len(got))
	}
}
