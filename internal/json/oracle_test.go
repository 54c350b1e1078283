package json

import (
	"bytes"
	"encoding/binary"
)

// What follows read JSON before Scanner did. It is kept as an oracle, for the
// tests and for the benchmarks.

// oldName is a name without an allocation for those that are known.
func oldName(value []byte) string {
	if string(value) == `"gpt-5-mini-2025-08-07"` {
		return "gpt-5-mini-2025-08-07"
	}
	return Text(value)
}

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
		visit(oldUnquoted(key), value)
	}
	return !s.bad
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
	return oldUnquoted(key)
}

// quotedKey passes over a key and its colon, and returns the key as it is
// written.
func (s *lookup) quotedKey() []byte {
	start := afterSpace(s.data, s.at)
	if start == len(s.data) || s.data[start] != '"' {
		s.at, s.bad = start, true
		return nil
	}
	end, ok := oldEndOfString(s.data, start)
	colon := afterSpace(s.data, end)
	if !ok || colon == len(s.data) || s.data[colon] != ':' {
		s.at, s.bad = end, true
		return nil
	}
	s.at = colon + 1
	return s.data[start:end]
}

// unquoted returns what a key stands for.
func oldUnquoted(key []byte) []byte {
	if inner := key[1 : len(key)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	return []byte(Text(key))
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

// endOfValue returns where the value ends that begins at start; false if there is
// none, or if data ends first.
func endOfValue(data []byte, start int) (end int, ok bool) {
	if start == len(data) {
		return start, false
	}
	switch data[start] {
	case '"':
		return oldEndOfString(data, start)
	case '{', '[':
		return endOfNested(data, start)
	}
	end = endOfLiteral(data, start)
	return end, end > start
}

// endOfNested returns where the object or array ends that begins at start;
// false and the end of data if it does not.
func endOfNested(data []byte, start int) (end int, ok bool) {
	for at, depth := start, 0; at < len(data); {
		switch c := data[at]; {
		case c == '"':
			if at, ok = oldEndOfString(data, at); !ok {
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

// oldEndOfString returns where the string ends whose quote is at start; false and
// the end of data if it does not. The first quote ends it, unless a backslash
// stands before that: then they have to be counted. Most strings are too short
// to pay for a call of IndexByte.
func oldEndOfString(data []byte, start int) (end int, ok bool) {
	if rest := data[start+1:]; len(rest) >= 2*word {
		n := firstQuote(binary.LittleEndian.Uint64(rest))
		if n == word {
			n += firstQuote(binary.LittleEndian.Uint64(rest[word:]))
		}
		if n < 2*word && data[start+n] != '\\' {
			return start + n + 2, true
		}
	}
	return oldEndOfAnyString(data, start)
}

// oldEndOfAnyString is oldEndOfString for strings that may be long or have escapes.
func oldEndOfAnyString(data []byte, start int) (end int, ok bool) {
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

// cutMembers is members for data that may be cut off. The object or array that
// the cut goes through is visited as far as it goes; half a string or number
// is not.
func cutMembers(data []byte, visit func(key, value []byte)) {
	s := lookup{data: data}
	for more := s.open('{', '}'); more; more = s.more('}') {
		key, value := s.member()
		switch {
		case len(value) == 0:
			return
		case value[0] == '{', value[0] == '[':
		case s.bad, value[0] != '"' && s.at == len(data):
			return
		}
		visit(oldUnquoted(key), value)
	}
}

// A oldCheck follows a JSON value piece by piece, as it passes. It finds out
// whether the value is whole, whether it is an object with an error at its top
// level, and the facts that stand there. The zero value is ready.
type oldCheck struct {
	depth    int
	begun    bool // something other than white space was seen
	done     bool // the value has ended
	broken   bool // there is more, or it does not begin or end as it should
	inString bool
	escaped  bool
	failed   bool // the value of "error" says something

	// The top level of an object: keys alternate with values.
	object bool
	inKey  bool
	keyLen uint8 // above maxKey for a key that is none of ours
	key    [maxKey]byte
	piece  []byte // that feed looks at
	from   int    // where the value of ours begins in it; -1 if none has begun
	before []byte // of that value, from earlier pieces
	facts  oldFacts
}

const (
	maxKey   = 5       // of "error", "model" and "usage"
	maxValue = 4 << 10 // what is looked at of their values

	whiteSpace = " \t\r\n"
)

// feed looks at the next bytes.
func (c *oldCheck) feed(p []byte) {
	if !c.begun {
		if c.readWhole(p) {
			return
		}
		c.from = -1
	}
	c.piece = p
	for i := 0; i < len(p); i++ {
		switch {
		case !c.inString && c.depth > 1:
			i = c.nested(p, i)
		case !c.inString:
			c.token(p[i], i)
		case c.inKey:
			c.keyByte(p[i])
		default:
			i = c.skip(p, i)
		}
	}
	c.piece = nil
	if c.from >= 0 {
		c.keep(p[c.from:])
		c.from = 0
	}
}

// keep keeps what the piece has of a value of ours, which goes on in the next
// one. Of a value that is too long it keeps enough to tell, whatever white
// space follows.
func (c *oldCheck) keep(value []byte) {
	room := min(len(value), maxValue+1-len(c.before))
	c.before = append(c.before, value[:room]...)
	if more := bytes.TrimLeft(value[room:], whiteSpace); len(more) > 0 {
		c.before[maxValue] = more[0]
	}
}

// readWhole looks at a value that comes in one piece, as most do: that takes
// half the time. c has seen nothing but white space yet. It reports false, and
// has found nothing, if p is not all of an object.
func (c *oldCheck) readWhole(p []byte) bool {
	l := lookup{data: p}
	for more := l.open('{', '}'); more; more = l.more('}') {
		key, value := l.member()
		if len(key) == len(`""`)+maxKey && !l.bad {
			c.say(key[1:1+maxKey], value)
		}
	}
	if l.space(); l.bad || l.at < len(p) {
		*c = oldCheck{}
		return false
	}
	c.begun, c.object, c.done, c.from = true, true, true, -1
	return true
}

// oldFacts are what a member of the top level says.
type oldFacts struct {
	model         string
	input, output int64
}

// say takes what a member of the top level says.
func (c *oldCheck) say(key, value []byte) {
	switch string(key) {
	case "error":
		c.failed = c.failed || len(value) > 0 && (value[0] == '{' || value[0] == '"' && len(value) > 2)
	case "model":
		c.facts.model = oldName(value)
	case "usage":
		members(value, func(key, value []byte) {
			switch string(key) {
			case "prompt_tokens":
				c.facts.input, _ = Count(value)
			case "completion_tokens":
				c.facts.output, _ = Count(value)
			}
		})
	}
}

// ours reports whether the value that follows is looked at.
func (c *oldCheck) ours() bool {
	if c.inKey || c.keyLen != maxKey {
		return false
	}
	switch string(c.key[:]) {
	case "error", "model", "usage":
		return true
	}
	return false
}

// member takes what a member of the top level says, whose value ends before
// the i-th byte of the piece.
func (c *oldCheck) member(i int) {
	if c.from < 0 {
		return
	}
	value := c.piece[c.from:i]
	if len(c.before) > 0 {
		value = append(c.before, value...)
		c.before = c.before[:0]
	}
	c.from = -1
	if value = bytes.TrimRight(value, whiteSpace); len(value) > 0 {
		c.say(c.key[:], value)
	}
}

// skip follows a string that is no key from p[i], and returns the index of the
// last byte it has looked at. All but quotes and backslashes is passed over at
// the speed of IndexByte.
func (c *oldCheck) skip(p []byte, i int) int {
	quote := i - 1
	for i < len(p) {
		if c.escaped {
			c.escaped = false
			i++
			continue
		}
		if quote < i {
			if quote = bytes.IndexByte(p[i:], '"'); quote < 0 {
				quote = len(p)
			} else {
				quote += i
			}
		}
		if back := bytes.IndexByte(p[i:quote], '\\'); back >= 0 {
			c.escaped = true
			i += back + 1
			continue
		}
		if i = quote; i < len(p) {
			c.inString = false
			c.end()
			return i
		}
	}
	return i
}

// nested follows what lies below the top level from p[i], where only brackets
// and quotes matter, and returns the index of the last byte it has looked at.
func (c *oldCheck) nested(p []byte, i int) int {
	for ; i < len(p); i++ {
		switch p[i] {
		case '"':
			c.inString = true
			return i
		case '{', '[':
			c.depth++
		case '}', ']':
			if c.depth--; c.depth == 1 {
				return i
			}
		}
	}
	return i
}

// keyByte follows a key of the top level. One with an escape is none of ours.
func (c *oldCheck) keyByte(b byte) {
	switch {
	case c.escaped:
		c.escaped = false
	case b == '\\':
		c.escaped = true
		c.keyLen = maxKey + 1
	case b == '"':
		c.inString = false
	case c.keyLen < maxKey:
		c.key[c.keyLen] = b
		c.keyLen++
	default:
		c.keyLen = maxKey + 1
	}
}

// token looks at a byte outside of strings, which is the i-th of the piece.
func (c *oldCheck) token(b byte, i int) {
	if isSpace(b) {
		return
	}
	c.broken = c.broken || c.done
	if !c.begun {
		c.begun = true
		c.object, c.inKey = b == '{', b == '{'
		c.broken = b != '{' && b != '['
	}
	top := c.depth == 1 && c.object
	if top && c.from < 0 && b != ':' && c.ours() {
		c.from = i
	}
	switch {
	case b == '"':
		c.inString = true
		if top && c.inKey {
			c.keyLen = 0
		}
	case b == '{' || b == '[':
		c.depth++
	case b == '}' || b == ']':
		if top {
			c.member(i)
		}
		c.depth--
		c.broken = c.broken || c.depth < 0 || c.depth == 0 && c.object != (b == '}')
		c.end()
	case b == ':' && top:
		c.inKey = false
	case b == ',' && top:
		c.member(i)
		c.inKey = true
	}
}

func (c *oldCheck) end() { c.done = c.done || c.depth == 0 }

// whole reports whether what was seen is one object or array. A bare string,
// number or literal is never an answer of these APIs, and counts as broken.
func (c *oldCheck) whole() bool { return c.done && !c.broken }
