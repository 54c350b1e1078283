package openai

import (
	"io"

	"github.com/retrip-go/retrip/internal/fault"
)

// A body ends in these errors beside those of its connection. An answer is whole only
// if its body ends in io.EOF: any other error says that half of it has come. Test for
// these two with errors.Is. Both match io.ErrUnexpectedEOF, as [AnswerError] and
// [ResumeError] do. A connection that is reset ends a body in an error that doesn't.
var (
	// ErrTruncated ends a stream that ended without its terminal event, where
	// io.EOF would pass half an answer off as a whole one. All bytes that came
	// have been read before. A stream whose connection is lost ends in the
	// connection's own error instead; that of net/http is io.ErrUnexpectedEOF where
	// HTTP/1 was cut. [PassThrough] keeps io.EOF.
	ErrTruncated error = &bodyError{"openai: the stream ended before its terminal event", fault.Truncated}

	// ErrStalled ends a body in which nothing came for [Config.IdleTimeout]. It is a
	// net.Error whose Timeout method returns true. Only the time in which a Read waits
	// counts: a slow reader doesn't make a body stall.
	ErrStalled error = &bodyError{"openai: nothing came for longer than Config.IdleTimeout", fault.Timeout}
)

// A bodyError ends a response's body. Its values are compared by identity, so each
// is made once.
type bodyError struct{ text, errorType string }

func (e *bodyError) Error() string     { return e.text }
func (e *bodyError) Unwrap() error     { return io.ErrUnexpectedEOF }
func (e *bodyError) ErrorType() string { return e.errorType }
func (e *bodyError) Timeout() bool     { return e.errorType == fault.Timeout }
func (e *bodyError) Temporary() bool   { return false }

// An AnswerError says that a 2xx was no answer: its body was empty, an HTML page,
// cut off or malformed, or it held an error. It ends the body of such a response in
// place of io.EOF, because many clients would decode the body as an empty success.
// All bytes of the body are delivered before it. [PassThrough] as
// [Config.InBandErrors] ends the body in io.EOF instead.
//
// It matches io.ErrUnexpectedEOF. Where the body broke off, it unwraps to the error
// that the body broke off with. It must not be changed.
type AnswerError struct {
	// Code and Type are the provider's own, as its error object has them; ""
	// if it sent none. The provider's message is in Body alone, because it may
	// quote the request.
	Code, Type string

	text      string
	errorType string
	outcome   string // value of retrip.stream.outcome; only a stream has one
	verdict   verdict
	cause     error
	body      []byte // set only on the copy that a reader gets
}

// Error says what is wrong with the answer. Its text has the provider's codes but not
// its message, because the message may quote the request and errors are logged.
func (e *AnswerError) Error() string {
	codes := apiError{code: e.Code, kind: e.Type}.String()
	if codes != "" {
		codes = ": " + codes
	}
	return "openai: " + e.text + codes
}

// Body returns the beginning of the delivered body, at most 64 KiB, for clients that
// show a provider's message. It returns nil if a stream had begun to answer. The
// bytes must not be changed.
func (e *AnswerError) Body() []byte { return e.body }

// Is reports whether target is io.ErrUnexpectedEOF, which every AnswerError matches
// whatever its cause is.
func (e *AnswerError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Unwrap returns the error that the body broke off with, or nil if the body ended by
// itself.
func (e *AnswerError) Unwrap() error { return e.cause }

// Timeout reports whether the answer stalled. It is there for callers that look for a
// timeout by this method, as they do with a net.Error.
func (e *AnswerError) Timeout() bool { return e.errorType == fault.Timeout }

// ErrorType returns the value of the error.type attribute in metrics. The layers above
// read it by this method, since they don't know the types of this package.
func (e *AnswerError) ErrorType() string { return e.errorType }
