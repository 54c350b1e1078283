package main

import (
	"regexp"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, name := range []string{"ENDPOINT", "API_KEY", "DEPLOYMENT", "API_VERSION"} {
		t.Setenv("AZURE_OPENAI_"+name, "")
	}
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^attempt 1: 429, the next one in \S+s \(hint\)
answer: "Hello! How can I help you today\?"
breaker https://127\.0\.0\.1:\d+ chat my-deployment: closed, 1 ended well
$`)
	if !want.MatchString(out.String()) {
		t.Errorf("the output is\n%s", &out)
	}
}
