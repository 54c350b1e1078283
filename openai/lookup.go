package openai

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
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
		key, value := s.member()
		if s.bad {
			return false
		}
		visit(unquoted(key), value)
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
	s.space()
	if s.at < len(s.data) && !s.bad {
		switch s.data[s.at] {
		case ',':
			s.at++
			return true
		case end:
			s.at++
			return false
		}
	}
	s.bad = true
	return false
}

// member passes over a member of an object, and returns its key and its value as
// they are written.
func (s *lookup) member() (key, value []byte) {
	key = s.quotedKey()
	if s.bad {
		return nil, nil
	}
	return key, s.value()
}

// key passes over a key and its colon, and returns what the key stands for.
func (s *lookup) key() []byte {
	key := s.quotedKey()
	if s.bad {
		return nil
	}
	return unquoted(key)
}

// quotedKey passes over a key and its colon, and returns the key as it is
// written.
func (s *lookup) quotedKey() []byte {
	start := afterSpace(s.data, s.at)
	if start == len(s.data) || s.data[start] != '"' {
		s.at, s.bad = start, true
		return nil
	}
	end, ok := endOfString(s.data, start)
	colon := afterSpace(s.data, end)
	if !ok || colon == len(s.data) || s.data[colon] != ':' {
		s.at, s.bad = end, true
		return nil
	}
	s.at = colon + 1
	return s.data[start:end]
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
	start := afterSpace(s.data, s.at)
	end, ok := endOfValue(s.data, start)
	if !ok {
		s.bad = true
	}
	s.at = end
	return s.data[start:end]
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

func (s *lookup) space() { s.at = afterSpace(s.data, s.at) }

// afterSpace returns where in data, from at on, something stands.
func afterSpace(data []byte, at int) int {
	for at < len(data) && isSpace(data[at]) {
		at++
	}
	return at
}

func isSpace(c byte) bool { return c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t') }

// endOfValue returns where the value ends that begins at start; false if there is
// none, or if data ends first.
func endOfValue(data []byte, start int) (end int, ok bool) {
	if start == len(data) {
		return start, false
	}
	switch data[start] {
	case '"':
		return endOfString(data, start)
	case '{', '[':
		return endOfNested(data, start)
	}
	end = endOfLiteral(data, start)
	return end, end > start
}

// endOfLiteral returns where the number, true, false or null ends that begins at
// start.
func endOfLiteral(data []byte, start int) int {
	for at := start; at < len(data); at++ {
		switch data[at] {
		case ',', '}', ']', ':', ' ', '\t', '\r', '\n', '"', '{', '[':
			return at
		}
	}
	return len(data)
}

// endOfNested returns where the object or array ends that begins at start;
// false and the end of data if it does not.
func endOfNested(data []byte, start int) (end int, ok bool) {
	for at, depth := start, 0; at < len(data); {
		switch c := data[at]; {
		case c == '"':
			if at, ok = endOfString(data, at); !ok {
				return at, false
			}
			continue
		case c < '[': // most of what stands outside of strings
		case c|' ' == '{': // the bit of ' ' tells '{' from '['
			depth++
		case c|' ' == '}':
			if depth--; depth == 0 {
				return at + 1, true
			}
		}
		at++
	}
	return len(data), false
}

const (
	word        = 8 // bytes
	shortString = 2 * word
)

// endOfString returns where the string ends whose quote is at start; false and
// the end of data if it does not. The first quote ends it, unless a backslash
// stands before that: then they have to be counted. Most strings are too short
// to pay for a call of IndexByte.
func endOfString(data []byte, start int) (end int, ok bool) {
	if rest := data[start+1:]; len(rest) >= shortString {
		n := firstQuote(binary.LittleEndian.Uint64(rest))
		if n == word {
			n += firstQuote(binary.LittleEndian.Uint64(rest[word:]))
		}
		if n < shortString && data[start+n] != '\\' {
			return start + n + 2, true
		}
	}
	return endOfAnyString(data, start)
}

// firstQuote returns how many of a word's bytes stand before a quote; 8 if there
// is none. Subtracting 1 from each byte borrows from the highest bit of the first
// that is 0.
func firstQuote(w uint64) int {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	w ^= '"' * ones
	return bits.TrailingZeros64((w-ones)&^w&highest) / 8
}

// endOfAnyString is endOfString for strings that may be long or have escapes.
func endOfAnyString(data []byte, start int) (end int, ok bool) {
	first := start + 1
	for from := first; ; {
		i := bytes.IndexByte(data[from:], '"')
		if i < 0 {
			return len(data), false
		}
		from += i + 1
		escapes := 0
		for j := from - 2; j >= first && data[j] == '\\'; j-- {
			escapes++
		}
		if escapes%2 == 0 {
			return from, true
		}
	}
}
