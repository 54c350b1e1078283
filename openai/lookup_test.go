package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/retrip-go/retrip/internal/call"
)

// lookUp returns what the payload says by our own look-up.
func lookUp(payload []byte) (model string, stream bool) {
	var c call.Call
	readPayload(&c, payload)
	return c.Model, c.Stream
}

// lookUpSlowly returns what the payload says by encoding/json; ok is false if
// it is no JSON object.
func lookUpSlowly(payload []byte) (model string, stream, ok bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(payload, &object) != nil || object == nil {
		return "", false, false
	}
	if json.Unmarshal(object["model"], &model) != nil {
		model = ""
	}
	return model, string(object["stream"]) == "true", true
}

var lookups = []string{
	`{}`,
	` { } `,
	`{"model":"m"}`,
	`{"model":"m","stream":true}`,
	`{"stream":true,"model":"m"}`,
	"\t{\r\n \"model\" : \"m\" ,\n \"stream\" : true }\n",
	`{"messages":[{"role":"user","content":"model"},{"model":"not me","stream":true}],"model":"me"}`,
	`{"messages":[],"model":"first","model":"last"}`,
	`{"model":"first","model":null}`,
	`{"model":"first","model":5}`,
	`{"stream":true,"stream":false}`,
	`{"stream":false,"stream":true}`,
	`{"stream":"true"}`,
	`{"stream":1}`,
	`{"stream":null,"model":null}`,
	`{"model":""}`,
	`{"model":["m"]}`,
	`{"model":{"model":"inner"}}`,
	`{"nested":{"model":"inner","stream":true}}`,
	`{"mod\u0065l":"escaped key"}`,
	`{"\u0073tream":true}`,
	`{"model\u0000":"no"}`,
	`{"model\"":"no","\"model":"no","mo\\del":"no"}`,
	`{"Model":"no","MODEL":"no","STREAM":true}`,
	`{"model":"a\"b\\c\/d\b\f\n\r\t\u00e9\ud83d\ude00"}`,
	`{"model":"lone \ud83d surrogate"}`,
	`{"model":"é😀"}`,
	`{"model":"x` + strings.Repeat("é", maxModel) + `"}`,
	`{"a":"\\","model":"m"}`,
	`{"a":"\\\"","model":"m"}`,
	`{"a":"\\\\\"}{,\"model\":\"no\"","model":"m"}`,
	`{"a":"}","b":"]","c":"{[","model":"m"}`,
	`{"a":-1.5e+10,"b":0,"c":false,"d":null,"model":"m"}`,
	`{"a":[[[[[]]]],[1,"]",{"b":"}"}]],"model":"m"}`,
	`{"":"empty key","model":"m"}`,
	`{"model":"m"} `,
	// No JSON objects: anything but a panic will do.
	``, ` `, `{`, `}`, `[`, `"`, `\`, `{"`, `{"model`, `{"model"`, `{"model":`, `{"model":"`, `{"model":"m`, `{"model":"m"`, `{"model":"m",`,
	`{"model":"m\`, `{"model":"m\"`, `{"model":"m\u`, `{"model":"m","`, `{,}`, `{:}`, `{"a"}`, `{"a":}`, `{"a":,"model":"m"}`, `{"a":1 2}`, `{]`, `{"a":]}`,
	`{"a":[}`, `{"model":"m"}}`, `{"model":"m"}{"model":"n"}`, `[{"model":"m"}]`, `"model"`, `null`, `true`, `12`, `nul`, "\x00", "\xff", "{\"model\":\"\xff\"}", "{\"\xff\":\"m\"}",
	`{a:1}`, `{1:"model"}`, `{'model':'m'}`, `{"model":m}`, `{"stream":true`, `{"stream":truex}`, `--boundary`, "\ufeff{\"model\":\"m\"}",
}

func TestLookups(t *testing.T) {
	t.Parallel()
	for _, payload := range lookups {
		checkLookup(t, []byte(payload))
	}
}

// A string is searched in two ways, by its length.
func TestAStringEndsAtAQuoteThatIsNotEscaped(t *testing.T) {
	t.Parallel()
	for length := range 2 * shortString {
		for _, escapes := range []string{``, `\\`, `\"`, `\\\"`, `\\\\`, `\"\\`} {
			checkLookup(t, []byte(`{"a":"`+strings.Repeat("x", length)+escapes+`","model":"m"}`))
		}
	}
}

func FuzzMembers(f *testing.F) {
	for _, payload := range lookups {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) { checkLookup(t, payload) })
}

// checkLookup: for every JSON object, whatever it looks like, the members are
// those that encoding/json finds, and none is missing. Nothing panics, and
// nothing that is looked up is changed.
func checkLookup(t *testing.T, payload []byte) {
	t.Helper()
	before := bytes.Clone(payload)
	members(payload, func(key, value []byte) {
		if len(value) == 0 {
			t.Errorf("%q: a member %q: %q", before, key, value)
		}
	})
	model, stream := lookUp(payload)
	if !bytes.Equal(payload, before) {
		t.Errorf("%q was changed to %q", before, payload)
	}
	if len(model) > maxModel || !utf8.ValidString(model) {
		t.Errorf("%q: a model's name %q of %d bytes", payload, model, len(model))
	}
	wantModel, wantStream, ok := lookUpSlowly(payload)
	if !ok {
		return
	}
	if stream != wantStream {
		t.Errorf("%q: stream is %v, encoding/json says %v", payload, stream, wantStream)
	}
	switch {
	case !utf8.Valid(payload): // encoding/json repairs it
	case len(wantModel) > maxModel:
		if !strings.HasPrefix(wantModel, model) || len(model) < maxModel-utf8.UTFMax || !utf8.ValidString(model) {
			t.Errorf("%q: the model is cut to %q", payload, model)
		}
	case model != wantModel:
		t.Errorf("%q: the model is %q, encoding/json says %q", payload, model, wantModel)
	}
	if utf8.Valid(payload) {
		checkMembers(t, payload)
	}
}

// checkMembers compares all members with those that encoding/json finds.
func checkMembers(t *testing.T, payload []byte) {
	t.Helper()
	found := map[string]string{}
	if !members(payload, func(key, value []byte) { found[string(key)] = string(value) }) {
		t.Errorf("%q: not taken for a complete object", payload)
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(payload, &want); err != nil {
		t.Fatal(err)
	}
	if len(found) != len(want) {
		t.Errorf("%q: %d members, want %d", payload, len(found), len(want))
	}
	for key, value := range want {
		if found[key] != string(value) {
			t.Errorf("%q: %q is %q, want %q", payload, key, found[key], value)
		}
	}
}

func TestDeepNestingIsNoRecursion(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`[{"a":`, 1<<20)
	if model, _ := lookUp([]byte(`{"a":` + deep)); model != "" {
		t.Errorf("model %q", model)
	}
	closed := `{"a":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `,"model":"m"}`
	if model, _ := lookUp([]byte(closed)); model != "m" {
		t.Errorf("model %q", model)
	}
}

func TestManyEscapesAreLookedAtOnce(t *testing.T) {
	t.Parallel()
	// A scan back from each quote would be quadratic if the runs overlapped.
	payload := `{"a":"` + strings.Repeat(`\\`, 1<<20) + strings.Repeat(`\"`, 1<<20) + `","model":"m"}`
	if model, _ := lookUp([]byte(payload)); model != "m" {
		t.Errorf("model %q", model)
	}
}

// withImage is a payload of 10 MiB whose model stands behind an image.
func withImage() []byte {
	const size = 10 << 20
	head := `{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"What is this?"},` +
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,`
	tail := `"}}]}],"stream":true,"model":"gpt-5"}`
	alphabet := "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg/+"
	image := strings.Repeat(alphabet, size/len(alphabet)+1)[:size-len(head)-len(tail)]
	return []byte(head + image + tail)
}

func BenchmarkLookupBehindAnImage(b *testing.B) {
	payload := withImage()
	var c call.Call
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		readPayload(&c, payload)
	}
	if c.Model != "gpt-5" || !c.Stream {
		b.Fatal(fmt.Sprint(c.Model, c.Stream))
	}
}
