package openai

import (
	"bytes"

	"github.com/retrip-go/retrip/internal/json"
)

// chatFormat is that of chat and completions: chunks with choices, then
// [DONE]. See https://platform.openai.com/docs/api-reference/chat-streaming.
var chatFormat = &format{judged: true, events: func() eventReader { return new(chunk) }}

// doneMark is the data of the last event. It is no JSON, which is why it is looked for
// before a value is.
var doneMark = []byte("[DONE]")

// A chunk reads the events of chat and completions, one after the other. One chunk serves
// a whole stream, so that reading an event allocates nothing.
type chunk struct {
	stream *stream
	walk   walk
	error  inBandError

	// choices says that there is a member of that name. It alone makes an event a known
	// one: gateways send events with a usage, a model or an id only.
	choices bool
	brings  bool // something is generated, so that the caller loses it by a retry

	// The choice that is being read. Its index may stand behind its delta, so it
	// takes effect only at its end.
	bit    uint64 // 0 outside of a choice
	ends   bool   // it has a finish_reason
	filled bool   // its delta brings something

	last template // an event that fits it brings content and changes nothing else, so it is not parsed
}

// event reads one event. Some servers put a single line end between their chunks where a
// blank line should be, so that several values come in one event. An error among them
// decides, whatever follows.
func (c *chunk) event(s *stream, _, data []byte) meaning {
	if c.last.fits(data) {
		return content
	}
	all := opener
	for len(data) > 0 {
		var m meaning
		m, data = c.value(s, data)
		if all = max(all, m); m == failed || m == corrupt {
			return m
		}
	}
	return all
}

// named returns content, which decides nothing: the events of this format have no names.
// A chunk too long to be parsed is one with an image or with sound in it.
func (c *chunk) named([]byte) meaning { return content }

// value reads the first value in data, and returns what follows it.
func (c *chunk) value(s *stream, data []byte) (m meaning, rest []byte) {
	if after, ok := bytes.CutPrefix(data, doneMark); ok {
		return terminal, trimSpace(after) // some servers put it behind the last chunk, in one event
	}
	if data[0] != '{' {
		return content, nil // an unknown shape is passed on, not failed
	}
	return c.object(s, data)
}

// object reads the object that data begins with. An object that brings content and is
// alone in its event becomes the template for the next events, which are mostly alike.
func (c *chunk) object(s *stream, data []byte) (m meaning, rest []byte) {
	open, finished := s.open, s.finished
	*c = chunk{stream: s, last: c.last} // the template alone outlives an event, and its buffer with it
	c.last.begin()
	rest = trimSpace(c.walk.feed(data, c))
	c.endChoice()
	whole := c.walk.scan.Whole()
	m = c.meaning(whole)
	if m == content && c.choices && len(rest) == 0 {
		c.last.end(data)
	} else {
		c.last.begin() // anything else changes the stream, so that it must be parsed each time
	}
	if m == failed || m == corrupt {
		// OpenRouter sends a finish_reason beside the error. It must not make the
		// stream count as complete.
		s.open, s.finished = open, finished
	}
	s.known = s.known || c.choices && whole
	return m, rest
}

// meaning returns what the object means that was read. An object without choices is
// content, because it may be another vendor's event. An empty list of choices brings
// nothing: Azure begins a stream with such a chunk, which holds the filter results of the
// prompt, and OpenAI ends one with the usage in such a chunk.
func (c *chunk) meaning(whole bool) meaning {
	e, isError := c.error.failed(c.brings)
	switch {
	case !whole:
		return corrupt
	case isError:
		c.stream.error = e
		return failed
	case c.brings, !c.choices:
		return content
	}
	return opener
}

// visit reads what stands in a place of the chunk. A choice has no mark for its end, so
// it ends where the next one begins, and the last one after the walk.
func (c *chunk) visit(in place, s *json.Scanner) place {
	switch in {
	case inTop:
		return c.top(s)
	case inUsage, inUsageDetails:
		return c.stream.facts.usage.visit(in, s)
	case inChoices:
		c.endChoice()
		if s.Kind() == json.Object {
			c.bit = 1
			return inChoice
		}
	case inChoice:
		return c.choice(s)
	case inDelta:
		return c.delta(s)
	case inContent:
		c.brings = true
	default:
		return c.error.visit(in, s)
	}
	return nowhere
}

// top reads a member of the chunk itself. Other members behind the choices may vary from
// event to event without meaning anything, so the template leaves gaps for them.
func (c *chunk) top(s *json.Scanner) place {
	switch string(s.Key()) {
	case "choices":
		c.choices = true
		if s.Kind() == json.Array {
			return inChoices
		}
	case "model", "usage":
		return c.stream.facts.top(s)
	case "prompt_progress": // llama.cpp is reading a long prompt, which takes minutes without a GPU
		if isContainer(s) {
			return inContent
		}
	case "error", "error_type", "object", "type", "code":
		return c.error.top(s)
	default:
		if c.choices {
			c.last.leave(s) // such as the padding of OpenAI's events
		}
	}
	return nowhere
}

// choice reads one member of a choice. A finish_reason that is null or empty ends
// nothing, because some servers send one with every chunk. Chat has a delta, completions
// have a text, and some servers stream a whole message instead of a delta.
func (c *chunk) choice(s *json.Scanner) place {
	switch string(s.Key()) {
	case "index":
		c.bit = choiceBit(s.Value())
	case "finish_reason":
		c.ends = !isNothing(s.Value())
		return c.error.choice(s)
	case "error":
		return c.error.choice(s)
	case "delta", "message":
		if s.Kind() == json.Object {
			return inDelta
		}
	case "text":
		c.fill(s)
	}
	return nowhere
}

// delta reads one member of a delta. Everything but a role counts as generated, since
// compatible providers add members of their own: reasoning, audio, tool calls. A list of
// known names would take them for silence.
func (c *chunk) delta(s *json.Scanner) place {
	switch {
	case string(s.Key()) == "role":
	case isContainer(s):
		return inContent // unless it is empty
	default:
		c.fill(s)
	}
	return nowhere
}

// fill notes that a scalar brings something, unless it is empty. Such a scalar is what
// differs between the events of a stream, so the template has a gap for it.
func (c *chunk) fill(s *json.Scanner) {
	if !isNothing(s.Value()) {
		c.filled = true
		c.last.leave(s)
	}
}

// endChoice notes what the choice that was read does to the stream. Its end counts as
// content, too, because an answer may consist of nothing else. A finished choice is not
// opened again by a later chunk, such as one with filter results.
func (c *chunk) endChoice() {
	s := c.stream
	switch {
	case c.bit == 0:
		return
	case c.ends:
		s.open &^= c.bit
		s.finished |= c.bit
	case s.finished&c.bit == 0:
		s.open |= c.bit
	}
	c.brings = c.brings || c.filled || c.ends
	c.bit, c.ends, c.filled = 0, false, false
}

// choiceBit returns the bit of a choice's index. High and malformed indexes share the
// last bit, so that no index is out of range. A stream of more than 64 choices may seem
// complete too early for that, and then a cut of it goes unnoticed.
func choiceBit(index []byte) uint64 {
	n, ok := json.Count(index)
	if !ok {
		n = 63
	}
	return 1 << min(n, 63)
}
