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
	m, recognised := opener, false
	whole := members(data, func(key, value []byte) {
		switch {
		case isKey(key, "error") && isError(value):
			m, recognised = failed, true
		case isKey(key, "choices") && m != failed:
			recognised = true
			m = s.readChoices(value)
		case isKey(key, "usage"):
			recognised = true
			s.facts.member("usage", value)
		case s.facts.model == "" && isKey(key, "model"):
			s.facts.member("model", value)
		}
	})
	switch {
	case !whole:
		return corrupt
	case !recognised:
		return content
	}
	s.known = true
	return m
}

// readChoices reads which choices go on or end, and whether any brings
// something.
func (s *stream) readChoices(choices []byte) meaning {
	m := opener
	elements(choices, func(choice []byte) {
		bit, ends := uint64(1), false
		members(choice, func(key, value []byte) {
			switch {
			case isKey(key, "index"):
				bit = choiceBit(value)
			case isKey(key, "finish_reason"):
				ends = !isNull(value)
			case isKey(key, "delta"):
				if !isOpener(value) {
					m = content
				}
			case isKey(key, "text"):
				if !isEmpty(value) {
					m = content
				}
			}
		})
		if ends {
			s.open &^= bit
			s.finished |= bit
			m = content
		} else if s.finished&bit == 0 {
			s.open |= bit
		}
	})
	return m
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

// isOpener reports whether a delta brings nothing but a role.
func isOpener(delta []byte) bool {
	empty := true
	members(delta, func(key, value []byte) {
		if !isKey(key, "role") && !isEmpty(value) {
			empty = false
		}
	})
	return empty
}

// readResponse reads an event of the Responses API.
func (s *stream) readResponse(data []byte) meaning {
	m, typed := content, false
	var response []byte
	whole := members(data, func(key, value []byte) {
		switch {
		case isKey(key, "error") && isError(value):
			m = failed
		case isKey(key, "type"):
			typed = true
			m = responseMeaning(string(value), m)
		case isKey(key, "response"):
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
	return value[0] == '{' || value[0] == '"' && len(value) > len(`""`)
}

// isEmpty reports whether a value brings nothing.
func isEmpty(value []byte) bool {
	switch string(value) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return false
}
