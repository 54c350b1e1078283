package openai

import "strconv"

// InBandErrors says how the body of a 2xx ends that is known to be no answer,
// once no retry is left: one that is empty, a page of HTML, malformed or cut
// off, or a whole error object. Its bytes are delivered unchanged in any case,
// and metrics and breaker count it as what it is.
//
// A client sees the error if it reads the body to its end, as the official
// SDKs do. One whose decoder stops at the end of a JSON value does not.
type InBandErrors int

const (
	// FailRead ends the last Read in an [AnswerError], or in [ErrTruncated] if
	// a stream was cut off, instead of io.EOF.
	FailRead InBandErrors = iota

	// PassThrough ends all of them in io.EOF, for proxies:
	// httputil.ReverseProxy aborts its own answer when a Read fails.
	PassThrough
)

// String returns the name of the constant.
func (e InBandErrors) String() string {
	switch e {
	case FailRead:
		return "FailRead"
	case PassThrough:
		return "PassThrough"
	}
	return "InBandErrors(" + strconv.Itoa(int(e)) + ")"
}
