// Package json finds values in JSON in flight: in payloads of megabytes of which
// two members are wanted, and in answers that come in pieces. encoding/json wants
// all of a value at once, and allocates for what is not asked for.
package json

import (
	"bytes"
	"encoding/json"
)

// Bounds of what a Scanner reports, and so of what it keeps.
const (
	MaxValue = 4 << 10 // length in bytes of what a Scanner reports of a value
	MaxKey   = 128     // length in bytes of what it reports of a key
	MaxDepth = 16      // containers that can be entered, one in the other
)

// A Scanner finds the members of one JSON value that is fed to it piece by piece.
// It observes: it never alters what it is fed, and keeps nothing of it but a
// bounded part of a key and of a number or string that are not yet complete. The
// zero value is ready to use. It is not safe for concurrent use.
//
// It reads just enough JSON to find where values end. Within numbers, strings and
// literals anything goes, because providers send NaN and raw control characters.
// A container that is not entered is passed over: there, brackets are only counted,
// but the last one has to be of the kind of the first.
//
//	var s json.Scanner
//	s.Feed(payload)
//	for s.Next() {
//		switch {
//		case s.Depth() == 0:
//			s.Enter()
//		case string(s.Key()) == "model":
//			model = json.Text(s.Value())
//		}
//	}
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
// the next Feed or Forget; p must stay as it is until then, and is not kept after
// that.
func (s *Scanner) Feed(p []byte) {
	s.Forget()
	s.fed = p
}

// Forget lets go of the bytes fed last, once Next has returned false: they may be
// a part of something large. Then Value and Rest have nothing.
func (s *Scanner) Forget() {
	s.base += int64(len(s.fed))
	s.fed, s.at, s.value = nil, 0, nil
	if !s.awaitsValue() {
		s.key = nil
	}
}

// End says that nothing more comes. Only an outermost number or literal needs it,
// which could go on otherwise. Call Next until it returns false, as after Feed.
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
	// A member is read in one go, from case to case, which is why they fall through.
	// Where the piece ends in a member, the state says what is expected of the next
	// piece.
	p, at := s.fed, afterSpace(s.fed, s.at)
	for ; at < len(p); at = afterSpace(p, at) {
		c := p[at]
		switch s.state {
		case outermost:
			if s.isBOM(c) {
				at++
				continue
			}
			if s.bom%3 != 0 || !beginsValue(c) {
				return s.fail()
			}
			return s.begin(c, at)
		case firstOfMany, separator:
			if c == s.closers[s.depth] {
				at++
				if s.leave(at) {
					return false
				}
				continue
			}
			if s.state == separator {
				if c != ',' {
					return s.fail()
				}
				s.state = oneMore
				if at = afterSpace(p, at+1); at == len(p) {
					continue
				}
				c = p[at]
			}
			fallthrough
		case oneMore:
			if s.closers[s.depth] == ']' {
				s.key = nil
				return s.begin(c, at)
			}
			if c != '"' {
				return s.fail()
			}
			end, ok := EndOfString(p, at)
			if !ok {
				s.keyBuf = keep(s.keyBuf[:0], p[at:], maxRawKey)
				return s.unfinished(at+1, inKey)
			}
			s.key = p[at:end]
			s.state = colon
			if at = afterSpace(p, end); at == len(p) {
				continue
			}
			c = p[at]
			fallthrough
		case colon:
			if c != ':' {
				return s.fail()
			}
			s.state = memberValue
			if at = afterSpace(p, at+1); at == len(p) {
				continue
			}
			c = p[at]
			fallthrough
		case memberValue:
			return s.begin(c, at)
		}
	}
	s.at = at
	s.holdKey()
	return false
}

// Key returns the key of a member, without its escapes; nil for an element of an
// array and for the outermost value. One that is longer than MaxKey as it is
// written is returned as written, and cut to that: it is none that a caller looks
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
	// What is no UTF-8 grows when it is replaced.
	text := Text(s.key)
	return []byte(text[:min(len(text), MaxKey)])
}

// Value returns a number, string or literal as it is written, cut to MaxValue; of
// an object or array, the bracket that it begins with. The bytes are valid until
// the next call of Next or Feed.
func (s *Scanner) Value() []byte { return s.value[:min(len(s.value), MaxValue)] }

// Cut reports whether Value lacks its end, because it is longer than MaxValue.
func (s *Scanner) Cut() bool { return len(s.value) > MaxValue }

// Offset returns where Value begins, counted from the first byte fed.
func (s *Scanner) Offset() int64 { return s.offset }

// Depth returns how many containers the value is in: 0 for the outermost one.
func (s *Scanner) Depth() int {
	if s.state == firstOfMany {
		return s.depth - 1 // Enter is ahead of Next
	}
	return s.depth
}

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
		s.depth++
		s.closers[s.depth] = s.closer
		s.state = firstOfMany
	}
}

// Whole reports whether the outermost value has ended as it should.
func (s *Scanner) Whole() bool { return s.state == whole }

// Malformed reports whether what was fed can't become a whole value, whatever
// follows.
func (s *Scanner) Malformed() bool { return s.state == malformed }

// Rest returns, of the bytes fed last, those behind the outermost value, be they
// what they may; nil before that has ended. They are valid until the next Feed.
func (s *Scanner) Rest() []byte {
	if s.state != whole {
		return nil
	}
	return s.fed[s.at:]
}

// isBOM passes over c if it is of a byte order mark, which RFC 8259, section 8.1,
// lets a reader ignore. The mark may come in pieces like everything else.
func (s *Scanner) isBOM(c byte) bool {
	const bom = "\ufeff"
	if int(s.bom) == len(bom) || c != bom[s.bom] {
		return false
	}
	s.bom++
	return true
}

// beginsValue reports whether a value of RFC 8259 begins with c. Of the outermost
// value more is asked than of others: the first word of a text or HTML page would
// pass for one.
func beginsValue(c byte) bool {
	return c == '{' || c == '[' || c == '"' || c == '-' || '0' <= c && c <= '9' || c == 't' || c == 'f' || c == 'n'
}

// begin reads the value that begins with c at start, and reports whether Next has
// something to report.
func (s *Scanner) begin(c byte, start int) bool {
	s.at = start
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

// over notes that a value has ended. What may follow it depends on where it stands.
func (s *Scanner) over() {
	s.state = separator
	if s.depth == 0 {
		s.state = whole
	}
}

// leave notes that the container entered last has ended before at, and reports
// whether that was the outermost value.
func (s *Scanner) leave(at int) bool {
	s.at = at
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

// pass passes over the container that was reported and not entered, where only
// brackets and quotes matter. It keeps nothing of it. Nearly all bytes of a payload or an
// answer are passed over, so this loop is what the speed of a scan depends on.
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
		case c|' ' == '{': // '[' and '{' differ in the bit of ' ' alone
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
