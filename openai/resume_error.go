package openai

import (
	"io"
	"strconv"

	"github.com/retrip-go/retrip/internal/fault"
)

// A ResumeError ends the stream of a background response that broke off and could
// not be resumed. The provider may still have the response: GET it by its id to
// learn what has become of it. It matches [io.ErrUnexpectedEOF], as [ErrTruncated]
// does, and unwraps to what the stream broke off with first.
//
// The stream of a POST to responses whose payload says "background": true and
// "stream": true is resumed by GETs of its URL and id. They ask for what follows the
// last event that the reader has got. [WithoutResume] leaves a call alone.
//
// A caller who closes the body or cancels the context ends the stream only. No
// request is sent for that, so the run goes on at the provider and may be billed. To
// end it, POST to its URL, id and "/cancel".
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
	text += " broke off"
	if e.first == nil {
		return text // made by a user, in a test
	}
	return text + " and " + e.reason + ": get the response by its id: " + e.first.Error()
}

// Is makes every ResumeError an io.ErrUnexpectedEOF.
func (e *ResumeError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Unwrap returns what the stream broke off with first.
func (e *ResumeError) Unwrap() error { return e.first }

// Timeout reports whether the stream broke off by silence.
func (e *ResumeError) Timeout() bool { return fault.IsTimeout(e.first) }

// Temporary completes net.Error.
func (e *ResumeError) Temporary() bool { return false }

// ErrorType returns the value of the error.type attribute.
func (e *ResumeError) ErrorType() string { return lossType(e.first) }
