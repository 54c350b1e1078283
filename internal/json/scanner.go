// Package json finds values in JSON in flight.
package json

import "encoding/json"

const (
	// MaxValue is the length in bytes that a Scanner keeps of a number or string
	// that comes in several pieces.
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
	cut     bool  // value lacks its end

	depth   int                // containers entered and not ended
	closers [MaxDepth + 1]byte // the brackets that end them; the outermost value has none
	nested  int                // containers begun and not ended in that passed over, with itself
	closer  byte               // the bracket that ends the container reported last

	// What Next has reported. The bytes lie in fed, or in the two buffers.
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
	colon                    // the colon between a key and its value
	memberValue              // the value of a member
	separator                // a comma, or the end of the container entered

	// Within something, or at its end.
	inKey
	inString
	inLiteral
	reported // a container has begun
	entering // a container has begun, and Enter was called
	passing  // in a container that is passed over
	passingString
	whole
	malformed
)

// A Kind says what a value is.
type Kind uint8

// The zero Kind is none: Next has not reported a value yet.
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
	switch s.state {
	case colon, memberValue, inString, inLiteral: // the key is held
	default:
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
	if s.state >= inKey {
		if found := s.resume(); found || s.state >= inKey {
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
		case oneMore:
			if s.closers[s.depth] == ']' {
				s.key = nil
				return s.begin(c)
			}
			if c != '"' {
				return s.fail()
			}
			if !s.beginKey() {
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
		}
	}
	if s.state == colon || s.state == memberValue {
		s.holdKey()
	}
	return false
}

// Key returns the key of a member, without its escapes and cut to MaxKey; nil for
// an element of an array and for the outermost value. The bytes are valid until
// the next call of Next or Feed.
func (s *Scanner) Key() []byte { return s.key }

// Value returns a number, string or literal as it is written, and the bracket
// that an object or array begins with. The bytes are valid until the next call of
// Next or Feed.
func (s *Scanner) Value() []byte { return s.value }

// Cut reports whether Value lacks its end: it came in several pieces, and is
// longer than MaxValue.
func (s *Scanner) Cut() bool { return s.cut }

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

// begin reads the value that begins with c, and reports whether it is to be
// reported.
func (s *Scanner) begin(c byte) bool {
	s.cut = false
	start := s.at
	s.offset = s.base + int64(start)
	switch c {
	case '"':
		end, ok := EndOfString(s.fed, start)
		if ok {
			return s.scalar(start, end)
		}
		s.hold(start, inString)
		s.escaped = endsInEscape(s.fed[start+1:])
		return false
	case '{', '[':
		s.at++
		s.state, s.value, s.closer = reported, s.fed[start:s.at], c+2 // as in ASCII
		return true
	case ',', ':', '}', ']':
		return s.fail()
	}
	return s.literal(start)
}

// beginsValue reports whether a value of RFC 8259 begins with c. Of the outermost
// value more is asked than of others: the first word of a text or HTML page would
// pass for one.
func beginsValue(c byte) bool {
	return c == '{' || c == '[' || c == '"' || c == '-' || '0' <= c && c <= '9' || c == 't' || c == 'f' || c == 'n'
}

// literal reads on in a number or literal from start.
func (s *Scanner) literal(start int) bool {
	end := endOfLiteral(s.fed, start)
	if end == len(s.fed) && (!s.ended || s.depth > 0) {
		s.hold(start, inLiteral)
		return s.depth == 0 && s.cut && s.fail()
	}
	s.scalar(start, end)
	if s.depth == 0 && (len(s.value) > MaxValue || s.cut || !json.Valid(s.value)) {
		return s.fail()
	}
	return true
}

// scalar takes a number, string or literal that ends at end. What the piece has
// of it begins at start.
func (s *Scanner) scalar(start, end int) bool {
	s.value = s.fed[start:end]
	if s.state == inString || s.state == inLiteral {
		s.keep(s.value)
		s.value = s.valueBuf
	}
	s.at = end
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

// beginKey reads a key, and reports whether it is complete.
func (s *Scanner) beginKey() bool {
	start := s.at + 1
	end, ok := EndOfString(s.fed, s.at)
	if !ok {
		s.keyBuf = s.keyBuf[:0]
		s.keepKey(s.fed[start:])
		s.escaped = endsInEscape(s.fed[start:])
		s.at, s.state = end, inKey
		return false
	}
	s.key = s.unescaped(s.fed[start : end-1])
	s.at, s.state = end, colon
	return true
}

// resume goes on with what the piece before has ended in, or behind what was
// reported. It reports whether that completes a value.
func (s *Scanner) resume() bool {
	switch s.state {
	case inKey:
		start := s.at
		end, ok := s.endOfSplit()
		if !ok {
			s.keepKey(s.fed[start:end])
			return false
		}
		s.keepKey(s.fed[start : end-1])
		s.key = s.unescaped(s.keyBuf)
		s.state = colon
	case inString:
		start := s.at
		end, ok := s.endOfSplit()
		if !ok {
			s.hold(start, inString)
			return false
		}
		return s.scalar(start, end)
	case inLiteral:
		return s.literal(s.at)
	case entering:
		s.depth++
		s.closers[s.depth] = s.closer
		s.state = firstOfMany
	case reported:
		s.nested = 1
		s.pass()
	case passingString:
		if _, ok := s.endOfSplit(); !ok {
			return false
		}
		s.pass()
	case passing:
		s.pass()
	}
	return false
}

// endOfSplit passes over the rest of a string that has begun in a piece before,
// and returns where it ends; false and the end of fed if it does not.
func (s *Scanner) endOfSplit() (end int, ok bool) {
	from := s.at
	if s.escaped && from < len(s.fed) {
		from++
		s.escaped = false
	}
	if s.at, ok = endOfAnyString(s.fed, from); !ok && from < len(s.fed) {
		s.escaped = endsInEscape(s.fed[from:])
	}
	return s.at, ok
}

// pass passes over the container that was reported and not entered, where only
// brackets and quotes matter.
func (s *Scanner) pass() {
	s.state = passing
	p, at, nested := s.fed, s.at, s.nested
	for at < len(p) {
		switch c := p[at]; {
		case c == '"':
			end, ok := EndOfString(p, at)
			if !ok {
				s.escaped = endsInEscape(p[at+1:])
				s.at, s.nested, s.state = end, nested, passingString
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
	s.at, s.nested = at, nested
}

// hold keeps what the piece has of a number or string that goes on in the next
// one, with its key.
func (s *Scanner) hold(start int, in state) {
	if s.state != in {
		s.valueBuf = s.valueBuf[:0]
		s.holdKey()
	}
	s.keep(s.fed[start:])
	s.at, s.state = len(s.fed), in
}

func (s *Scanner) keep(piece []byte) {
	if room := MaxValue - len(s.valueBuf); len(piece) > room {
		piece, s.cut = piece[:room], true
	}
	s.valueBuf = append(s.valueBuf, piece...)
}

// holdKey moves the key of a value to come to where the next Feed leaves it
// alone.
func (s *Scanner) holdKey() {
	if s.key != nil {
		s.keyBuf = append(s.keyBuf[:0], s.key...)
		s.key = s.keyBuf
	}
}

// maxRawKey is how long a key of MaxKey bytes is at most when all of it is
// escaped, and one escape more.
const maxRawKey = 6*MaxKey + 12

func (s *Scanner) keepKey(piece []byte) {
	s.keyBuf = append(s.keyBuf, piece[:min(len(piece), maxRawKey-len(s.keyBuf))]...)
}
