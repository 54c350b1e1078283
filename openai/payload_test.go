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
	new(payloadReader).read(&c, payload)
	return c.Model, c.Stream
}

// lookUpSlowly returns what the payload says by encoding/json; ok is false if
// it is no JSON object.
func lookUpSlowly(payload []byte) (model string, stream bool, choices int, ok bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(payload, &object) != nil || object == nil {
		return "", false, 0, false
	}
	model = modelSlowly(object["model"])
	n, _ := countSlowly(string(object["n"]))
	return model, string(object["stream"]) == "true", int(min(n, maxChoices)), true
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
	`{"n":3,"model":"m"}`, `{"n":1}`, `{"n":0}`, `{"n":-1}`, `{"n":1.0}`, `{"n":null}`, `{"n":"2"}`, `{"n":99999999999999999999}`, `{"n":65}`, `{"n":2,"n":1}`,
	// No JSON objects: anything but a panic will do.
	``, ` `, `{`, `}`, `[`, `"`, `\`, `{"`, `{"model`, `{"model"`, `{"model":`, `{"model":"`, `{"model":"m`, `{"model":"m"`, `{"model":"m",`,
	`{"model":"m\`, `{"model":"m\"`, `{"model":"m\u`, `{"model":"m","`, `{,}`, `{:}`, `{"a"}`, `{"a":}`, `{"a":,"model":"m"}`, `{"a":1 2}`, `{]`, `{"a":]}`,
	`{"a":[}`, `{"model":"m"}}`, `{"model":"m"}{"model":"n"}`, `[{"model":"m"}]`, `"model"`, `null`, `true`, `12`, `nul`, "\x00", "\xff", "{\"model\":\"\xff\"}", "{\"\xff\":\"m\"}",
	`{a:1}`, `{1:"model"}`, `{'model':'m'}`, `{"model":m}`, `{"stream":true`, `{"stream":truex}`, `--boundary`, "\ufeff{\"model\":\"m\"}",
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	for _, payload := range lookups {
		checkPayload(t, []byte(payload))
	}
}

func FuzzReadPayload(f *testing.F) {
	for _, payload := range lookups {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) { checkPayload(t, payload) })
}

// checkPayload: for every JSON object, whatever it looks like, it says what
// encoding/json finds in it. Nothing panics, and nothing is changed.
func checkPayload(t *testing.T, payload []byte) {
	t.Helper()
	before := bytes.Clone(payload)
	var c call.Call
	new(payloadReader).read(&c, payload)
	if !bytes.Equal(payload, before) {
		t.Errorf("%q was changed to %q", before, payload)
	}
	if len(c.Model) > maxModel || !utf8.ValidString(c.Model) {
		t.Errorf("%q: a model's name %q of %d bytes", payload, c.Model, len(c.Model))
	}
	model, stream, choices, ok := lookUpSlowly(payload)
	if !ok {
		return
	}
	if c.Stream != stream || int(c.Choices) != choices {
		t.Errorf("%q: stream is %v with %d choices, encoding/json says %v, %d", payload, c.Stream, c.Choices, stream, choices)
	}
	if utf8.Valid(payload) && c.Model != model { // encoding/json repairs what is no UTF-8
		t.Errorf("%q: the model is %q, encoding/json says %q", payload, c.Model, model)
	}
}

func TestADeploymentsModelIsNotThePayloads(t *testing.T) {
	t.Parallel()
	c := call.Call{Subject: call.Subject{Model: "deployed"}}
	new(payloadReader).read(&c, []byte(`{"model":"m","stream":true}`))
	if c.Model != "deployed" || !c.Stream {
		t.Errorf("%q, %v", c.Model, c.Stream)
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

// BenchmarkLookupBehindAnImage has the lookup beside what bounds it from below, a
// search for quotes.
func BenchmarkLookupBehindAnImage(b *testing.B) {
	payload := withImage()
	b.Run("quotes", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		for b.Loop() {
			for rest, found := payload, true; found; {
				_, rest, found = bytes.Cut(rest, []byte{'"'})
			}
		}
	})
	b.Run("lookup", func(b *testing.B) {
		var c call.Call
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			new(payloadReader).read(&c, payload)
		}
		if c.Model != "gpt-5" || !c.Stream {
			b.Fatal(fmt.Sprint(c.Model, c.Stream))
		}
	})
}
