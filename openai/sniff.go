package openai

import (
	"bytes"
	"net/http"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A kind is what the bytes of a 2xx body are. It decides how they are read, and what
// counts as their end.
type kind uint8

const (
	undecided kind = iota // too little has come to tell
	opaque                // compressed, audio, or nothing that can be judged
	jsonBody              // one JSON value
	eventBody             // server-sent events
	htmlBody              // a page, which is never an answer
)

// A sniffer decides what a body is. The first bytes decide where they can:
// gateways label streams as JSON and JSON as streams. Only if the bytes say
// nothing, the label does.
type sniffer struct {
	label kind
	begin [len(byteOrderMark) + maxBegin]byte // the first bytes, without white space before them
	n     uint8                               // of those
}

// maxBegin is the number of bytes that the longest name of a field has that a
// stream can begin with, its colon included; nothing longer is needed.
const maxBegin = len("retry:")

const byteOrderMark = "\ufeff"

// eventFields are what a stream of events begins with: the fields and the comment of
// the HTML standard (section 9.2.6), and the field error, which some gateways send.
var eventFields = [][]byte{[]byte(":"), []byte("data:"), []byte("event:"), []byte("id:"), []byte("retry:"), []byte("error:")}

// labelOf returns what the Content-Type says a body is, undecided if it says
// nothing that decides. text/plain is among those: servers without a label of their own
// send it with anything.
func labelOf(h http.Header) kind {
	switch roundtrip.MediaType(h) {
	case "application/json":
		return jsonBody
	case "text/event-stream":
		return eventBody
	case "text/html":
		return htmlBody
	}
	return undecided
}

// add looks at the next bytes of the body. It returns undecided while more of
// them could decide, and how many it has taken into begin or passed over. White space
// before the first byte is passed over without a bound: DeepSeek sends empty lines to keep
// a connection alive while a request waits for its turn.
func (s *sniffer) add(p []byte) (k kind, used int) {
	for _, b := range p {
		if int(s.n) == len(s.begin) {
			break
		}
		if len(s.text()) > 0 || !isSpace(b) {
			s.begin[s.n] = b
			s.n++
		}
		used++
		if k = s.decide(); k != undecided {
			return k, used
		}
	}
	return s.decide(), used
}

// bytes returns the bytes that were taken, for the reader of the format to begin with.
// White space before them is not among them, since it means nothing in any format.
func (s *sniffer) bytes() []byte { return s.begin[:s.n] }

// text returns the bytes that decide: those behind a byte order mark.
func (s *sniffer) text() []byte { return bytes.TrimPrefix(s.bytes(), []byte(byteOrderMark)) }

// decide returns what the bytes that have come say. It stays undecided while they are
// the beginning of a field's name, because a chunk may end within it.
func (s *sniffer) decide() kind {
	begin := s.text()
	if len(begin) == 0 {
		return undecided
	}
	switch begin[0] {
	case '{', '[':
		return jsonBody
	case '<':
		return htmlBody
	}
	for _, field := range eventFields {
		if bytes.HasPrefix(begin, field) {
			return eventBody
		}
		if bytes.HasPrefix(field, begin) {
			return undecided
		}
	}
	if bytes.HasPrefix([]byte(byteOrderMark), begin) {
		return undecided
	}
	return s.end()
}

// end says that no more bytes come, or that they cannot decide: the label does.
func (s *sniffer) end() kind {
	if s.label == undecided {
		return opaque
	}
	return s.label
}
