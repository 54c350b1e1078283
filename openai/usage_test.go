package openai

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// factsSlowly returns what an answer with this model and usage says, by
// encoding/json. The last of several counts is the one.
func factsSlowly(model, counts []byte) facts {
	var want facts
	if json.Unmarshal(model, &want.model) != nil {
		want.model = ""
	}
	want.model = bounded(want.model)
	keys, values := inOrder(counts)
	for i, value := range values {
		n, ok := countSlowly(string(value))
		switch keys[i] {
		case "prompt_tokens", "input_tokens":
			want.usage.input, want.usage.hasInput = n, ok
		case "completion_tokens", "output_tokens":
			want.usage.output, want.usage.hasOutput = n, ok
		}
	}
	return want
}

// FuzzFacts: a model and a usage are read alike from an answer in JSON, from a
// chunk of a stream and from an event of the Responses API, and as
// encoding/json reads them.
func FuzzFacts(f *testing.F) {
	for _, row := range []struct{ model, usage string }{
		{`"gpt-4o"`, `{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"prompt_tokens_details":{"prompt_tokens":3}}`},
		{`"m\u00e9\"{}"`, `{"input_tokens":0,"output_tokens":1099511627776,"input_tokens_details":{}}`},
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
		if !utf8.Valid(model) || json.Compact(&m, model) != nil || json.Compact(&u, counts) != nil || max(m.Len(), u.Len()) > maxValue {
			return
		}
		want := factsSlowly(m.Bytes(), u.Bytes())
		said := `"model":` + m.String() + `,"usage":` + u.String() + `}`

		var answer jsonCheck
		answer.feed([]byte("{" + said))
		compareFacts(t, "an answer", said, answer.facts, want)
		for shape, event := range map[shape]string{
			choicesShape:   `{"choices":[],` + said,
			responsesShape: `{"type":"response.completed","response":{` + said + "}",
		} {
			s := stream{shape: shape}
			s.feed([]byte("data: " + event + "\n\n"))
			for _, ok := s.next(); ok; _, ok = s.next() {
			}
			compareFacts(t, "a stream", event, s.facts, want)
		}
	})
}

// Some servers count in each event, from the beginning.
func TestTheLatestUsageOfAStreamCounts(t *testing.T) {
	t.Parallel()
	s := stream{shape: choicesShape}
	for _, counts := range []string{`{"prompt_tokens":9,"completion_tokens":1}`, `{"prompt_tokens":9,"completion_tokens":2}`} {
		s.feed([]byte(`data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":` + counts + "}\n\n"))
		for _, ok := s.next(); ok; _, ok = s.next() {
		}
	}
	compareFacts(t, "a stream", "twice", s.facts, facts{usage: usage{9, 2, true, true}})
}

func TestTheFirstModelOfAStreamCounts(t *testing.T) {
	t.Parallel()
	s := stream{shape: choicesShape}
	for _, model := range []string{"m-1", "m-2"} {
		s.feed([]byte(`data: {"model":"` + model + `","choices":[{"index":0,"delta":{"content":"x"}}]}` + "\n\n"))
		for _, ok := s.next(); ok; _, ok = s.next() {
		}
	}
	compareFacts(t, "a stream", "two models", s.facts, facts{model: "m-1"})
}

func compareFacts(t *testing.T, where, said string, got, want facts) {
	t.Helper()
	g, w := got.usage, want.usage
	if got.model != want.model || g.hasInput != w.hasInput || g.hasOutput != w.hasOutput ||
		g.hasInput && g.input != w.input || g.hasOutput && g.output != w.output {
		t.Errorf("%s: %q says %+v, want %+v", where, said, got, want)
	}
}
