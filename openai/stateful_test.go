package openai

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/retry"
)

var storing = []struct {
	name, payload string
	stateless     bool
}{
	{"store is false", `{"model":"m","input":"x","store":false}`, true},
	{"all that could store is off", `{"store":false,"previous_response_id":null,"conversation":null,"background":false}`, true},
	{"background is null", `{"store":false,"background":null}`, true},
	{"escaped", `{"st\u006fre":false}`, true},
	{"within another member only", `{"store":false,"metadata":{"conversation":"c","store":true}}`, true},

	{"the default", `{"model":"m","input":"x"}`, false},
	{"store is true", `{"store":true}`, false},
	{"store is null", `{"store":null}`, false},
	{"store is text", `{"store":"false"}`, false},
	{"an earlier response", `{"store":false,"previous_response_id":"resp_1"}`, false},
	{"a conversation", `{"conversation":"conv_1","store":false}`, false},
	{"a conversation, as an object", `{"store":false,"conversation":{"id":"conv_1"}}`, false},
	{"in the background", `{"store":false,"background":true}`, false},
	{"in the background, oddly", `{"store":false,"background":"yes"}`, false},
	{"two minds", `{"store":false,"store":true}`, false},
	{"two minds, the other way round", `{"store":true,"store":false}`, false},
	{"only in a nested object", `{"metadata":{"store":false}}`, false},
	{"cut off", `{"store":false,"input":"x`, false},
	{"no object", `["store",false]`, false},
	{"empty", ``, false},
}

func scanned(payload []byte) bool {
	var c call.Call
	new(payloadReader).read(&c, payload)
	return c.Stateless
}

func TestWhatAPayloadStores(t *testing.T) {
	t.Parallel()
	for _, row := range storing {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := scanned([]byte(row.payload)); got != row.stateless {
				t.Errorf("stateless = %v, want %v", got, row.stateless)
			}
		})
	}
}

func TestWhatProvesThatNothingWasStored(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		attempt   retry.Attempt
		stateless bool
		want      bool
	}{
		"never sent":               {retry.Attempt{NotSent: true}, false, true},
		"sent, and then lost":      {retry.Attempt{}, false, false},
		"lost, but stateless":      {retry.Attempt{}, true, true},
		"429":                      {retry.Attempt{Response: made(429, "")}, false, true},
		"503 with a hint":          {retry.Attempt{Response: made(503, "", "retry-after", "1")}, false, true},
		"503 with a hint in ms":    {retry.Attempt{Response: made(503, "", "retry-after-ms", "1")}, false, true},
		"503":                      {retry.Attempt{Response: made(503, "")}, false, false},
		"503 with junk for a hint": {retry.Attempt{Response: made(503, "", "retry-after", "-1")}, false, false},
		"503 of a stateless call":  {retry.Attempt{Response: made(503, "")}, true, true},
		"500 with a hint":          {retry.Attempt{Response: made(500, "", "retry-after", "1")}, false, false},
		"504":                      {retry.Attempt{Response: made(504, "")}, false, false},
		"an error in a 200":        {retry.Attempt{Response: made(200, ""), Err: &AnswerError{verdict: statusVerdict(429)}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := nothingStored(&row.attempt, row.stateless); got != row.want {
				t.Errorf("nothingStored = %v, want %v", got, row.want)
			}
		})
	}
}

// FuzzStoreScan: a payload is stateless if and only if encoding/json says so.
// One that says something twice is not: who knows what a provider reads.
func FuzzStoreScan(f *testing.F) {
	for _, row := range storing {
		f.Add([]byte(row.payload))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		got := scanned(data)
		if !bytes.Equal(data, before) {
			t.Errorf("%q was changed to %q", before, data)
		}
		var seen map[string]any
		if json.Unmarshal(data, &seen) != nil || seen == nil {
			return
		}
		background := seen["background"]
		want := seen["store"] == false && seen["previous_response_id"] == nil && seen["conversation"] == nil &&
			(background == nil || background == false)
		keys, _ := inOrder(data)
		if got && !want || !got && want && len(keys) == len(seen) {
			t.Errorf("%q: stateless is %v", data, got)
		}
	})
}
