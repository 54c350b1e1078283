package openai

import "github.com/retrip-go/retrip/internal/sse"

// A format knows what the answers to an endpoint's POSTs look like. An answer
// of an endpoint without one is plain HTTP, whatever its first bytes are.
type format struct {
	// judged says that every answer is one JSON value or a stream of the
	// events below, so that all else is no answer. Without it only what is
	// labelled as an event stream is read, for the errors in it.
	judged bool

	// tells says that an answer that failed is an object like any other, in
	// which clients expect to read that it failed, and that an error ends a
	// stream as it should end.
	tells bool

	// events returns a reader for one stream. Nil: nothing is known of its
	// events but their names.
	events func() eventReader
}

// isJudged reports whether all but an answer is a failure; a nil format judges
// nothing.
func (f *format) isJudged() bool { return f != nil && f.judged }

// valueFormat is that of endpoints whose answers are one JSON value each.
var valueFormat = &format{judged: true}

// mediaFormat is that of endpoints that answer with images, sound or text, and
// some of them with a stream of events.
var mediaFormat = &format{}

// An eventReader reads the events of one stream.
type eventReader interface {
	// event reads one event with data, which is trimmed and not empty. The
	// name may be empty.
	event(s *stream, name, data []byte) meaning

	// named reads an event by its name alone, for data too long to be parsed.
	named(name []byte) meaning
}

// A meaning is what one event says about its stream. A later one outweighs
// those before it.
type meaning int

const (
	opener   meaning = iota // the provider is there, nothing is generated: a role, a ping
	content                 // something is generated, or the event's shape is not known
	terminal                // the answer is complete, and nothing more is to come
	failed                  // the provider says that the answer failed
	corrupt                 // there is no JSON where only JSON can be
)

// A stream follows the events of one answer and knows whether it is complete.
type stream struct {
	scanner sse.Scanner
	reader  eventReader // nil: only the events' names are known

	facts facts
	known bool     // an event of the format's shape was seen
	done  bool     // a terminal event was seen
	blind bool     // an event was too long to be parsed, so it may have been any
	error apiError // of the event that failed

	// The choices of chat and completions, a bit each; higher ones share the last.
	open     uint64
	finished uint64
	single   bool // no more than one choice was asked for
}

// complete reports whether the answer is whole: nothing that may follow is
// missing from it.
func (s *stream) complete() bool {
	return s.done || s.finished != 0 && (s.open == 0 || s.single)
}

// cut reports whether a stream that ends now was cut off.
func (s *stream) cut() bool { return s.known && !s.blind && !s.complete() }

// next returns the meaning of the next complete event that the scanner has;
// ok is false if there is none.
func (s *stream) next() (m meaning, ok bool) {
	if !s.scanner.Next() {
		return opener, false
	}
	m = s.read()
	s.done = s.done || m == terminal
	return m, true
}

func (s *stream) read() meaning {
	name, data := s.scanner.Name(), trimSpace(s.scanner.Data())
	switch {
	case s.scanner.Oversize():
		return s.oversize(name)
	case string(name) == "error":
		s.error = readErrorBody(data)
		return failed
	case string(name) == "ping", len(data) == 0:
		return opener
	case s.reader == nil:
		return content
	}
	return s.reader.event(s, name, data)
}

// oversize judges an event that was too long to be parsed. If its name says
// nothing it may have been the last one, so nothing counts as cut after it.
func (s *stream) oversize(name []byte) meaning {
	m := content
	if s.reader != nil {
		m = s.reader.named(name)
	}
	s.blind = s.blind || m == content
	return m
}

// trimSpace cuts the white space of JSON off both ends.
func trimSpace(data []byte) []byte {
	for len(data) > 0 && isSpace(data[0]) {
		data = data[1:]
	}
	for len(data) > 0 && isSpace(data[len(data)-1]) {
		data = data[:len(data)-1]
	}
	return data
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
