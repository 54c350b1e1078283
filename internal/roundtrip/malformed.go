package roundtrip

import (
	"net/http"
	"slices"
)

// IsMalformed reports whether net/http would refuse to send the request. It
// does so with errors that have no type, which is why the request is looked at
// instead. A malformed request is the caller's mistake: repeating it is in vain,
// and it says nothing of the server.
func IsMalformed(req *http.Request) bool {
	u := req.URL
	return u == nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || hasControl(u.RequestURI()) ||
		req.Method != "" && !isToken(req.Method) ||
		req.Header == nil || IsMalformedHeader(req.Header) || IsMalformedHeader(req.Trailer) ||
		req.ContentLength > 0 && req.Body == nil
}

// IsMalformedHeader reports whether net/http would refuse to send a header. Its names
// and values are checked as httpguts does, which net/http asks.
func IsMalformedHeader(h http.Header) bool {
	for name, values := range h {
		if !isToken(name) || slices.ContainsFunc(values, isMalformedValue) {
			return true
		}
	}
	return false
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '!', c == '#', c == '$', c == '%', c == '&', c == '\'', c == '*', c == '+', c == '-', c == '.', c == '^', c == '_', c == '`', c == '|', c == '~':
		default:
			return false
		}
	}
	return s != ""
}

// isMalformedValue reports whether s can't be a header's value: RFC 9110,
// section 5.5, allows the tab among the control characters.
func isMalformedValue(s string) bool {
	for i := range len(s) {
		if s[i] != '\t' && isControl(s[i]) {
			return true
		}
	}
	return false
}

// hasControl reports whether s has a control character, which net/http refuses in a URL.
func hasControl(s string) bool {
	for i := range len(s) {
		if isControl(s[i]) {
			return true
		}
	}
	return false
}

// isControl reports whether c is a control character of ASCII. Bytes from 0x80 on are
// none: a header may have them (obs-text in RFC 9110, section 5.5).
func isControl(c byte) bool { return c < ' ' || c == 0x7f }
