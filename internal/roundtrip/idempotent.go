package roundtrip

import "net/http"

// IsIdempotent reports whether a request with this method may be sent more than
// once (RFC 9110, section 9.2.2); "" is GET, as in http.Request.
func IsIdempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
