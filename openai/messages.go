package openai

import "github.com/retrip-go/retrip/internal/json"

// messagesFormat is that of Anthropic's Messages: events with a type, that end
// with message_stop. See https://docs.anthropic.com/en/api/messages-streaming. An
// answer that failed is an error object and no message. Many clients would decode it as
// an empty message, so that it is not left to them to notice.
var messagesFormat = &format{judged: true, events: func() eventReader { return new(messageEvent) }}

// A messageEvent reads the events of the Messages API, one after the other. One of them
// serves a whole stream, so that reading an event allocates nothing.
type messageEvent struct {
	walk  walk
	facts *facts
	error errorReader

	typ meaning
	// typed says that the type is one that this format knows. Only a stream in which
	// such an event has come can be called cut off: another vendor's may end otherwise.
	typed bool
	// filled says that its block or delta has something in it. Blocks of text and of
	// thinking begin with empty strings.
	filled bool
}

// event reads one event. A block or delta with nothing in it counts as an opener: nothing
// is generated yet, so the call may still be retried without loss. An event of an
// unknown type is content, because the API may add types.
func (e *messageEvent) event(s *stream, _, data []byte) meaning {
	if data[0] != '{' {
		return content // of no shape that is known: it is passed on, not failed
	}
	*e = messageEvent{facts: &s.facts, typ: content}
	e.walk.feed(data, e)
	if !e.walk.scan.Whole() {
		return corrupt
	}
	s.known = s.known || e.typed
	found, isError := e.error.found()
	switch {
	case isError:
		s.error = found
		return failed
	case e.typed && e.typ == content && !e.filled:
		return opener
	}
	return e.typ
}

// named decides by the name, which repeats the type that stands in the data. It is asked
// about events that are too long to be parsed, such as a document in a block.
func (e *messageEvent) named(name []byte) meaning {
	m, _ := messageMeaning(name)
	return m
}

// messageMeaning returns what the type of an event says, and whether it is known. Only
// the data can say whether there is something in a block or delta: event looks there.
func messageMeaning(typ []byte) (m meaning, known bool) {
	switch string(typ) {
	case "message_start", "ping", "content_block_stop":
		return opener, true
	case "content_block_start", "content_block_delta", "message_delta":
		return content, true
	case "message_stop":
		return terminal, true
	case "error":
		return failed, true
	}
	return content, false
}

// visit reads what stands in a place of the event. The type of a block or delta only
// names what may follow in it, so that it does not count as something in it. The
// members of all kinds of blocks are read alike, because the API adds kinds: text,
// thinking, tool input, citations.
func (e *messageEvent) visit(in place, s *json.Scanner) place {
	switch in {
	case inTop:
		return e.top(s)
	case inResponse:
		return e.facts.top(s)
	case inUsage, inUsageDetails:
		return e.facts.usage.visit(in, s)
	case inBlock:
		if string(s.Key()) == "type" {
			return nowhere
		}
		if isContainer(s) {
			return inContent // which is visited only if it is not empty
		}
		e.filled = e.filled || !isNothing(s.Value())
	case inContent:
		e.filled = true
	default:
		return e.error.visit(in, s)
	}
	return nowhere
}

// top reads a member of the event itself. Model and usage stand inside the message of the
// first event. Later usage stands beside the delta of message_delta, and replaces the
// first: its numbers are cumulative, as Anthropic documents.
func (e *messageEvent) top(s *json.Scanner) place {
	switch string(s.Key()) {
	case "type":
		e.typ, e.typed = messageMeaning(unquoted(s.Value()))
		return e.error.top(s)
	case "message": // of message_start
		if s.Kind() == json.Object {
			return inResponse
		}
	case "content_block", "delta":
		if s.Kind() == json.Object {
			return inBlock
		}
	case "usage": // of message_delta
		return e.facts.top(s)
	case "error":
		return e.error.top(s)
	}
	return nowhere
}
