// Package roundtrip holds what every http.RoundTripper of this module needs:
// the contract of http.RoundTripper towards the base below and the caller above,
// and the questions about a request or header that more than one layer asks.
package roundtrip

import (
	"errors"
	"net/http"
)

// ErrNoResponse says that a base broke the contract of http.RoundTripper.
var ErrNoResponse = errors.New("retrip: the base RoundTripper returned neither a response nor an error")

// Mend makes what a base returned for req into what its contract promises: a
// response or an error, never both or neither, and a response with a Body and
// its Request. Where a base returns both, the error counts, as it does for
// http.Client, and the body is closed. Each layer calls it, because each works
// alone over any base.
func Mend(req *http.Request, response *http.Response, err error) (*http.Response, error) {
	switch {
	case err != nil:
		if response != nil && response.Body != nil {
			_ = response.Body.Close()
		}
		return nil, err
	case response == nil:
		return nil, ErrNoResponse
	}
	if response.Body == nil {
		response.Body = http.NoBody
	}
	response.Request = req
	return response, nil
}

// CloseBody closes the body of a request that is not sent: a RoundTripper must
// close it on every path.
func CloseBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// CloseIdleConnections closes those of base, if it has any. http.Client asks
// its Transport to, so a layer that does not pass it on keeps them open.
func CloseIdleConnections(base http.RoundTripper) {
	if closer, ok := base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// IsIdempotent reports whether a method may be sent twice with the same effect
// as once (RFC 9110, section 9.2.2). The empty method is GET, as in
// http.Request.
func IsIdempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
