package openai

import (
	"io"
	"strconv"

	"github.com/retrip-go/retrip/internal/fault"
)

// A ResumeError ends the stream of a background response that broke off and
// could not be taken up again. The provider may still have the response: GET it
// by its id to learn what has become of it. It is an io.ErrUnexpectedEOF, and
// unwraps to what the stream broke off with first.
//
// The stream of a POST to responses whose payload says "background": true and
// "stream": true is resumed by GETs of its URL and id, from the last event that
// its reader has got, for as long as the provider keeps it; [WithoutResume]
// leaves a call alone. Whoever closes the body or cancels the context ends the
// stream only, and no request is sent for that: the run goes on at the provider,
// and may be billed. POST to its URL, id and "/cancel" to end it.
type ResumeError struct {
	// ResponseID names the response at the provider.
	ResponseID string

	// Status is the status of the response as it was last seen in its stream:
	// "queued", "in_progress", …; "" if none was.
	Status string

	// StatusCode is the HTTP status of the last answer to a request that was to
	// resume the stream; 0 if there was none.
	StatusCode int

	reason string
	first  error
}

// Error says why the stream was not resumed. It holds nothing of a body but the
// id and the status of the response.
func (e *ResumeError) Error() string {
	text := "openai: the stream of response " + e.ResponseID
	if e.Status != "" {
		text += " (" + strconv.Quote(e.Status) + ")"
	}
	return text + " broke off and " + e.reason + ": get the response by its id: " + e.first.Error()
}

// Is makes every ResumeError an io.ErrUnexpectedEOF.
func (e *ResumeError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Unwrap returns what the stream broke off with first.
func (e *ResumeError) Unwrap() error { return e.first }

// Timeout reports whether that was a silence.
func (e *ResumeError) Timeout() bool { return fault.IsTimeout(e.first) }

// Temporary completes net.Error.
func (e *ResumeError) Temporary() bool { return false }

// ErrorType returns the value of the error.type attribute.
func (e *ResumeError) ErrorType() string { return lossType(e.first) }
