package json

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Text returns the string that a JSON string stands for, always valid UTF-8; ""
// if value is none, or is cut. It copies the bytes, so that the result does not keep a
// payload in memory. Only strings with escapes pay for encoding/json.
func Text(value []byte) string {
	last := len(value) - 1
	if last < 1 || value[0] != '"' || value[last] != '"' {
		return ""
	}
	if inner := value[1:last]; bytes.IndexByte(inner, '\\') < 0 {
		return strings.ToValidUTF8(string(inner), "\uFFFD")
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// MaxCount bounds what Count believes: a provider's numbers are added up in
// counters, which a single absurd one would spoil for ever.
const MaxCount = 1 << 40

// Count returns the number that digits stand for, and nothing else; false if
// value has anything else in it, or if that is above MaxCount. A sign, a fraction or an
// exponent is no count of anything.
func Count(value []byte) (int64, bool) {
	var n int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > MaxCount {
			return 0, false
		}
	}
	return n, len(value) > 0
}
