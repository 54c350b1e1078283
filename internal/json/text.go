package json

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns the string that a JSON string stands for, always valid UTF-8; ""
// if value is none. Of a string that is cut it returns what is there. An escape
// that JSON does not know stands for itself.
func Text(value []byte) string {
	if len(value) == 0 || value[0] != '"' {
		return ""
	}
	inner := bytes.TrimSuffix(value[1:], []byte{'"'})
	if bytes.IndexByte(inner, '\\') >= 0 {
		inner = unescape(make([]byte, 0, len(inner)), inner)
	}
	return strings.ToValidUTF8(string(inner), "\uFFFD")
}

// MaxCount bounds what Count believes.
const MaxCount = 1 << 40

// Count returns the number that digits stand for, and nothing else; false if
// value has anything else in it, or if that is above MaxCount.
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

// unescaped returns what stands for the key whose bytes between the quotes are
// raw, cut to MaxKey.
func (s *Scanner) unescaped(raw []byte) []byte {
	key := raw[:min(len(raw), maxRawKey)]
	if bytes.IndexByte(key, '\\') >= 0 {
		s.keyBuf = unescape(s.keyBuf[:0], key)
		key = s.keyBuf
	}
	return key[:min(len(key), MaxKey)]
}

// unescape appends what the inside of a JSON string stands for to dst. That is
// never longer: dst may be the beginning of raw.
func unescape(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 || i+1 == len(raw) {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex(raw)
			if !ok {
				dst = append(dst, '\\', 'u')
				continue
			}
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				r, raw = pair(r, raw)
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, '\\', c)
		}
	}
}

// pair returns the rune that a surrogate and the escape behind it stand for, and
// what follows that. A surrogate without its other half stands for no rune.
func pair(r rune, raw []byte) (rune, []byte) {
	if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
		if low, ok := hex(raw[2:]); ok {
			if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
				return both, raw[6:]
			}
		}
	}
	return utf8.RuneError, raw
}

// hex reads the four digits of an escape.
func hex(raw []byte) (rune, bool) {
	if len(raw) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[:4]), 16, 16)
	return rune(n), err == nil
}
