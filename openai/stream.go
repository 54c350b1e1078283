package openai

import (
	"bytes"
	"time"

	"github.com/retrip-go/retrip/internal/sse"
)

// A meaning is what one event of a stream says about the whole.
type meaning int

const (
	opener   meaning = iota // the server is there, nothing is generated: a role, a ping
	content                 // something generated, or a shape that is not known
	terminal                // the answer is complete
	failed                  // the provider says that it failed
	corrupt                 // no JSON where only JSON can be
)

// A stream follows the events of a text/event-stream and knows whether the
// answer in it is complete.
type stream struct {
	scanner sse.Scanner
	shape   shape

	facts    facts
	first    time.Time // when the first useful event was seen
	known    bool      // an event of the endpoint's shape was seen
	done     bool      // a terminal event was seen
	open     uint64    // choices begun and not finished, a bit each; higher ones share the last
	finished uint64    // choices finished

	// An event that fits this one brings something, and changes nothing.
	last template
}

// A shape is what an endpoint's events look like.
type shape int

const (
	unknownShape   shape = iota
	choicesShape         // chat and completions: objects with choices, then [DONE]
	responsesShape       // responses: objects with a type
)

func shapeOf(endpoint string) shape {
	switch endpoint {
	case "chat", "completions":
		return choicesShape
	case "responses":
		return responsesShape
	}
	return unknownShape
}

// complete reports whether the answer is whole: nothing that follows can be
// missing from it.
func (s *stream) complete() bool {
	return s.done || s.finished != 0 && s.open == 0
}

// cut reports whether a stream that ends now was cut off.
func (s *stream) cut() bool { return s.known && !s.complete() }

// feed hands on the next bytes. Then next returns event by event.
func (s *stream) feed(p []byte) { s.scanner.Feed(p) }

// next returns the meaning of the next complete event; false if there is none.
func (s *stream) next() (meaning, bool) {
	if !s.scanner.Next() {
		return opener, false
	}
	if s.scanner.Oversize() {
		return content, true
	}
	m := s.read(s.scanner.Name(), s.scanner.Data())
	if m == terminal {
		s.done = true
	}
	return m, true
}

// data returns the data of the event that next has told of.
func (s *stream) data() []byte { return s.scanner.Data() }

func (s *stream) read(name, data []byte) meaning {
	data = bytes.TrimSpace(data)
	switch {
	case string(name) == "error":
		return failed
	case string(name) == "ping", len(data) == 0:
		return opener
	case s.shape == unknownShape:
		return content
	case string(data) == "[DONE]":
		return terminal
	case data[0] != '{':
		return content
	case s.shape == responsesShape:
		return s.readResponse(data)
	default:
		return s.readChunk(data)
	}
}

// readChunk reads an event of chat or completions.
func (s *stream) readChunk(data []byte) meaning {
	if s.last.fits(data) {
		return content
	}
	s.last.begin()
	m, recognised := opener, false
	open, finished := s.open, s.finished
	l := lookup{data: data}
	for more := l.open('{', '}'); more; more = l.more('}') {
		switch string(l.key()) {
		case "error":
			if isError(l.value()) {
				m, recognised = failed, true
			}
		case "choices":
			recognised = true
			if of := s.readChoices(&l); m != failed {
				m = of
			}
		case "usage":
			value := l.value()
			if recognised = true; !l.bad {
				s.facts.usage.read(value)
			}
		case "model":
			if value := l.value(); !l.bad && s.facts.model == "" {
				s.facts.model = modelName(value)
			}
		default:
			value := l.value()
			if recognised {
				s.last.leave(&l, value) // as the padding of OpenAI's events
			}
		}
	}
	if m == content && !l.bad {
		s.last.end(data)
	} else {
		s.last.begin()
	}
	if l.bad || m == failed {
		// OpenRouter ends the choice beside the error: that completes nothing.
		s.open, s.finished = open, finished
	}
	switch {
	case l.bad:
		return corrupt
	case !recognised:
		return content
	}
	s.known = true
	return m
}

// readChoices reads which choices go on or end, and whether any brings
// something.
func (s *stream) readChoices(l *lookup) meaning {
	if !l.is('[') {
		l.value()
		return opener
	}
	m := opener
	for more := l.open('[', ']'); more; more = l.more(']') {
		if s.readChoice(l) {
			m = content
		}
	}
	return m
}

// readChoice reads one choice, and reports whether it brings something: its
// end, too, does.
func (s *stream) readChoice(l *lookup) bool {
	bit, brings, ends := uint64(1), false, false
	if !l.is('{') {
		l.value()
	} else {
		for more := l.open('{', '}'); more; more = l.more('}') {
			switch string(l.key()) {
			case "index":
				bit = choiceBit(l.value())
			case "finish_reason":
				ends = !isNull(l.value())
			case "delta":
				brings = s.readDelta(l) || brings
			case "text":
				value := l.value()
				s.last.leave(l, value)
				brings = !isEmpty(value) || brings
			default:
				l.value()
			}
		}
	}
	switch {
	case l.bad:
	case ends:
		s.open &^= bit
		s.finished |= bit
	case s.finished&bit == 0:
		s.open |= bit
	}
	return brings || ends
}

// choiceBit returns the bit of a choice's index.
func choiceBit(index []byte) uint64 {
	n := 0
	for _, c := range index {
		if c < '0' || c > '9' || n > 63 {
			return 1 << 63
		}
		n = n*10 + int(c-'0')
	}
	return 1 << min(n, 63)
}

// readDelta reads a delta, and reports whether it brings more than a role.
func (s *stream) readDelta(l *lookup) bool {
	if !l.is('{') {
		l.value()
		return false
	}
	brings := false
	for more := l.open('{', '}'); more; more = l.more('}') {
		key := l.key()
		if value := l.value(); !isEmpty(value) && string(key) != "role" {
			s.last.leave(l, value)
			brings = true
		}
	}
	return brings
}

// readResponse reads an event of the Responses API.
func (s *stream) readResponse(data []byte) meaning {
	m, typed := content, false
	var response []byte
	whole := members(data, func(key, value []byte) {
		switch string(key) {
		case "error":
			if isError(value) {
				m = failed
			}
		case "type":
			typed = true
			m = responseMeaning(string(value), m)
		case "response":
			response = value
		}
	})
	switch {
	case !whole:
		return corrupt
	case typed:
		s.known = true
	}
	if m == terminal || m == failed {
		s.facts.wrapped(response)
	}
	return m
}

func responseMeaning(typ string, otherwise meaning) meaning {
	switch typ {
	case `"response.created"`, `"response.queued"`, `"response.in_progress"`, `"ping"`, `"keepalive"`:
		return opener
	case `"response.completed"`, `"response.incomplete"`:
		return terminal
	case `"response.failed"`, `"error"`:
		return failed
	}
	return otherwise
}

func isNull(value []byte) bool { return string(value) == "null" }

// isError reports whether the value of "error" says that there is one.
func isError(value []byte) bool {
	return len(value) > 0 && (value[0] == '{' || value[0] == '"' && len(value) > len(`""`))
}

// isEmpty reports whether a value brings nothing.
func isEmpty(value []byte) bool {
	switch string(value) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return false
}
