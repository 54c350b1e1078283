package openai

import (
	"bytes"
	"net/http"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A kind is what the bytes of a 2xx body are.
type kind int

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
	begin [maxBegin]byte // the first bytes, without white space before them
	n     int            // of those
}

// maxBegin is the number of bytes that the longest name of a field has that a
// stream can begin with, its colon included; nothing longer is needed.
const maxBegin = len("retry:")

var (
	byteOrderMark = []byte("\ufeff")
	eventFields   = [][]byte{[]byte(":"), []byte("data:"), []byte("event:"), []byte("id:"), []byte("retry:"), []byte("error:")}
)

// labelOf returns what the Content-Type says a body is, undecided if it says
// nothing that decides.
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
// them could decide.
func (s *sniffer) add(p []byte) kind {
	for _, b := range p {
		if s.n == maxBegin {
			break
		}
		if s.n > 0 || !isSpace(b) {
			s.begin[s.n] = b
			s.n++
		}
		if bytes.Equal(s.bytes(), byteOrderMark) {
			s.n = 0
		}
	}
	return s.decide()
}

func (s *sniffer) bytes() []byte { return s.begin[:s.n] }

// decide returns what the bytes that have come say.
func (s *sniffer) decide() kind {
	begin := s.bytes()
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
	if bytes.HasPrefix(byteOrderMark, begin) {
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
