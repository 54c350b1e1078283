package retry

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/retrip-go/retrip/internal/fault"
)

// An Error says that a call ended without a response, after a retry or a wait:
// every attempt failed, or the request's context ended meanwhile. It unwraps to
// the error of the last attempt and, if the context ended, to the context's error
// and cause: errors.Is and errors.As find them all. A call that was neither
// repeated nor waited for ends in the base's own error instead.
type Error struct {
	Attempts int   // requests that were sent
	Err      error // what the last attempt failed with
	Cause    error // what ended the request's context; nil if that did not end the call

	ended error // the context's Err
}

// Error says how many attempts were sent, and what the last one failed with. If the
// context ended the call, that comes first, since it is what the caller must change.
func (e *Error) Error() string {
	sent := strconv.Itoa(e.Attempts) + " attempts"
	if e.Attempts == 1 {
		sent = "1 attempt"
	}
	if e.Cause != nil {
		return fmt.Sprintf("retry: the call ended after %s: %v; the last failure was: %v", sent, e.Cause, e.Err)
	}
	return fmt.Sprintf("retry: gave up after %s: %v", sent, e.Err)
}

// Unwrap returns the causes, the end of the context first. A caller who asks for
// context.Canceled or its own cause finds it, and one who asks for the failure of the
// last attempt finds that.
func (e *Error) Unwrap() []error {
	errs := make([]error, 0, 3)
	for _, err := range [...]error{e.Cause, e.ended, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Timeout reports whether the call ended by a timeout. A [net/url.Error] around it
// asks for that, without unwrapping.
func (e *Error) Timeout() bool {
	if e.Cause != nil {
		return fault.IsTimeout(e.Cause) || fault.IsTimeout(e.ended)
	}
	return fault.IsTimeout(e.Err)
}

// ErrorType returns the error.type attribute of the metrics for e. A caller who gave up
// is not the last attempt's failure, so that the end of the context goes before.
func (e *Error) ErrorType() string {
	switch {
	case e.Cause == nil:
		return fault.Type(e.Err)
	case e.Timeout():
		return fault.Timeout
	default:
		return fault.Canceled
	}
}

// These end a call that no attempt has ended.
var (
	errNoURL         = errors.New("retry: the request has no URL")
	errPanicked      = errors.New("retry: the base RoundTripper, or a function of the Config, panicked")
	errRequestCancel = errors.New("retry: canceled through Request.Cancel")
)

// A statusError is a response of that status where an error is needed, as in a Report.
// It holds nothing of the response's body, which may quote the request.
type statusError int

func (e statusError) Error() string {
	return "the server answered " + strconv.Itoa(int(e)) + " " + http.StatusText(int(e))
}

// ErrorType returns the value of the error.type attribute.
func (e statusError) ErrorType() string { return fault.StatusType(int(e)) }
