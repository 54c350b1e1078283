// Package json finds values in JSON in flight.
package json

import (
	"bytes"
	"encoding/json"
)

const (
	// MaxValue is the length in bytes that a Scanner reports of a value.
	MaxValue = 4 << 10
	// MaxKey is the length in bytes that a Scanner reports of a key.
	MaxKey = 128
	// MaxDepth is how many containers, one in the other, can be entered.
	MaxDepth = 16
)

// A Scanner finds the members of one JSON value that is fed to it piece by piece.
// It observes: it never alters what it is fed, and keeps nothing of it but a
// bounded part of a key and of a number or string that are not yet complete. The
// zero value is ready to use. It is not safe for concurrent use.
//
// It reads just enough JSON to find where values end. Within numbers, strings and
// literals anything goes, because providers send NaN and raw control characters.
// A container that is not entered is passed over: only the number of brackets in
// it counts, and that the last one is of the kind of the first.
type Scanner struct {
	fed  []byte // as handed to Feed
	at   int    // what Next has not looked at begins here in fed
	base int64  // bytes fed before fed

	state   state
	bom     uint8 // bytes of a byte order mark that have been passed over
	ended   bool  // nothing more comes
	escaped bool  // the piece before has ended in a backslash that escapes

	depth   int                // containers entered and not ended
	closers [MaxDepth + 1]byte // the brackets that end them; the outermost value has none
	closer  byte               // the bracket that ends the container reported last
	nested  int                // containers begun and not ended in that, with itself

	// What Next has reported, as it is written. The bytes lie in fed, or in the
	// buffers: there, enough is kept to see that it is too long.
	key, value       []byte
	keyBuf, valueBuf []byte
	offset           int64 // of value
}

// A state is what a Scanner expects.
type state uint8

const (
	// Between two tokens, where there may be white space.
	outermost   state = iota // the outermost value
	firstOfMany              // a member or element, or the end of the container entered
	oneMore                  // a member or element
	separator                // a comma, or the end of the container entered
	colon                    // the colon between a key and its value
	memberValue              // the value of a member

	// Within something, or at its end.
	inString
	inLiteral // or a number
	inKey
	reported      // a container has begun
	entering      // a container has begun, and Enter was called
	passing       // in a container that is passed over
	passingString // in a string of that
	whole
	malformed
)

// A Kind says what a value is. The zero Kind is that of none.
type Kind uint8

// The kinds of values.
const (
	Object Kind = iota + 1
	Array
	String
	Number
	Literal // true, false, null, or whatever stands in their place
)

// Feed hands the Scanner the next bytes. Call Next until it returns false before
// the next Feed; p is not kept after that.
func (s *Scanner) Feed(p []byte) {
	s.base += int64(len(s.fed))
	s.fed, s.at, s.value = p, 0, nil
	if !s.awaitsValue() {
		s.key = nil
	}
}

// End says that nothing more comes. Only an outermost number or literal needs it,
// which could go on. Call Next until it returns false, as after Feed.
func (s *Scanner) End() { s.ended = true }

// Next moves to the next member or element of the container that was entered
// last, and reports whether there is one in what was fed. When that container has
// ended, Next goes on with what follows it. It reports a number, string or
// literal once that is complete, and an object or array as soon as it begins.
func (s *Scanner) Next() bool {
	if s.state >= inString {
		if found := s.resume(); found || s.state >= inString {
			return found
		}
	}
	for c, ok := s.token(); ok; c, ok = s.token() {
		switch s.state {
		case outermost:
			switch {
			case s.isBOM(c):
			case s.bom%3 == 0 && beginsValue(c):
				return s.begin(c)
			default:
				return s.fail()
			}
		case firstOfMany:
			if c != s.closers[s.depth] {
				s.state = oneMore
			} else if s.leave() {
				return false
			}
		case separator:
			switch c {
			case ',':
				s.at++
				s.state = oneMore
			case s.closers[s.depth]:
				if s.leave() {
					return false
				}
			default:
				return s.fail()
			}
		case oneMore:
			switch {
			case s.closers[s.depth] == ']':
				s.key = nil
				return s.begin(c)
			case c != '"':
				return s.fail()
			case !s.beginKey():
				return false
			}
		case colon:
			if c != ':' {
				return s.fail()
			}
			s.at++
			s.state = memberValue
		case memberValue:
			return s.begin(c)
		}
	}
	s.holdKey()
	return false
}

