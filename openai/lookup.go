package openai

import (
	"bytes"
	"encoding/json"
	"strings"
)

// members calls visit for each member of the JSON object in data, in order,
// with what the key stands for and the value as it is written. It reads just
// enough JSON to find where a value ends, and reports whether the object was
// complete; json.Valid is for those who need to be sure. Strings, which are all
// that is long in a payload, are passed over at the speed of IndexByte.
func members(data []byte, visit func(key, value []byte)) bool {
	s := lookup{data: data}
	for more := s.open('{', '}'); more; more = s.more('}') {
		key, value := s.key(), s.value()
		if s.bad {
			return false
		}
		visit(key, value)
	}
	return !s.bad
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

// A lookup is a position in JSON.
type lookup struct {
	data []byte
	at   int
	bad  bool // something else was found than had to be there
}

// open passes over the bracket that an object or array begins with, and reports
// whether there is something in it.
func (s *lookup) open(begin, end byte) bool {
	if !s.take(begin) {
		s.bad = true
		return false
	}
	return !s.take(end)
}

// more passes over what follows a member or an element, and reports whether
// another one comes.
func (s *lookup) more(end byte) bool {
	switch {
	case s.bad, s.take(end):
		return false
	case s.take(','):
		return true
	}
	s.bad = true
	return false
}

// key passes over a key and its colon, and returns what the key stands for.
func (s *lookup) key() []byte {
	key := s.value()
	if s.bad || key[0] != '"' || !s.take(':') {
		s.bad = true
		return nil
	}
	return unquoted(key)
}

// unquoted returns what a key stands for.
func unquoted(key []byte) []byte {
	if inner := key[1 : len(key)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	return []byte(text(key))
}

// value passes over one value and returns its bytes.
func (s *lookup) value() []byte {
	s.space()
	start := s.at
	s.skip()
	return s.data[start:s.at]
}

// is reports whether c comes next, after white space.
func (s *lookup) is(c byte) bool {
	s.space()
	return s.at < len(s.data) && s.data[s.at] == c
}

// take passes over white space and then c, if it is there.
func (s *lookup) take(c byte) bool {
	if !s.is(c) {
		return false
	}
	s.at++
	return true
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

// skip passes over the value that begins here.
func (s *lookup) skip() {
	start, ok := s.at, false
	if start < len(s.data) {
		switch s.data[start] {
		case '"':
			ok = s.str()
		case '{', '[':
			ok = s.nested()
		default:
			s.literal()
			ok = s.at > start
		}
	}
	s.bad = s.bad || !ok
}

const shortString = 16

// str passes over a string, whose quote it stands on.
func (s *lookup) str() bool {
	first := s.at + 1
	// Most strings are short: too short to pay for a call of IndexByte.
	for i := first; i < min(first+shortString, len(s.data)); i++ {
		switch s.data[i] {
		case '"':
			s.at = i + 1
			return true
		case '\\':
			i++
		}
	}
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
