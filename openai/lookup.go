package openai

import (
	"bytes"
	"encoding/json"
	"strings"
)

// members calls visit for each member of the JSON object in data, in order.
// It reads just enough JSON to find where a value ends, and reports whether
// the object was complete; json.Valid is for those who need to be sure.
// Strings, which are all that is long in a payload, are passed over at the
// speed of IndexByte.
func members(data []byte, visit func(key, value []byte)) bool {
	s := lookup{data: data}
	if !s.take('{') {
		return false
	}
	if s.take('}') {
		return true
	}
	for {
		key, ok := s.value()
		if !ok || key[0] != '"' || !s.take(':') {
			return false
		}
		value, ok := s.value()
		if !ok {
			return false
		}
		visit(key, value)
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

// elements calls visit for each element of the JSON array in data, in order.
func elements(data []byte, visit func(value []byte)) {
	s := lookup{data: data}
	if !s.take('[') || s.take(']') {
		return
	}
	for {
		value, ok := s.value()
		if !ok {
			return
		}
		visit(value)
		if !s.take(',') {
			return
		}
	}
}

// text returns the string that a JSON string stands for, always valid UTF-8; ""
// if it is none.
func text(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return strings.ToValidUTF8(string(inner), "\uFFFD")
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// isKey reports whether a JSON string stands for name.
func isKey(key []byte, name string) bool {
	inner := key[1 : len(key)-1]
	return string(inner) == name || bytes.IndexByte(inner, '\\') >= 0 && text(key) == name
}

// A lookup is a position in JSON.
type lookup struct {
	data []byte
	at   int
}

// take passes over white space and then c, if it is there.
func (s *lookup) take(c byte) bool {
	s.space()
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *lookup) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// value passes over one value and returns its bytes.
func (s *lookup) value() ([]byte, bool) {
	s.space()
	if s.at == len(s.data) {
		return nil, false
	}
	start := s.at
	var ok bool
	switch s.data[s.at] {
	case '"':
		ok = s.str()
	case '{', '[':
		ok = s.nested()
	default:
		s.literal()
		ok = s.at > start
	}
	return s.data[start:s.at], ok
}

// str passes over a string, whose quote it stands on.
func (s *lookup) str() bool {
	first := s.at + 1
	for from := first; ; {
		i := bytes.IndexByte(s.data[from:], '"')
		if i < 0 {
			s.at = len(s.data)
			return false
		}
		from += i + 1
		escapes := 0
		for j := from - 2; j >= first && s.data[j] == '\\'; j-- {
			escapes++
		}
		if escapes%2 == 0 {
			s.at = from
			return true
		}
	}
}

// nested passes over an object or array, on whose bracket it stands.
func (s *lookup) nested() bool {
	depth := 0
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case '"':
			if !s.str() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.at++
		if depth == 0 {
			return true
		}
	}
	return false
}

// literal passes over a number, true, false or null.
func (s *lookup) literal() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ',', '}', ']', ':', ' ', '\t', '\r', '\n', '"', '{', '[':
			return
		}
		s.at++
	}
}
