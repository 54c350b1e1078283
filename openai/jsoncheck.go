package openai

import "bytes"

// A jsonCheck follows a JSON value piece by piece, as it passes. It finds out
// whether the value is whole, whether it is an object with an error at its top
// level, and the facts that stand there. The zero value is ready.
type jsonCheck struct {
	depth    int
	begun    bool // something other than white space was seen
	done     bool // the value has ended
	broken   bool // there is more, or it does not begin or end as it should
	inString bool
	escaped  bool
	failed   bool // the value of "error" says something
	factless bool // nobody is interested in the facts

	// The top level of an object: keys alternate with values.
	object bool
	inKey  bool
	keyLen uint8 // above maxKey for a key that is none of ours
	key    [maxKey]byte
	piece  []byte // that feed looks at
	from   int    // where the value of ours begins in it; -1 if none has begun
	before []byte // of that value, from earlier pieces
	facts  facts
}

const (
	maxKey   = 5       // of "error", "model" and "usage"
	maxValue = 4 << 10 // what is looked at of their values

	whiteSpace = " \t\r\n"
)

// feed looks at the next bytes.
func (c *jsonCheck) feed(p []byte) {
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
func (c *jsonCheck) keep(value []byte) {
	room := min(len(value), maxValue+1-len(c.before))
	c.before = append(c.before, value[:room]...)
	if more := bytes.TrimLeft(value[room:], whiteSpace); len(more) > 0 {
		c.before[maxValue] = more[0]
	}
}

// readWhole looks at a value that comes in one piece, as most do: that takes
// half the time. c has seen nothing but white space yet. It reports false, and
// has found nothing, if p is not all of an object.
func (c *jsonCheck) readWhole(p []byte) bool {
	l := lookup{data: p}
	for more := l.open('{', '}'); more; more = l.more('}') {
		key, value := l.member()
		if len(key) == len(`""`)+maxKey && !l.bad {
			c.say(key[1:1+maxKey], value)
		}
	}
	if l.space(); l.bad || l.at < len(p) {
		*c = jsonCheck{factless: c.factless}
		return false
	}
	c.begun, c.object, c.done, c.from = true, true, true, -1
	return true
}

// say takes what a member of the top level says.
func (c *jsonCheck) say(key, value []byte) {
	switch string(key) {
	case "error":
		c.failed = c.failed || isError(value)
	case "model", "usage":
		if !c.factless && len(value) <= maxValue {
			c.facts.member(key, value)
		}
	}
}

// endsIn feeds the bytes added, and reports whether nothing that follows them
// is of interest: the value has ended, or can't be one.
func (c *jsonCheck) endsIn(added []byte) bool {
	c.feed(added)
	return c.done || c.broken
}

// skip follows a string that is no key from p[i], and returns the index of the
// last byte it has looked at. All but quotes and backslashes is passed over at
// the speed of IndexByte.
func (c *jsonCheck) skip(p []byte, i int) int {
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
func (c *jsonCheck) nested(p []byte, i int) int {
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
func (c *jsonCheck) keyByte(b byte) {
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
func (c *jsonCheck) token(b byte, i int) {
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

// ours reports whether the value that follows is looked at.
func (c *jsonCheck) ours() bool {
	if c.inKey || c.keyLen != maxKey {
		return false
	}
	switch string(c.key[:]) {
	case "error":
		return true
	case "model", "usage":
		return !c.factless
	}
	return false
}

// member takes what a member of the top level says, whose value ends before
// the i-th byte of the piece.
func (c *jsonCheck) member(i int) {
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

func (c *jsonCheck) end() { c.done = c.done || c.depth == 0 }

// whole reports whether what was seen is one object or array. A bare string,
// number or literal is never an answer of these APIs, and counts as broken.
func (c *jsonCheck) whole() bool { return c.done && !c.broken }
