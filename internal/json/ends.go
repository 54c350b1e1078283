package json

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// isSpace reports whether c is white space of JSON (RFC 8259, section 2). Most bytes are
// above it, so that one comparison settles them.
func isSpace(c byte) bool { return c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t') }

// afterSpace returns where in data, from at on, something stands.
func afterSpace(data []byte, at int) int {
	for at < len(data) && isSpace(data[at]) {
		at++
	}
	return at
}

// endOfLiteral returns where the number, true, false or null ends that is at
// start; the end of data if it may go on. It stops at whatever can't be a part of one,
// and leaves it to the Scanner whether that may follow.
func endOfLiteral(data []byte, start int) int {
	for at := start; at < len(data); at++ {
		switch data[at] {
		case ',', '}', ']', ':', ' ', '\t', '\r', '\n', '"', '{', '[':
			return at
		}
	}
	return len(data)
}

// Strings of up to shortString bytes are searched by words, without a loop: keys, roles
// and tokens are mostly that short.
const (
	word        = 8 // bytes
	shortString = 2 * word
)

// EndOfString returns where the JSON string ends whose quote is at start; false
// and the end of data if it does not. The first quote ends it, unless a backslash
// stands before that: then they have to be counted. Most strings are too short to
// pay for a call of IndexByte.
func EndOfString(data []byte, start int) (end int, ok bool) {
	if rest := data[start+1:]; len(rest) >= shortString {
		n := firstQuote(binary.LittleEndian.Uint64(rest))
		if n == word {
			n += firstQuote(binary.LittleEndian.Uint64(rest[word:]))
		}
		if n < shortString && data[start+n] != '\\' {
			return start + n + 2, true
		}
	}
	return endOfAnyString(data, start+1)
}

// firstQuote returns how many of a word's bytes stand before a quote; 8 if there
// is none. Subtracting 1 from each byte borrows from the highest bit of the first
// that is 0.
func firstQuote(w uint64) int {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	w ^= '"' * ones
	return bits.TrailingZeros64((w-ones)&^w&highest) / 8
}

// endOfAnyString is EndOfString for strings that may be long or have escapes, and
// for the rest of one that begins at first.
func endOfAnyString(data []byte, first int) (end int, ok bool) {
	for from := first; ; {
		i := bytes.IndexByte(data[from:], '"')
		if i < 0 {
			return len(data), false
		}
		from += i + 1
		if !endsInEscape(data[first : from-1]) {
			return from, true
		}
	}
}

// endsInEscape reports whether the inside of a string ends in a backslash that
// escapes what follows: the last of an odd number.
func endsInEscape(inside []byte) bool {
	escapes := 0
	for i := len(inside) - 1; i >= 0 && inside[i] == '\\'; i-- {
		escapes++
	}
	return escapes%2 == 1
}
