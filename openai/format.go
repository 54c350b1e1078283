package openai

import "github.com/retrip-go/retrip/internal/sse"

// A format knows what the answers to an endpoint's POSTs look like. An answer of an
// endpoint without one is plain HTTP, whatever its first bytes are: a transcription may
// well begin like JSON, and what can't be judged is passed on.
//
// A format is never changed, so all answers share it. A nil format judges nothing.
type format struct {
	// judged says that every answer is one JSON value or a stream of the events
	// below. All else is no answer then, and is retried. Without it only a body
	// that is labelled as an event stream is read, for the errors in it.
	judged bool

	// reportsFailure says that a failed answer is an object like any other, in which
	// clients expect to read that it failed. An error event ends such a stream in order.
	// The reader of one gets io.EOF: its client shows the failure itself.
	reportsFailure bool

	// resumes says that a stream that is cut can be taken up again by the numbers
	// of its events, if its response runs in the background.
	resumes bool

	// events returns a new reader for one stream, since readers keep state from one
	// event to the next. If it is nil, nothing is known of events but their names.
	events func() eventReader
}

// isJudged reports whether a body that is no answer is a failure. A nil format may ask.
func (f *format) isJudged() bool { return f != nil && f.judged }

// isResumable reports whether a stream may be resumed. A nil format may ask.
func (f *format) isResumable() bool { return f != nil && f.resumes }

// valueFormat is that of endpoints whose answers are one JSON value each, such as
// embeddings. It is judged, because a proxy may turn a dead upstream into an empty 200.
var valueFormat = &format{judged: true}

// mediaFormat is that of endpoints that answer with images, sound or text. Their bytes
// can't be judged. It exists because some of them stream events, and an error event
// there is a failed attempt as it is anywhere else.
var mediaFormat = &format{}

// An eventReader reads the events of one stream, in their order. It belongs to that
// stream and is not safe for concurrent use.
type eventReader interface {
	// event reads one event with data, which is trimmed and not empty. The
	// name may be empty.
	event(s *stream, name, data []byte) meaning

	// named reads an event by its name alone, for one that is too long to be
	// parsed. It returns content if the name decides nothing.
	named(name []byte) meaning
}

// A meaning is what one event says about its stream. The constants are in the order of
// their weight: of several values in one event, the weightiest decides.
type meaning int

const (
	opener   meaning = iota // the provider is at work but nothing is generated yet: a role, a ping
	content                 // something is generated, or the event has an unknown shape: the benefit of the doubt
	terminal                // the answer is complete, and no more of it is to come
	failed                  // the provider says that the answer failed
	corrupt                 // there is no JSON where only JSON can be
)

// A stream follows the events of one answer and knows whether the answer is complete.
// The answer that owns it guards it by its lock.
type stream struct {
	scanner sse.Scanner
	reader  eventReader // nil: only the events' names are known

	facts facts
	known bool     // an event of the format's shape was seen; without one, no end is missed
	done  bool     // a terminal event was seen
	blind bool     // an event was too long to be parsed, so it may have been the terminal one
	error apiError // in the last event that failed

	// The choices of chat and completions, a bit each. Indexes from 63 on share the
	// last bit, since calls do not ask for that many.
	open     uint64 // begun and not finished
	finished uint64 // have a finish_reason
	single   bool   // no more than one choice was asked for
}

// complete reports whether the answer is whole, so that a connection which ends now has
// cut nothing off. If one choice was asked for, any finished one is enough: TGI counts
// chunks in the index, so that its only choice seems to be many.
func (s *stream) complete() bool {
	return s.done || s.finished != 0 && (s.open == 0 || s.single)
}

// cut reports whether a stream that ends now was cut off. That can be said only of a
// stream whose shape is known and whose events have all been read.
func (s *stream) cut() bool { return s.known && !s.blind && !s.complete() }

// next returns the meaning of the next complete event that the scanner has. It returns
// false if the bytes so far hold no further one.
func (s *stream) next() (m meaning, ok bool) {
	if !s.scanner.Next() {
		return opener, false
	}
	m = s.read()
	s.done = s.done || m == terminal
	return m, true
}

// read returns the meaning of the event that the scanner stands at. What holds for the
// streams of all formats is decided here, before the reader of the format: an event
// named error or ping, and one without data.
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

// oversize judges an event that was too long to be parsed, such as one with an image in
// it. If its name does not decide it may have been the terminal one, so a stream that
// ends after it never counts as cut.
func (s *stream) oversize(name []byte) meaning {
	m := content
	if s.reader != nil {
		m = s.reader.named(name)
	}
	s.blind = s.blind || m == content
	return m
}

// trimSpace cuts the white space of JSON (RFC 8259, section 2) off both ends. Other
// space is no JSON and stays, for the reader to find.
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
