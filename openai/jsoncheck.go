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
	facts    facts

	// The top level of an object: keys alternate with values.
	object bool
	inKey  bool
	key    [maxKey]byte
	keyLen int    // above maxKey for a key that is none of ours
	value  []byte // of a key that is, without white space outside of strings
	room   [256]byte
}

const (
	maxKey   = 5       // of "error", "model" and "usage"
	maxValue = 4 << 10 // what is looked at of their values
)

// feed looks at the next bytes.
func (c *jsonCheck) feed(p []byte) {
	for i := 0; i < len(p); i++ {
		switch {
		case !c.inString:
			c.token(p[i])
		case c.inKey:
			c.keyByte(p[i])
		default:
			i = c.skip(p, i)
		}
	}
}

// skip follows a string that is no key from p[i], and returns the index of the
// last byte it has looked at. All but quotes and backslashes is passed over at
// the speed of IndexByte.
func (c *jsonCheck) skip(p []byte, i int) int {
	from, quote := i, i-1
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
			c.keep(p[from : i+1]...)
			c.end()
			return i
		}
	}
	c.keep(p[from:]...)
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
		c.value = c.value[:0]
	case c.keyLen < maxKey:
		c.key[c.keyLen] = b
		c.keyLen++
	default:
		c.keyLen = maxKey + 1
	}
}

// token looks at a byte outside of strings.
func (c *jsonCheck) token(b byte) {
	switch b {
	case ' ', '\t', '\r', '\n':
		return
	}
	c.broken = c.broken || c.done
	if !c.begun {
		c.begun = true
		c.value = c.room[:0]
		c.object, c.inKey = b == '{', b == '{'
		c.broken = b != '{' && b != '['
	}
	top := c.depth == 1 && c.object
	switch {
	case b == '"':
		c.inString = true
		if top && c.inKey {
			c.keyLen = 0
			return
		}
	case b == '{' || b == '[':
		c.depth++
		if c.depth == 1 {
			return
		}
	case b == '}' || b == ']':
		if top {
			c.member()
		}
		c.depth--
		c.broken = c.broken || c.depth < 0 || c.depth == 0 && c.object != (b == '}')
		c.keep(b)
		c.end()
		return
	case b == ':' && top && c.inKey:
		c.inKey = false
		return
	case b == ',' && top:
		c.member()
		c.inKey = true
		return
	}
	c.keep(b)
}

// ours reports whether the value that follows is looked at.
func (c *jsonCheck) ours() bool {
	if !c.object || c.inKey || c.keyLen != maxKey {
		return false
	}
	switch string(c.key[:]) {
	case "error", "model", "usage":
		return true
	}
	return false
}

func (c *jsonCheck) keep(p ...byte) {
	switch {
	case c.depth == 0 || !c.ours():
	case len(c.value)+len(p) <= maxValue:
		c.value = append(c.value, p...)
	default:
		// Half a value tells nothing, but that it is an error.
		c.failed = c.failed || string(c.key[:]) == "error" && (c.value[0] == '{' || c.value[0] == '"')
		c.value = c.value[:0]
		c.keyLen = maxKey + 1
	}
}

// member takes what a member of the top level says.
func (c *jsonCheck) member() {
	if !c.ours() || len(c.value) == 0 {
		return
	}
	if string(c.key[:]) == "error" {
		c.failed = c.failed || isError(c.value)
	} else {
		c.facts.member(string(c.key[:]), c.value)
	}
	c.value = c.value[:0]
}

func (c *jsonCheck) end() { c.done = c.done || c.depth == 0 }

// whole reports whether what was seen is one object or array. A bare string,
// number or literal is never an answer of these APIs, and counts as broken.
func (c *jsonCheck) whole() bool { return c.done && !c.broken }
