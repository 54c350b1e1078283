package fault

import "net/http"

// A ProxyAuthError says that the proxy on the way to a server asks for
// credentials (407; RFC 9110, section 15.5.8): another attempt is told the same.
type ProxyAuthError struct {
	Proxy string // its host
}

func (e *ProxyAuthError) Error() string {
	return "the proxy " + e.Proxy + " answered 407 Proxy Authentication Required: put its credentials into its URL, as in HTTPS_PROXY=http://user:password@" + e.Proxy
}

// ErrorType returns the value of the error.type attribute, "407".
func (e *ProxyAuthError) ErrorType() string { return StatusType(http.StatusProxyAuthRequired) }
