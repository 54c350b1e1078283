package openai

import (
	"io"

	"github.com/retrip-go/retrip/internal/fault"
)

// What a body returns, besides what its connection does. Test with errors.Is.
var (
	// ErrTruncated ends a stream that ended without its terminal event, where
	// io.EOF would pass half an answer off as a whole one. It is an
	// io.ErrUnexpectedEOF.
	ErrTruncated error = &bodyError{"openai: the stream ended before its terminal event", fault.Truncated}

	// ErrStalled ends a body in which nothing came for Config.IdleTimeout. It
	// is a net.Error with Timeout() true, and an io.ErrUnexpectedEOF.
	ErrStalled error = &bodyError{"openai: nothing came for longer than Config.IdleTimeout", fault.Timeout}
)

// A bodyError ends a response's body.
type bodyError struct{ text, errorType string }

func (e *bodyError) Error() string     { return e.text }
func (e *bodyError) Unwrap() error     { return io.ErrUnexpectedEOF }
func (e *bodyError) ErrorType() string { return e.errorType }
func (e *bodyError) Timeout() bool     { return e.errorType == fault.Timeout }
func (e *bodyError) Temporary() bool   { return false }

// An AnswerError says that a 2xx was no answer: its body was empty, a page,
// cut off or malformed, or it told of an error. It ends the body of such a
// response in place of io.EOF, after all its bytes have been read, unless
// [Config.InBandErrors] says otherwise. It is an io.ErrUnexpectedEOF, and
// where the body broke off it unwraps to what it broke off with.
type AnswerError struct {
	// Code and Type are the provider's own, as its error object has them; ""
	// if it sent none. The provider's message is in Body alone, because it may
	// quote the request.
	Code, Type string

	text      string
	errorType string
	outcome   string // of a stream, as retrip.stream.outcome has it
	verdict   verdict
	cause     error
	body      []byte
}

// Error says what is wrong with the answer. It holds nothing of the body but
// codes.
func (e *AnswerError) Error() string {
	codes := apiError{code: e.Code, kind: e.Type}.String()
	if codes != "" {
		codes = ": " + codes
	}
	return "openai: " + e.text + codes
}

// Body returns the beginning of what was delivered, at most 64 KiB, for
// clients that show a provider's message. Nil if a stream had begun to answer.
// It must not be changed.
func (e *AnswerError) Body() []byte { return e.body }

// Is makes every AnswerError an io.ErrUnexpectedEOF.
func (e *AnswerError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Unwrap returns what the body broke off with, nil if it ended by itself.
func (e *AnswerError) Unwrap() error { return e.cause }

// Timeout reports whether the answer stalled.
func (e *AnswerError) Timeout() bool { return e.errorType == fault.Timeout }

// ErrorType returns the value of the error.type attribute.
func (e *AnswerError) ErrorType() string { return e.errorType }
