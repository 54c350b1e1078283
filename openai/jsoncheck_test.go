package openai

import (
	"bytes"
	"encoding/json"
	"strconv"
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
	`[]`, `[{"error":{}}]`, ` {} `, `{}{}`, `{"a":1]`, `[1}`, `{`, `}`, ``, `"x"`, `null`, `1`, "\ufeff{}",
}

// What is looked at of a value is bounded alike, whatever the pieces.
func TestHalfAValueThatIsTooLongSaysNothing(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		`{"usage":{"prompt_tokens":1` + strings.Repeat(" ", 2*maxValue) + `}}`,
		`{"model":"m"` + strings.Repeat(" ", 2*maxValue) + `}`,
	} {
		var whole, bytewise jsonCheck
		whole.feed([]byte(in))
		for i := range in {
			bytewise.feed([]byte(in[i : i+1]))
		}
		compareChecks(t, []byte(in), &whole, &bytewise)
	}
}

// The first piece looks as if it were all of an object, but for its end.
func TestWhatAFirstPieceSaysCountsOnce(t *testing.T) {
	t.Parallel()
	const first, rest = `{"model":"m","error":"x"`, `,"usage":{"prompt_tokens":9}}`
	for _, factless := range []bool{false, true} {
		c := jsonCheck{factless: factless}
		if c.readWhole([]byte(first)) || c.failed || c.facts != (facts{}) || c.factless != factless {
			t.Errorf("half an object: %+v", c)
		}
		c.feed([]byte(first))
		c.feed([]byte(rest))
		if !c.whole() || !c.failed || (c.facts == facts{}) != factless {
			t.Errorf("in two pieces: %+v", c)
		}
	}
}

func TestAnErrorIsNotTakenBack(t *testing.T) {
	t.Parallel()
	in := []byte(`{"error":{"code":"x"},"error":null}`)
	var whole, bytewise jsonCheck
	whole.feed(in)
	for i := range in {
		bytewise.feed(in[i : i+1])
	}
	if !whole.failed || !bytewise.failed {
		t.Errorf("whole: %v, byte by byte: %v", whole.failed, bytewise.failed)
	}
}

// FuzzJSONCheck: whatever the pieces, an object is whole with its last byte
// and not before, and says what encoding/json finds in it.
func FuzzJSONCheck(f *testing.F) {
	for i, s := range answersInJSON {
		f.Add([]byte(s), i)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		var once, split jsonCheck
		once.feed(data)
		for piece := range chunks(data, 1+(size&0x7fffffff)%(len(data)+1)) {
			split.feed(piece)
		}
		compareChecks(t, data, &once, &split)
		value := bytes.Trim(data, " \t\r\n")
		if !json.Valid(data) || value[0] != '{' && value[0] != '[' {
			return
		}
		var bytewise jsonCheck
		end := bytes.LastIndexAny(data, "}]")
		for i := range data {
			bytewise.feed(data[i : i+1])
			if bytewise.whole() != (i >= end) {
				t.Fatalf("%q: whole is %v after %d bytes", data, bytewise.whole(), i+1)
			}
		}
		compareChecks(t, data, &once, &bytewise)
		if value[0] == '{' {
			checkObject(t, data, &once)
		}
	})
}

func compareChecks(t *testing.T, data []byte, a, b *jsonCheck) {
	t.Helper()
	if a.whole() != b.whole() || a.failed != b.failed || a.facts != b.facts {
		t.Errorf("%q: %v %v %+v in one piece, %v %v %+v in several", data, a.whole(), a.failed, a.facts, b.whole(), b.failed, b.facts)
	}
}

// checkObject compares what was found with what encoding/json finds.
func checkObject(t *testing.T, data []byte, c *jsonCheck) {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil || !isPlain(data, object) {
		return
	}
	var message string
	inError := object["error"]
	wantError := len(inError) > 0 && (inError[0] == '{' || json.Unmarshal(inError, &message) == nil && message != "")
	if c.failed != wantError {
		t.Errorf("%q: failed is %v", data, c.failed)
	}
	var model string
	if raw := object["model"]; len(raw) <= maxValue && json.Unmarshal(raw, &model) != nil {
		model = ""
	}
	if utf8.Valid(data) && c.facts.model != bounded(model) {
		t.Errorf("%q: the model is %q, want %q", data, c.facts.model, model)
	}
	var counts map[string]json.RawMessage
	raw := object["usage"]
	if json.Unmarshal(raw, &counts) != nil || !isPlain(raw, counts) {
		return
	}
	if len(raw) > maxValue {
		counts = nil
	}
	want := usage{}
	for _, name := range []string{"prompt_tokens", "input_tokens"} {
		if raw, ok := counts[name]; ok {
			if want.hasInput || len(counts["prompt_tokens"]) > 0 && len(counts["input_tokens"]) > 0 {
				return // whichever comes last
			}
			want.input, want.hasInput = countSlowly(string(raw))
		}
	}
	for _, name := range []string{"completion_tokens", "output_tokens"} {
		if raw, ok := counts[name]; ok {
			if want.hasOutput || len(counts["completion_tokens"]) > 0 && len(counts["output_tokens"]) > 0 {
				return
			}
			want.output, want.hasOutput = countSlowly(string(raw))
		}
	}
	if got := c.facts.usage; got.hasInput != want.hasInput || got.hasOutput != want.hasOutput ||
		got.hasInput && got.input != want.input || got.hasOutput && got.output != want.output {
		t.Errorf("%q: usage is %+v, want %+v", data, got, want)
	}
}

func countSlowly(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxTokens {
		return 0, false
	}
	return int64(n), true
}

// isPlain reports whether no key of the object is there twice, or has an
// escape: those are read differently from reader to reader.
func isPlain(data []byte, object map[string]json.RawMessage) bool {
	n, plain := 0, true
	members(data, func(key, _ []byte) {
		n++
		plain = plain && bytes.Contains(data, []byte(`"`+string(key)+`"`)) && utf8.Valid(key)
	})
	return plain && n == len(object)
}
