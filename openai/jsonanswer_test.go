package openai

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

var answersInJSON = []string{
	`{"id":"x","model":"m-1","usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":3}}}`,
	`{"model":"m","usage":{"input_tokens":9,"output_tokens":7,"input_tokens_details":{"prompt_tokens":1}},"error":null}`,
	`{"object":"list","data":[{"embedding":[0.1,-2e-5],"model":"no"}],"usage":{"prompt_tokens":9}}`,
	`{"usage":null}`, `{"usage":{}}`, `{"usage":[]}`, `{"usage":"prompt_tokens"}`, `{"usage":{"prompt_tokens":null}}`, `{"usage":{"prompt_tokens":"9"}}`,
	`{"usage":{"prompt_tokens":1e3}}`, `{"usage":{"prompt_tokens":-1}}`, `{"usage":{"prompt_tokens":9.5}}`, `{"usage":{"prompt_tokens":0}}`,
	`{"usage":{"prompt_tokens":1099511627776}}`, `{"usage":{"prompt_tokens":1099511627777}}`, `{"usage":{"prompt_tokens":99999999999999999999999}}`,
	`{"error":{}}`, `{"error":{"message":"x"}}`, `{"error":"x"}`, `{"error":""}`, `{"error":false}`, `{"error":0}`, `{"error":[]}`, `{"error" : null }`,
	`{"a":{"error":{"x":1}}}`, `{"a":["error",{"error":"x"}]}`, `{"error":{"a":"` + strings.Repeat("x", 5000) + `"}}`, `{"error":"` + strings.Repeat("x", 5000) + `"}`,
	`{"model":"` + strings.Repeat("é", 100) + `"}`, `{"model":"` + strings.Repeat("x", 5000) + `"}`, `{"model":"a\"}{b\\"}`, `{"model":5}`, `{"model":null}`, "{ \"model\" :\t\"a b\"\r\n}",
	`{"\u006dodel":"x"}`, `{"model":"first","model":"second"}`, `{"errors":{},"modelx":"x","usag":{},"e":"\"error\":{}"}`,
	`{"choices":[{"message":{"content":"x"}}],"error":{"message":"upstream warning","code":502}}`, `{"choices":[],"error":{"code":502}}`, `{"choices":[{}],"error":"x"}`,
	`{"choices":[{"finish_reason":"error"}]}`, `{"choices":[{"error":{"code":502}}]}`, `{"choices":[{"error":"overloaded"}]}`, `{"choices":[{"error":{}}]}`,
	`{"choices":[{"error":{}}],"error":{"code":502}}`, `{"choices":[{"error":{"code":502}}],"error":{}}`,
	`{"error":{"message":"","type":"","param":"","code":null}}`, `{"error":{"code":0,"details":[]}}`, `{"error":{"details":[""]}}`, `{"error":{"x":{"y":null}}}`,
	`{"data":[1],"error":"x"}`, `{"data":[],"error":"x"}`, `{"output":"x","error":"x"}`, `{"output":"","error":"x"}`, `{"content":{},"object":"error"}`, `{"type":"error"}`, `{"object":"error","code":400}`,
	`[]`, `[{"error":{}}]`, ` {} `, `{}{}`, `{"a":1]`, `[1}`, `{`, `}`, ``, `"x"`, `null`, `1`, "\ufeff{}",
}

func TestAnErrorIsNotTakenBack(t *testing.T) {
	t.Parallel()
	for _, in := range []string{`{"error":{"code":"x"},"error":null}`, `{"error":"x","error":{}}`} {
		for size := range len(in) {
			var a jsonAnswer
			for piece := range chunks([]byte(in), size+1) {
				a.feed(piece)
			}
			if _, ok := a.failed(); !ok {
				t.Errorf("%s, in pieces of %d: no error", in, size+1)
			}
		}
	}
}

// Gateways add an error to a good answer. What each format calls its content shows that
// it is one.
func TestAnErrorBesideContentIsARemark(t *testing.T) {
	t.Parallel()
	for _, content := range []string{`"choices":[{}]`, `"data":[1]`, `"output":[1]`, `"content":[1]`, `"results":[{"flagged":false}]`} {
		for _, in := range []string{`{` + content + `,"error":{"code":"x"}}`, `{"error":{"code":"x"},` + content + `}`} {
			var a jsonAnswer
			a.feed([]byte(in))
			if e, ok := a.failed(); ok {
				t.Errorf("%s failed with %v", in, e)
			}
		}
	}
}

// FuzzJSONAnswer: whatever the pieces, an answer is whole with its last byte
// and not before, and says what encoding/json finds in it.
func FuzzJSONAnswer(f *testing.F) {
	for i, s := range answersInJSON {
		f.Add([]byte(s), i)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		var once, split jsonAnswer
		once.feed(data)
		for piece := range chunks(data, 1+(size&0x7fffffff)%(len(data)+1)) {
			split.feed(piece)
		}
		compareAnswers(t, data, &once, &split)
		value := bytes.Trim(data, jsonSpace)
		if !json.Valid(data) || value[0] != '{' && value[0] != '[' {
			return
		}
		var bytewise jsonAnswer
		end := bytes.LastIndexAny(data, "}]")
		for i := range data {
			bytewise.feed(data[i : i+1])
			if bytewise.whole() != (i >= end) || bytewise.over() != (i >= end) {
				t.Fatalf("%q: whole is %v after %d bytes", data, bytewise.whole(), i+1)
			}
		}
		compareAnswers(t, data, &once, &bytewise)
		checkAnswer(t, data, &once)
	})
}

func compareAnswers(t *testing.T, data []byte, a, b *jsonAnswer) {
	t.Helper()
	a.end()
	b.end()
	aError, aFailed := a.failed()
	bError, bFailed := b.failed()
	if a.whole() != b.whole() || a.over() != b.over() || aFailed != bFailed || aError != bError || a.facts != b.facts || a.filled != b.filled {
		t.Errorf("%q: %v %v %+v %+v in one piece, %v %v %+v %+v in several", data, a.whole(), aFailed, aError, a.facts, b.whole(), bFailed, bError, b.facts)
	}
}

// checkAnswer compares what was found with what encoding/json finds.
func checkAnswer(t *testing.T, data []byte, a *jsonAnswer) {
	t.Helper()
	var e errorSlowly
	var want facts
	filled := false
	for _, object := range append(elements(data), data) {
		keys, values := inOrder(object)
		for i, value := range values {
			switch keys[i] {
			case "choices":
				for _, choice := range elements(value) {
					filled = true
					choiceSlowly(choice, map[int]bool{}, &e)
				}
			case "data", "output", "content", "results":
				filled = filled || saysSomething(value)
			case "model":
				if want.model == "" {
					want.model = factsSlowly(value, nil).model
				}
			case "usage":
				usageSlowly(&want.usage, value)
			default:
				e.top(keys[i], value)
			}
		}
	}
	if _, got := a.failed(); got != e.fails(filled) {
		t.Errorf("%q: failed is %v", data, got)
	}
	if utf8.Valid(data) {
		compareFacts(t, "an answer", string(data), a.facts, want)
	}
}
