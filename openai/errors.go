package openai

import (
	"io"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/retry"
)

// What a body returns, besides what its connection does. Test with errors.Is.
var (
	// ErrTruncated ends a stream that ended without its terminal event, where
	// io.EOF would pass half an answer off as a whole one. It is an
	// io.ErrUnexpectedEOF.
	ErrTruncated error = &bodyError{"openai: the stream ended before its terminal event", io.ErrUnexpectedEOF, fault.Truncated}

	// ErrStalled ends a body in which nothing came for Config.IdleTimeout. It
	// is a net.Error with Timeout() true.
	ErrStalled error = &bodyError{"openai: nothing came for longer than Config.IdleTimeout", nil, fault.Timeout}
)

// A bodyError ends a response's body.
type bodyError struct {
	text      string
	is        error
	errorType string
}

func (e *bodyError) Error() string     { return e.text }
func (e *bodyError) Unwrap() error     { return e.is }
func (e *bodyError) ErrorType() string { return e.errorType }
func (e *bodyError) Timeout() bool     { return e.errorType == fault.Timeout }
func (e *bodyError) Temporary() bool   { return false }

// An answerError is why a 2xx is a failed attempt all the same. It is never
// seen by the caller of RoundTrip, who gets the response.
type answerError struct {
	reason    retry.Reason
	errorType string
	outcome   string // of a stream, as retrip.stream.outcome has it
	text      string
	api       *apiError // what the provider said, if it did
	cause     error
}

func (e *answerError) Error() string {
	if e.api != nil {
		return "openai: " + e.text + ": " + e.api.Error()
	}
	return "openai: " + e.text
}

func (e *answerError) Unwrap() error     { return e.cause }
func (e *answerError) ErrorType() string { return e.errorType }
