package openai

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzErrorBodyEnd: where the value ends that an error's body is does not
// depend on how its bytes come.
func FuzzErrorBodyEnd(f *testing.F) {
	for _, row := range errorShapes {
		f.Add([]byte(row.body), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		var split errorBody
		got := false
		for chunk := range chunks(data, int(step)+1) {
			if got = split.Enough(chunk); got {
				break
			}
		}
		if want := new(errorBody).Enough(data); got != want {
			t.Errorf("split by %d: %v, whole: %v", step, got, want)
		}
		// The end of an object or array is its last byte.
		if value := bytes.Trim(data, jsonSpace); json.Valid(data) && (value[0] == '{' || value[0] == '[') {
			if new(errorBody).Enough(value[:len(value)-1]) || !new(errorBody).Enough(value) {
				t.Errorf("not at its end: %q", data)
			}
		}
	})
}

func chunks(data []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			k := min(n, len(data))
			if !yield(data[:k]) {
				return
			}
			data = data[k:]
		}
	}
}
