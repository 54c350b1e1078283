package openai

import (
	"strings"

	"github.com/retrip-go/retrip/internal/json"
)

// An apiError is what a provider says went wrong: the codes, never the
// message, which may quote the request.
type apiError struct {
	code  string // error.code; a number as text
	kind  string // error.type
	inner string // error.innererror.code, Azure's more exact one; documented in its REST guidelines
}

// isQuota reports whether an account is used up, so that repeating the call
// cannot help whatever the status is.
func (e apiError) isQuota() bool {
	return isQuotaCode(e.code) || isQuotaCode(e.kind) || isQuotaCode(e.inner)
}

// status returns the status that the codes stand for, the most exact one
// first; 0 if none is known. The order matters: the type is often a class of errors,
// such as invalid_request_error, beside a code that says what went wrong.
func (e apiError) status() int {
	for _, code := range [...]string{e.inner, e.code, e.kind} {
		if status := statusOfCode(code); status != 0 {
			return status
		}
	}
	return 0
}

// String lists the codes for the text of an error. It has the names of the members, so
// that a reader finds them in the provider's documents.
func (e apiError) String() string {
	var parts []string
	for _, part := range [...]struct{ name, value string }{{"code", e.code}, {"type", e.kind}, {"inner code", e.inner}} {
		if part.value != "" {
			parts = append(parts, part.name+" "+part.value)
		}
	}
	return strings.Join(parts, ", ")
}

// readErrorMember reads one member of an error object into e. It names the place inside the
// value if that has codes, too.
func readErrorMember(e *apiError, s *json.Scanner) place {
	switch string(s.Key()) {
	case "code":
		e.code = label(s)
	case "type":
		e.kind = label(s)
	case "status": // Gemini's name for its type
		if s.Kind() == json.String && e.kind == "" {
			e.kind = label(s)
		}
	case "innererror":
		if s.Kind() == json.Object {
			return inInnerError
		}
	}
	return nowhere
}

// maxLabel bounds a code: what is longer is none. Codes end up in errors, which are
// logged, so that a provider must not be able to fill them.
const maxLabel = 64

// label returns a code from a JSON string or number. What has other characters
// than a code's is a sentence, and could quote anything: it is no label.
func label(s *json.Scanner) string {
	var code string
	switch s.Kind() {
	case json.String:
		if len(s.Value()) > 6*maxLabel+2 { // each character may be escaped
			return ""
		}
		code = json.Text(s.Value())
	case json.Number:
		code = string(s.Value())
	}
	if len(code) > maxLabel {
		return ""
	}
	for i := range len(code) {
		switch c := code[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return ""
		}
	}
	return code
}

// An errorReader finds the error that is in a JSON value. These are the shapes:
//
//	{"error":{"code":"…","type":"…"}}                  OpenAI, and most others
//	{"error":{"code":"429","innererror":{"code":"…"}}} Azure
//	{"error":{"code":429,"metadata":{…}}}              OpenRouter, vLLM
//	{"error":"…","error_type":"…"}                     Ollama, TGI
//	{"object":"error","type":"…","code":400}           vLLM before 0.10.1, SGLang
//	{"type":"error","code":"…"}                        an event of the Responses API
//	{"type":"error","error":{"type":"…"}}              Anthropic
//	{"code":"…","message":"…"}                         the body of an error status
//	[{"error":{"code":429,"status":"…"}}]              Gemini
//
// An error object says something only if it has a member that does: some
// gateways add an empty one to every success.
type errorReader struct {
	outer, nested apiError
	marked        bool // "object" or "type" is "error", or "error" is a sentence
	says          bool // a member of the error object says something
}

// found returns the error; ok is false if there is none. The codes inside the error
// object go before those beside it, which may be those of a gateway.
func (r *errorReader) found() (e apiError, ok bool) {
	switch {
	case r.says:
		return r.nested, true
	case r.marked:
		e := r.outer
		if e.kind == "error" {
			e.kind = "" // names the event, not what went wrong
		}
		return e, true
	}
	return apiError{}, false
}

// top reads a member that stands beside "error", and names the place inside it.
func (r *errorReader) top(s *json.Scanner) place {
	switch string(s.Key()) {
	case "error":
		return r.begin(s)
	case "object", "type":
		r.marked = r.marked || string(s.Value()) == `"error"`
	case "error_type":
		r.outer.kind = label(s)
		return nowhere
	}
	readErrorMember(&r.outer, s)
	return nowhere
}

// begin reads the value of "error". Of two objects the last one counts, as it does in
// most decoders. A sentence has no codes, but marks the whole as an error.
func (r *errorReader) begin(s *json.Scanner) place {
	switch s.Kind() {
	case json.Object:
		r.nested, r.says = apiError{}, false
		return inError
	case json.String:
		r.marked = r.marked || len(s.Value()) > len(`""`)
	}
	return nowhere
}

// within reads a value inside the error object, and names the place inside it. What a
// nested object or list holds is not read, but that there is something in it says that
// the error is one.
func (r *errorReader) within(in place, s *json.Scanner) place {
	if !isContainer(s) && !isNothing(s.Value()) {
		r.says = true
	}
	switch in {
	case inError:
		if inner := readErrorMember(&r.nested, s); inner != nowhere {
			return inner
		}
		if isContainer(s) {
			return inErrorMember // it says something if it is not empty
		}
	case inInnerError:
		if string(s.Key()) == "code" {
			r.nested.inner = label(s)
		}
	case inErrorMember:
		r.says = true
	}
	return nowhere
}

// visit reads the body of an error, from its outermost value on. Gemini's endpoint for
// OpenAI's format answers with a list that has the error in it.
func (r *errorReader) visit(in place, s *json.Scanner) place {
	switch in {
	case outside:
		switch s.Kind() {
		case json.Object:
			return inTop
		case json.Array:
			return inList
		}
	case inList:
		if s.Kind() == json.Object {
			return inTop
		}
	case inTop:
		return r.top(s)
	default:
		return r.within(in, s)
	}
	return nowhere
}

// readErrorBody returns the codes in the body of a response whose status says
// that it is an error. The body may be cut off: what stands before counts. Codes beside
// an error object that is missing count, too, since the status leaves no doubt.
func readErrorBody(body []byte) apiError {
	var r errorReader
	walkAll(body, &r)
	if e, ok := r.found(); ok {
		return e
	}
	return r.outer
}
