package openai

// A jsonCheck follows a JSON value piece by piece, as it passes. It finds out
// whether the value is whole, and whether it is an object with an error at its
// top level; nothing else. The zero value is ready.
type jsonCheck struct {
	depth    int
	begun    bool // something other than white space was seen
	done     bool // the value has ended
	broken   bool // there is more, or it does not begin or end as it should
	inString bool
	escaped  bool

	// The top level of an object: keys alternate with values.
	object   bool
	inKey    bool
	key      [len(errorKey)]byte
	keyLen   int
	afterKey bool // the value of the key "error" comes next
	failed   bool // that value is an object or a string
}

const errorKey = "error"

// feed looks at the next bytes.
func (c *jsonCheck) feed(p []byte) {
	for i := 0; i < len(p); i++ {
		if c.inString {
			i = c.str(p, i)
			continue
		}
		c.token(p[i])
	}
}

// str follows a string from p[i], and returns the index it has looked at.
func (c *jsonCheck) str(p []byte, i int) int {
	if !c.inKey && !c.escaped {
		for p[i] != '"' && p[i] != '\\' {
			if i++; i == len(p) {
				return i
			}
		}
	}
	switch b := p[i]; {
	case c.escaped:
		c.escaped = false
		c.keyLen = len(c.key) + 1 // an escaped key is not taken for ours
	case b == '\\':
		c.escaped = true
	case b == '"':
		c.inString = false
		if c.inKey {
			c.afterKey = c.keyLen == len(c.key) && string(c.key[:]) == errorKey
		}
		c.end()
	case c.inKey:
		if c.keyLen < len(c.key) {
			c.key[c.keyLen] = b
		}
		c.keyLen = min(c.keyLen+1, len(c.key)+1)
	}
	return i
}

// token looks at a byte outside of strings.
func (c *jsonCheck) token(b byte) {
	switch b {
	case ' ', '\t', '\r', '\n':
		return
	}
	c.broken = c.broken || c.done
	switch b {
	case '{', '[':
		if !c.begun {
			c.object, c.inKey = b == '{', b == '{'
		}
		c.value(b == '{')
		c.depth++
	case '}', ']':
		c.depth--
		c.broken = c.broken || c.depth < 0
		c.end()
	case '"':
		c.inString, c.keyLen = true, 0
		if c.depth != 1 || !c.object || !c.inKey {
			c.value(true)
		}
	case ':':
		if c.depth == 1 {
			c.inKey = false
		}
	case ',':
		if c.depth == 1 {
			c.inKey, c.afterKey = c.object, false
		}
	default:
		c.value(false)
	}
	c.begun = true
}

// value notes that a value begins; a failure is one that says something.
func (c *jsonCheck) value(says bool) {
	if c.depth == 1 && c.afterKey && !c.inKey {
		c.failed = c.failed || says
		c.afterKey = false
	}
}

// end notes the end of a string, object or array.
func (c *jsonCheck) end() {
	if c.depth == 0 {
		c.done = true
	}
}

// whole reports whether what was seen is one value. A bare number or literal
// is never an answer of these APIs, and counts as broken.
func (c *jsonCheck) whole() bool { return c.done && !c.broken }
