package openai

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// factsSlowly returns what an answer with this model and usage says, by
// encoding/json. The last of several counts is the one; what is no count is
// passed over.
func factsSlowly(model, counts []byte) facts {
	var want facts
	want.model = modelSlowly(model)
	usageSlowly(&want.usage, counts)
	return want
}

func usageSlowly(u *usage, counts []byte) {
	keys, values := inOrder(counts)
	for i, value := range values {
		switch keys[i] {
		case "prompt_tokens", "input_tokens":
			countSlowlyInto(&u.input, value)
		case "completion_tokens", "output_tokens":
			countSlowlyInto(&u.output, value)
		case "cache_read_input_tokens", "prompt_cache_hit_tokens":
			countSlowlyInto(&u.cacheRead, value)
		case "cache_creation_input_tokens":
			countSlowlyInto(&u.cacheWrite, value)
		case "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details":
			detailsSlowly(u, value)
		}
	}
}

func detailsSlowly(u *usage, details []byte) {
	keys, values := inOrder(details)
	for i, value := range values {
		switch keys[i] {
		case "cached_tokens":
			countSlowlyInto(&u.cacheRead, value)
		case "cache_write_tokens":
			countSlowlyInto(&u.cacheWrite, value)
		case "reasoning_tokens":
			countSlowlyInto(&u.reasoning, value)
		}
	}
}

func countSlowlyInto(c *count, value []byte) {
	if n, ok := countSlowly(string(value)); ok {
		*c = count{n, true}
	}
}

// FuzzFacts: a model and a usage are read alike from an answer in JSON and from
// the events of all formats, and as encoding/json reads them.
func FuzzFacts(f *testing.F) {
	for _, row := range []struct{ model, usage string }{
		{`"gpt-4o"`, `{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"prompt_tokens_details":{"prompt_tokens":3}}`},
		{`"m\u00e9\"{}"`, `{"input_tokens":0,"output_tokens":1099511627776,"input_tokens_details":{}}`},
		{`"m"`, `{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}`},
		{`"m"`, `{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":3,"x":{"reasoning_tokens":5}}}`},
		{`"m"`, `{"input_tokens":9,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,"prompt_tokens_details":[{"cached_tokens":1}]}`},
		{`"m"`, `{"prompt_tokens":9,"prompt_cache_hit_tokens":4,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":null}}`},
		{`null`, `{"input_tokens":1099511627777,"output_tokens":99999999999999999999999}`},
		{`5`, `{"prompt_tokens":-1,"completion_tokens":1.0}`},
		{`""`, `{"prompt_tokens":"9","completion_tokens":1e2}`},
		{`{"model":"x"}`, `null`},
		{`["x"]`, `[]`},
		{`true`, `"prompt_tokens"`},
		{`"a"`, `{"prompt_tok\u0065ns":5,"output_tokens":null}`},
		{`"a"`, `{"prompt_tokens":5,"input_tokens":6,"prompt_tokens":7,"output_tokens":1,"completion_tokens":{}}`},
	} {
		f.Add([]byte(row.model), []byte(row.usage))
	}
	f.Fuzz(func(t *testing.T, model, counts []byte) {
		var m, u bytes.Buffer
		if !utf8.Valid(model) || json.Compact(&m, model) != nil || json.Compact(&u, counts) != nil {
			return
		}
		want := factsSlowly(m.Bytes(), u.Bytes())
		said := `"model":` + m.String() + `,"usage":` + u.String() + `}`

		var answer jsonAnswer
		answer.feed([]byte("{" + said))
		compareFacts(t, "an answer", said, answer.facts, want)
		for path, event := range map[string]string{
			chatPath:      `{"choices":[],` + said,
			responsesPath: `{"type":"response.completed","response":{` + said + "}",
			messagesPath:  `{"type":"message_start","message":{` + said + "}",
		} {
			compareFacts(t, "a stream", event, factsOf(t, path, event), want)
		}
	})
}

// factsOf returns what a stream of events says.
func factsOf(t *testing.T, path string, events ...string) facts {
	t.Helper()
	a := streamTo(t, path, &pieces{[]byte("data: " + strings.Join(events, "\n\ndata: ") + "\n\n"), 100})
	_, _ = io.ReadAll(a)
	return a.stream.facts
}

// Some servers count in each event, from the beginning.
func TestTheLatestUsageOfAStreamCounts(t *testing.T) {
	t.Parallel()
	said := factsOf(t, chatPath,
		`{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`,
		`{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":9,"completion_tokens":2}}`)
	compareFacts(t, "a stream", "twice", said, facts{usage: usage{input: count{9, true}, output: count{2, true}}})
	said = factsOf(t, messagesPath,
		`{"type":"message_start","message":{"model":"m","usage":{"input_tokens":9,"output_tokens":1}}}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}`)
	compareFacts(t, "a stream of messages", "twice", said, facts{model: "m", usage: usage{input: count{9, true}, output: count{2, true}}})
}

func TestTheFirstModelOfAStreamCounts(t *testing.T) {
	t.Parallel()
	said := factsOf(t, chatPath,
		`{"model":"m-1","choices":[{"index":0,"delta":{"content":"x"}}]}`,
		`{"model":"m-2","choices":[{"index":0,"delta":{"content":"x"}}]}`)
	compareFacts(t, "a stream", "two models", said, facts{model: "m-1"})
}

func compareFacts(t *testing.T, where, said string, got, want facts) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q says %+v, want %+v", where, said, got, want)
	}
}
