package fault

import (
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"syscall"
)

// IsConnection reports whether err says that the connection could not be made
// or was lost, be it a stream of HTTP/2 alone. io.EOF is among these errors: net/http
// returns it, bare or wrapped, if a server closes the connection instead of answering.
func IsConnection(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		isHTTP2Loss(err)
}

// A reset is what net/http and golang.org/x/net/http2 return for a stream of
// HTTP/2 that was reset (RFC 9113, section 6.4): their StreamError.
type reset struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// A goAway is what they return for the requests of a connection that its
// server has ended (RFC 9113, section 6.8): their GoAwayError.
type goAway struct {
	LastStreamID uint32
	ErrCode      uint32
	DebugData    string
}

// http2Losses are the types that errors of HTTP/2 are compared with. Both packages name
// the fields alike.
var http2Losses = [...]reflect.Type{reflect.TypeFor[reset](), reflect.TypeFor[goAway]()}

// isHTTP2Loss reports whether err, or one that it wraps, says that a stream or
// the connection it was on is lost. net/http keeps these types to itself, so
// they are recognised by their fields, as net/http itself does in its As.
func isHTTP2Loss(err error) bool {
	if err == nil {
		return false
	}
	if t := reflect.TypeOf(err); t.Kind() == reflect.Uint32 && strings.HasSuffix(t.Name(), "ConnectionError") {
		return true // RFC 9113, section 5.4.1: a code alone
	}
	for _, loss := range http2Losses {
		if hasFieldsOf(reflect.TypeOf(err), loss) {
			return true
		}
	}
	switch wrapper := err.(type) { //nolint:errorlint // this is what errors.As does
	case interface{ Unwrap() error }:
		return isHTTP2Loss(wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(wrapper.Unwrap(), isHTTP2Loss)
	}
	return false
}

// hasFieldsOf reports whether a struct has the fields of shape, by name and in order,
// with types that convert into one another: the codes are of a type of their own.
func hasFieldsOf(t, shape reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.NumField() != shape.NumField() {
		return false
	}
	for i := range shape.NumField() {
		if got, want := t.Field(i), shape.Field(i); got.Name != want.Name || !got.Type.ConvertibleTo(want.Type) {
			return false
		}
	}
	return true
}
