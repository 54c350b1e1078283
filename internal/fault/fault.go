// Package fault names what can go wrong, in the same words for every layer:
// the closed set of error.type, the time limits of ours that ended an
// attempt, and the refusals of a layer that sent nothing.
//
// Errors are recognised by errors.Is, errors.As and their types, never by their
// texts: those change between versions, and may hold what must not be read.
package fault

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// The closed set of error.type; a status code as text belongs to it too. The set is
// closed because each value makes a series of every metric that has it.
const (
	Timeout         = "timeout"
	Canceled        = "canceled"
	CircuitOpen     = "circuit_open"
	RateLimited     = "rate_limited" // refused before it was sent
	ConnectionError = "connection_error"
	StreamError     = "stream_error"
	Truncated       = "truncated"
	Other           = "_OTHER"
)

// isKnown reports whether a type is one of the closed set. Those of a base are its
// own, and may be anything.
func isKnown(errorType string) bool {
	switch errorType {
	case Timeout, Canceled, CircuitOpen, RateLimited, ConnectionError, StreamError, Truncated, Other:
		return true
	}
	code, err := strconv.Atoi(errorType)
	return err == nil && code >= 400 && StatusType(code) == errorType
}

// A TimeLimitError is the cause with which a layer of ours ends an attempt. It
// keeps our own limits apart from the caller's context: a server that runs into
// one has failed, while a caller who gives up says nothing of the server. It is no
// context.DeadlineExceeded, since the caller's own deadline is not over.
type TimeLimitError struct {
	Limit string // the Config field that set it, as "retry: AttemptTimeout"
	After time.Duration

	// Queued says that the request was still waiting for a place in the
	// connection pool: the server knows nothing of it.
	Queued bool
}

func (e *TimeLimitError) Error() string {
	text := e.Limit + " of " + e.After.String() + " is over"
	if e.Queued {
		text += ", while the request waited for a connection: allow more of them (http.Transport.MaxConnsPerHost) or make fewer calls at a time"
	}
	return text
}

// Timeout makes a TimeLimitError a timeout for net.Error and url.Error.
func (e *TimeLimitError) Timeout() bool { return true }

// Temporary completes net.Error.
func (e *TimeLimitError) Temporary() bool { return false }

// ErrorType returns the value of the error.type attribute.
func (e *TimeLimitError) ErrorType() string { return Timeout }

// A ProxyAuthError says that the proxy on the way to a server asks for
// credentials (407; RFC 9110, section 15.5.8): another attempt gets the same.
type ProxyAuthError struct {
	Proxy string // its host
}

func (e *ProxyAuthError) Error() string {
	return "the proxy " + e.Proxy + " answered 407 Proxy Authentication Required: put its credentials into its URL, as in HTTPS_PROXY=http://user:password@" + e.Proxy
}

// ErrorType returns the value of the error.type attribute, "407".
func (e *ProxyAuthError) ErrorType() string { return StatusType(http.StatusProxyAuthRequired) }

// Ended returns an error for a context that is over: its Err, and where that
// has a cause, one that is both.
func Ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err { //nolint:errorlint // the same, not one that wraps it
		return err
	}
	return &endedError{err, cause}
}

// An endedError is the end of a context that has a cause of its own.
type endedError struct{ err, cause error }

func (e *endedError) Error() string   { return e.cause.Error() }
func (e *endedError) Unwrap() []error { return []error{e.cause, e.err} }

// Timeout reports whether a deadline ended the context.
func (e *endedError) Timeout() bool { return IsTimeout(e.cause) || IsTimeout(e.err) }

// ErrorType returns the value of the error.type attribute.
func (e *endedError) ErrorType() string {
	if e.Timeout() {
		return Timeout
	}
	return Canceled
}

// ErrRejected is what errors.Is finds in the error of a layer that refused an
// attempt, as an open breaker does: the request was never sent.
var ErrRejected = errors.New("the attempt was refused before it was sent")

// IsRejection reports whether a layer refused the attempt that ended with err.
func IsRejection(err error) bool { return errors.Is(err, ErrRejected) }

// IsTimeout reports whether err is a timeout of any layer.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// Type returns the error.type of err. Errors of this module name their own; so may
// those of others, in the words of the closed set.
func Type(err error) string {
	if err == nil {
		return "" // before what errors.As needs is allocated
	}
	var typed interface{ ErrorType() string }
	var network net.Error
	switch {
	case errors.As(err, &typed) && isKnown(typed.ErrorType()):
		return typed.ErrorType()
	case errors.Is(err, context.Canceled):
		return Canceled
	case IsTimeout(err):
		return Timeout
	case IsConnection(err), errors.As(err, &network):
		return ConnectionError
	default:
		return Other
	}
}

// StatusType returns the error.type of an HTTP status: "" below 400.
func StatusType(code int) string {
	switch {
	case code < 400:
		return ""
	case code < len(statusText):
		return statusText[code]
	default:
		return Other
	}
}

// statusText holds the texts of all statuses, so that none is made per call.
var statusText = func() (text [600]string) {
	for code := 100; code < len(text); code++ {
		text[code] = strconv.Itoa(code)
	}
	return text
}()
