package payload

import (
	"io"
	"net/http"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// IsPlain reports whether a request is nothing but headers and a body that can
// be read beforehand. Trailers may be set while the body is read; a request that
// waits for 100 Continue asks whether its body is wanted at all; after an upgrade
// the body is a conversation.
func IsPlain(req *http.Request) bool {
	return len(req.Trailer) == 0 && req.Header["Expect"] == nil && !TakesOver(req)
}

// TakesOver reports whether a request asks for the connection itself: what
// follows on it can't be repeated.
func TakesOver(req *http.Request) bool {
	return req.Method == http.MethodConnect || req.Header["Upgrade"] != nil
}

// IsInMemory reports whether a body is one of those that net/http knows to be in
// memory: their Read never blocks, and they are sent in one write with the
// headers if they are not wrapped.
func IsInMemory(body io.ReadCloser) bool {
	_, ok := roundtrip.InMemory(body)
	return ok
}