// Key returns the key of a member, without its escapes; nil for an element of an
// array and for the outermost value. One that is longer than MaxKey as it is
// written is returned as written, and cut to that: it is none that anybody looks
// for. The bytes are valid until the next call of Next or Feed.
func (s *Scanner) Key() []byte {
	if len(s.key) == 0 {
		return nil
	}
	inner := s.key[1 : len(s.key)-1]
	switch {
	case len(inner) > MaxKey:
		return inner[:MaxKey]
	case bytes.IndexByte(inner, '\\') < 0:
		return inner
	}
	return []byte(Text(s.key))
}

// Value returns a number, string or literal as it is written, and the bracket
// that an object or array begins with. The bytes are valid until the next call of
// Next or Feed.
func (s *Scanner) Value() []byte { return s.value[:min(len(s.value), MaxValue)] }

// Cut reports whether Value lacks its end, because it is longer than MaxValue.
func (s *Scanner) Cut() bool { return len(s.value) > MaxValue }

// Offset returns where Value begins, counted from the first byte fed.
func (s *Scanner) Offset() int64 { return s.offset }

// Depth returns how many containers the value is in: 0 for the outermost one.
func (s *Scanner) Depth() int { return s.depth }

// Kind returns what the value is, by its first byte.
func (s *Scanner) Kind() Kind {
	if len(s.value) == 0 {
		return 0
	}
	switch c := s.value[0]; {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == '-', '0' <= c && c <= '9':
		return Number
	}
	return Literal
}

// Enter makes Next go on within the container that it has just reported. Without
// it, and in one too deep for MaxDepth, what is in the container is passed over.
func (s *Scanner) Enter() {
	if s.state == reported && s.depth < MaxDepth {
		s.state = entering
	}
}

// Whole reports whether the outermost value has ended as it should.
func (s *Scanner) Whole() bool { return s.state == whole }

// Malformed reports whether what was fed can't become a whole value, whatever
// follows.
func (s *Scanner) Malformed() bool { return s.state == malformed }

// Rest returns, of the bytes fed last, those behind the outermost value; nil
// before that has ended. They are valid until the next Feed.
func (s *Scanner) Rest() []byte {
	if s.state != whole {
		return nil
	}
	return s.fed[s.at:]
}

// token passes over white space, and returns what stands behind it; false if that
// was not fed yet.
func (s *Scanner) token() (byte, bool) {
	for s.at < len(s.fed) {
		c := s.fed[s.at]
		if !isSpace(c) {
			return c, true
		}
		s.at++
	}
	return 0, false
}

// isBOM passes over c if it is of a byte order mark, which RFC 8259, section 8.1,
// lets a reader ignore.
func (s *Scanner) isBOM(c byte) bool {
	const bom = "\ufeff"
	if int(s.bom) == len(bom) || c != bom[s.bom] {
		return false
	}
	s.at++
	s.bom++
	return true
}

// beginsValue reports whether a value of RFC 8259 begins with c. Of the outermost
// value more is asked than of others: the first word of a text or HTML page would
// pass for one.
func beginsValue(c byte) bool {
	return c == '{' || c == '[' || c == '"' || c == '-' || '0' <= c && c <= '9' || c == 't' || c == 'f' || c == 'n'
}

// begin reads the value that begins with c, and reports whether it is to be
// reported.
func (s *Scanner) begin(c byte) bool {
	start := s.at
	s.offset = s.base + int64(start)
	switch c {
	case '"':
		end, ok := EndOfString(s.fed, start)
		if !ok {
			return s.hold(start, inString)
		}
		return s.scalar(s.fed[start:end], end)
	case '{', '[':
		s.at++
		s.state, s.value, s.closer = reported, s.fed[start:s.at], c+2 // as in ASCII
		return true
	case ',', ':', '}', ']':
		return s.fail()
	}
	end, ok := s.endOfLiteral()
	if !ok {
		return s.hold(start, inLiteral)
	}
	return s.literal(s.fed[start:end], end)
}

// beginKey reads a key, and reports whether it is complete.
func (s *Scanner) beginKey() bool {
	start := s.at
	end, ok := EndOfString(s.fed, start)
	if !ok {
		s.keyBuf = keep(s.keyBuf[:0], s.fed[start:], maxRawKey)
		return s.unfinished(start+1, inKey)
	}
	s.key = s.fed[start:end]
	s.at, s.state = end, colon
	return true
}

// endOfLiteral returns where a number or literal ends; false if it may go on.
func (s *Scanner) endOfLiteral() (end int, ok bool) {
	end = endOfLiteral(s.fed, s.at)
	return end, end < len(s.fed) || s.ended && s.depth == 0
}

