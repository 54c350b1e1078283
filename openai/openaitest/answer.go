package openaitest

import (
	"net/http"
	"strings"
	"time"
)

// An Answer is what the server does with one request. The zero value is the
// healthy answer of the endpoint. What an Answer refers to must not be changed
// once the server has it.
//
// A healthy answer is a stream where the request has "stream": true and the
// endpoint can stream, else a body. Status from 400 on is answered with an
// error as its body, in the form of the endpoint: OpenAI's, or Anthropic's for
// Messages.
type Answer struct {
	// Status is the HTTP status; 0 = 200.
	Status int
	// Header replaces the headers of the same name.
	Header http.Header
	// Trailer is sent after the body, chunked on HTTP/1.1.
	Trailer http.Header

	// Text is what the healthy answer of a language model says, a token a
	// word; "" = DefaultText.
	Text string
	// Body is sent instead of the healthy answer, also where a stream was
	// asked for; nil = the healthy answer, or the error. Empty is a body.
	Body []byte
	// Events are streamed instead of the healthy answer, also where no
	// stream was asked for; nil = the healthy answer. Each is written as it
	// stands and flushed at once, see Event.
	Events []string

	// Gzip compresses body or stream, whatever the client accepts.
	Gzip bool
	// Chunked sends a body without its Content-Length.
	Chunked bool

	// Delay is the silence before the headers; 0 = none.
	Delay time.Duration
	// Pace is the silence before the body, or before each event; 0 = none.
	Pace time.Duration
	// Gate holds back the body, or each event, until something is received
	// from it, or it is closed; nil = no gate. The headers are not held.
	Gate <-chan struct{}
	// KeepAlive sends a comment whenever a stream was silent that long;
	// 0 = never. Comments do not count as events.
	KeepAlive time.Duration

	fault fault
	after int      // where the fault is: events of a stream, bytes of a body
	err   apiError // of faultError

	refusal *apiError // instead of the healthy answer; nil = none
}

// A fault is what goes wrong with an answer.
type fault int

const (
	faultNone    fault = iota
	faultNoReply       // nothing is sent
	faultClosed        // closed before the headers
	faultRefuse        // reset before the headers
	faultCut
	faultReset
	faultStall
	faultEnd
	faultError
	faultCorrupt
	faultEndless
)

// DefaultText is what healthy answers of language models say: seven tokens.
const DefaultText = "Hello! How can I help you today?"

// OK returns the healthy answer, the zero Answer.
func OK() Answer { return Answer{} }

// Say returns the healthy answer with that text.
func Say(text string) Answer { return Answer{Text: text} }

// Status returns an answer with that status and, from 400 on, an error as the
// status usually has it.
func Status(code int) Answer { return Answer{Status: code} }

// Error returns an answer with an error. An empty code is null; an error of
// Anthropic's has none.
func Error(status int, errType, code, message string) Answer {
	return Answer{Status: status, refusal: &apiError{errType, code, message}}
}

// JSON returns an answer with that body, which need not be JSON.
func JSON(body string) Answer { return Answer{Body: []byte(body)} }

// Stream returns a stream of these events, see Event. Nothing is added: no
// [DONE], no line ends.
func Stream(events ...string) Answer {
	return Answer{Events: append([]string{}, events...)}
}

// Event returns a server-sent event for Stream. An empty name is left out;
// data of several lines becomes several data fields.
func Event(name, data string) string {
	var b strings.Builder
	if name != "" {
		b.WriteString("event: " + name + "\n")
	}
	for line := range strings.SplitSeq(data, "\n") {
		b.WriteString("data: " + line + "\n")
	}
	b.WriteByte('\n')
	return b.String()
}

// ResetBeforeHeaders returns an answer that is none: the TCP connection is
// reset. On HTTP/2 only the request's stream is.
func ResetBeforeHeaders() Answer { return Answer{fault: faultRefuse} }

// EOFBeforeHeaders returns an answer that is none: the connection is closed.
// On HTTP/2 the request's stream is reset.
func EOFBeforeHeaders() Answer { return Answer{fault: faultClosed} }

// StallBeforeHeaders returns an answer that is none: silence until the client
// goes away.
func StallBeforeHeaders() Answer { return Answer{fault: faultNoReply} }

// EndlessBody returns an answer whose body never ends.
func EndlessBody(status int) Answer { return Answer{Status: status, fault: faultEndless} }

// With adds a header.
func (a Answer) With(key, value string) Answer {
	a.Header = a.Header.Clone()
	if a.Header == nil {
		a.Header = make(http.Header)
	}
	a.Header.Add(key, value)
	return a
}

// CutAfter closes the connection after n events of a stream or n bytes of a
// body, before the end that was announced. On HTTP/2 the request's stream is
// reset. A fault replaces the one before, here as below.
func (a Answer) CutAfter(n int) Answer { return a.withFault(faultCut, n) }

// ResetAfter is CutAfter with a reset of the TCP connection, which may also
// take from the client what it has not yet read.
func (a Answer) ResetAfter(n int) Answer { return a.withFault(faultReset, n) }

// StallAfter falls silent after the headers and n events or bytes, until the
// client goes away.
func (a Answer) StallAfter(n int) Answer { return a.withFault(faultStall, n) }

// EndAfter ends the answer after n events or bytes as if it were whole: HTTP
// sees nothing wrong.
func (a Answer) EndAfter(n int) Answer { return a.withFault(faultEnd, n) }

// ErrorAfter sends an error event after n events of a stream, and ends it. A
// body is replaced by the error, whatever n is; its status stays. An empty
// code is null.
func (a Answer) ErrorAfter(n int, errType, code, message string) Answer {
	a.err = apiError{errType, code, message}
	return a.withFault(faultError, n)
}

// CorruptAfter breaks the JSON of the event after n events of a stream, which
// then goes on, or overwrites all but n bytes of a body.
func (a Answer) CorruptAfter(n int) Answer { return a.withFault(faultCorrupt, n) }

func (a Answer) withFault(f fault, n int) Answer {
	a.fault, a.after = f, max(0, n)
	return a
}
