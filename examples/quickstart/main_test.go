package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/openai/openaitest"
)

// TestStory checks that the parts of the story are told, and in this order; and that
// the README's excerpt is what the program prints, but for the numbers of its times.
func TestStory(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "")
	output := tell(t)
	inOrder(t, output, excerpt(t)...)
	inOrder(t, output,
		`provider: openaitest`,
		`attempt 1: 503, .* \(backoff\)`,
		`attempt 2: 429, .*wait 1(\.\d+)?s \(hint\)`,
		`answer: "Here I am, at the third attempt."`,
		`retrip\.pacing\.waits`,
		`stream: Each word of this .* at once\.\n`,
		`stream ended well, in 13 pieces`,
		`call 4: the caller gets a 503, attempts sent: 2, stop reason: attempts`,
		`breaker: closed → open \(failures_in_a_row\)`,
		`call 5: the caller gets a 503, attempts sent: 1, stop reason: rejected`,
		`rejected in \d+µs; errors\.Is\(err, breaker\.ErrOpen\) = true`,
		`the provider saw of these three: 0`,
		`breaker: open → half_open`,
		`breaker: half_open → closed`,
		`answer: `,
		`attempt 1 at home: 503, overloaded; no wait, then retry`,
		`answer: "The spare is here\.", tried: home 503, spare 200\n`,
		`breaker: closed → open \(failures_in_a_row\)`,
		`home is not asked\n`,
		`answer: "The spare is here\.", tried: spare 200\n`,
		`breaker: half_open → closed`,
		`answer: "Hello!.*", tried: home 200\n`,
		`gen_ai\.client\.inference\.duration +5, mean`,
		`gen_ai\.client\.inference\.duration +target=home +1, mean`,
		`gen_ai\.client\.inference\.duration +target=spare +6, mean`,
		`retrip\.breaker\.transitions +from=closed to=open +2\n`,
		`retrip\.failovers +error\.type=503 from=home to=spare +5\n`,
		`retrip\.failovers +error\.type=circuit_open from=home to=spare +1\n`,
		`retrip\.retries +error\.type=429 reason=rate_limited delay_source=hint +1\n`,
		`retrip\.retries +error\.type=503 reason=overloaded delay_source=backoff +5\n`,
		`21 operations - 4 rejected \+ 11 retries = 28 attempts`,
	)
}

// excerpt returns a pattern for each line of the excerpt in the README.
func excerpt(t *testing.T) (patterns []string) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "\n```\nA call that")
	lines, _, ok := strings.Cut("A call that"+rest, "\n```\n")
	if !ok {
		t.Fatal("the README has no excerpt")
	}
	number := regexp.MustCompile(` *\d+(?: ms|ms|µs|s)\b`)
	for line := range strings.SplitSeq(lines, "\n") {
		if line != "…" {
			patterns = append(patterns, number.ReplaceAllString(regexp.QuoteMeta(line), ` *[\d.]+ ?(ms|µs|s)`)+`\n`)
		}
	}
	return patterns
}

// TestRealProvider lets a second server be the real one.
func TestRealProvider(t *testing.T) {
	const key = "sk-never-printed"
	provider := openaitest.NewServer()
	defer provider.Close()
	t.Setenv("OPENAI_API_KEY", key)
	t.Setenv("OPENAI_BASE_URL", provider.URL)
	t.Setenv("OPENAI_MODEL", "some-model")

	output := tell(t)
	inOrder(t, output,
		`answer: "Hello!`,
		`stream: Hello! How can I help you today\?\n`,
		`gen_ai\.client\.inference\.duration +2, mean`,
		`2 operations - 0 rejected \+ 0 retries = 2 attempts`,
	)
	if strings.Contains(output, key) {
		t.Error("the key is printed")
	}
	requests := provider.Requests()
	if len(requests) != 2 {
		t.Fatalf("the provider saw %d requests, not 2", len(requests))
	}
	for _, r := range requests {
		if got := r.Header.Get("Authorization"); got != "Bearer "+key {
			t.Errorf("Authorization is %q", got)
		}
		if !strings.Contains(string(r.Body), `"some-model"`) {
			t.Errorf("the model is not in %s", r.Body)
		}
	}
}

func tell(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v, after:\n%s", err, &out)
	}
	return out.String()
}

func inOrder(t *testing.T, output string, patterns ...string) {
	t.Helper()
	rest := output
	for _, pattern := range patterns {
		found := regexp.MustCompile(pattern).FindStringIndex(rest)
		if found == nil {
			t.Fatalf("no %q where it belongs in:\n%s", pattern, output)
		}
		rest = rest[found[1]:]
	}
}
