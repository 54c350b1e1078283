package openai

import "github.com/retrip-go/retrip/internal/json"

// responsesFormat is that of responses: events with a type, of which the last
// carries the answer. See
// https://platform.openai.com/docs/api-reference/responses-streaming.
var responsesFormat = &format{judged: true, reportsFailure: true, resumes: true, events: func() eventReader { return new(responseEvent) }}

// A responseEvent reads the events of the Responses API, one after the other. One of them
// serves a whole stream, so that reading an event allocates nothing.
type responseEvent struct {
	walk  walk
	facts *facts
	error errorReader // of the event
	run   errorReader // of the response that it carries
	inRun bool        // the error object that is being read is the response's

	typed    bool    // it has a type, as all events of this API have
	meaning  meaning // of the type
	runFails bool    // the response inside has the status "failed"
}

// event reads one event. It starts from nothing for each, since no event of this API
// depends on those before it.
func (e *responseEvent) event(s *stream, _, data []byte) meaning {
	if data[0] != '{' {
		return content // of no shape that is known
	}
	*e = responseEvent{facts: &s.facts, meaning: content}
	e.walk.feed(data, e)
	return e.result(s)
}

// result returns what the event means that was walked through. A terminal type with a
// response of status "failed" is a failure: response.done leaves it to the status how
// the response ended. Where both the event and its response have an error, the
// response's is the exact one.
func (e *responseEvent) result(s *stream) meaning {
	if !e.walk.scan.Whole() {
		return corrupt
	}
	s.known = s.known || e.typed
	found, isError := e.error.found()
	m := e.meaning
	if !e.typed && isError || m == terminal && e.runFails {
		m = failed
	}
	if ofRun, inRun := e.run.found(); inRun {
		found = ofRun
	}
	if m == failed {
		s.error = found
	}
	return m
}

// named decides by the name, which repeats the type. The last event carries the whole
// answer and may be too long to be parsed: its name is what matters of it.
func (e *responseEvent) named(name []byte) meaning { return responseMeaning(name) }

// responseMeaning returns what the type of an event says. A failed tool call of a running
// response, such as response.mcp_call.failed, is content: the response goes on. So are
// all unknown types, because the API adds new ones.
func responseMeaning(typ []byte) meaning {
	switch string(typ) {
	case "response.created", "response.queued", "response.in_progress", "ping", "keepalive":
		return opener
	case "response.completed", "response.incomplete", "response.cancelled", "response.done":
		return terminal
	case "response.failed", "error":
		return failed
	}
	return content
}

// visit reads what stands in a place of the event. Two error objects may stand in one
// event, so inRun remembers whose members are being read.
func (e *responseEvent) visit(in place, s *json.Scanner) place {
	switch in {
	case inTop:
		switch string(s.Key()) {
		case "type":
			e.typed = true
			e.meaning = responseMeaning(unquoted(s.Value()))
		case "response":
			if s.Kind() == json.Object {
				return inResponse
			}
			return nowhere
		}
		e.inRun = false
		return e.error.top(s)
	case inResponse:
		return e.response(s)
	case inUsage, inUsageDetails:
		return e.facts.usage.visit(in, s)
	default:
		if e.inRun && in != outside {
			return e.run.visit(in, s)
		}
		return e.error.visit(in, s)
	}
}

// response reads a member of the response that an event carries. It does not look at the
// output, which is as long as the answer and was delivered in the events before.
func (e *responseEvent) response(s *json.Scanner) place {
	switch string(s.Key()) {
	case "status":
		e.runFails = string(s.Value()) == `"failed"`
	case "error":
		e.inRun = true
		return e.run.begin(s)
	}
	return e.facts.top(s)
}

// unquoted returns what stands between the quotes of a string. It keeps escapes as they
// are, since it is for names that have none.
func unquoted(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return nil
	}
	return value[1 : len(value)-1]
}