// literal takes a number or literal that ends at end. Of the outermost one it
// asks that it is one, and not the first word of a text.
func (s *Scanner) literal(value []byte, end int) bool {
	if s.depth == 0 && (len(value) > MaxValue || !json.Valid(value)) {
		return s.fail()
	}
	return s.scalar(value, end)
}

// scalar takes a number, string or literal that ends at end.
func (s *Scanner) scalar(value []byte, end int) bool {
	s.value, s.at = value, end
	s.over()
	return true
}

// over notes that a value has ended.
func (s *Scanner) over() {
	s.state = separator
	if s.depth == 0 {
		s.state = whole
	}
}

// leave passes over the bracket that ends the container entered last, and reports
// whether that was the outermost value.
func (s *Scanner) leave() bool {
	s.at++
	s.depth--
	s.over()
	return s.depth == 0
}

// fail notes that no whole value can come of this. It returns false, as there is
// nothing to report.
func (s *Scanner) fail() bool {
	s.state = malformed
	return false
}

// resume goes on with what the piece before has ended in, or behind what was
// reported. It reports whether that completes a value.
func (s *Scanner) resume() bool {
	start := s.at
	if start == len(s.fed) && !s.ended {
		return false
	}
	switch s.state {
	case inKey:
		ok := s.resumeString()
		s.keyBuf = keep(s.keyBuf, s.fed[start:s.at], maxRawKey)
		if ok {
			s.key, s.state = s.keyBuf, colon
		}
	case inString:
		ok := s.resumeString()
		s.valueBuf = keep(s.valueBuf, s.fed[start:s.at], maxRawValue)
		return ok && s.scalar(s.valueBuf, s.at)
	case inLiteral:
		end, ok := s.endOfLiteral()
		s.valueBuf = keep(s.valueBuf, s.fed[start:end], maxRawValue)
		s.at = end
		return ok && s.literal(s.valueBuf, end)
	case entering:
		s.depth++
		s.closers[s.depth] = s.closer
		s.state = firstOfMany
	case reported:
		s.nested = 1
		s.pass()
	case passingString:
		if s.resumeString() {
			s.pass()
		}
	case passing:
		s.pass()
	}
	return false
}

// resumeString passes over the rest of a string that has begun in a piece before,
// and reports whether it ends.
func (s *Scanner) resumeString() bool {
	from := s.at
	if s.escaped {
		from = min(from+1, len(s.fed))
	}
	end, ok := endOfAnyString(s.fed, from)
	if !ok {
		return s.unfinished(from, s.state)
	}
	s.at = end
	return true
}

// unfinished notes that the piece ends in something that goes on in the next one,
// and whose inside begins at from. It returns false, as there is nothing to report.
func (s *Scanner) unfinished(from int, in state) bool {
	s.escaped = endsInEscape(s.fed[from:])
	s.at, s.state = len(s.fed), in
	return false
}

// pass passes over the container that was reported and not entered, where only
// brackets and quotes matter.
func (s *Scanner) pass() {
	p, at, nested := s.fed, s.at, s.nested
	for at < len(p) {
		switch c := p[at]; {
		case c == '"':
			end, ok := EndOfString(p, at)
			if !ok {
				s.nested = nested
				s.unfinished(at+1, passingString)
				return
			}
			at = end
			continue
		case c < '[': // most of what stands outside of strings
		case c|' ' == '{': // the bit of ' ' tells '{' from '['
			nested++
		case c|' ' == '}':
			if nested--; nested == 0 {
				s.at = at + 1
				if s.over(); c != s.closer {
					s.fail()
				}
				return
			}
		}
		at++
	}
	s.at, s.nested, s.state = at, nested, passing
}

const (
	maxRawKey   = len(`""`) + MaxKey + 1
	maxRawValue = MaxValue + 1
)

// keep appends a piece to buf, as far as limit lets it.
func keep(buf, piece []byte, limit int) []byte {
	return append(buf, piece[:min(len(piece), limit-len(buf))]...)
}

// hold keeps what the piece has of a value that goes on in the next one, with its
// key.
func (s *Scanner) hold(start int, in state) bool {
	s.valueBuf = keep(s.valueBuf[:0], s.fed[start:], maxRawValue)
	s.unfinished(start+1, in)
	s.holdKey()
	return false
}

// awaitsValue reports whether a key was read whose value is not complete.
func (s *Scanner) awaitsValue() bool { return colon <= s.state && s.state <= inLiteral }

// holdKey moves such a key to where the next Feed leaves it alone.
func (s *Scanner) holdKey() {
	if s.awaitsValue() && s.key != nil {
		s.keyBuf = keep(s.keyBuf[:0], s.key, maxRawKey)
		s.key = s.keyBuf
	}
}
