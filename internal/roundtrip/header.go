package roundtrip

import (
	"net/http"
	"strings"
)

// First returns the first value of a header field, "" if there is none. It is
// Header.Get for a name that is in its canonical form already, and saves looking
// for that form on each call.
func First(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// MediaType returns the media type of a message in lower case, without its
// parameters; "" if it names none.
func MediaType(h http.Header) string {
	media, _, _ := strings.Cut(First(h, "Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// IsCompressed reports whether the body of a message has to be decoded before
// it can be read. Nothing here decodes: such a body passes through unjudged. What
// net/http has decoded by itself no longer says that it was encoded.
func IsCompressed(h http.Header) bool {
	encoding := First(h, "Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}
