package payload

import (
	"io"
	"net/http"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// IsPlain reports whether a request is nothing but headers and a body that can
// be read beforehand: no trailers, no waiting for 100 Continue, no upgrade.
func IsPlain(req *http.Request) bool {
	return len(req.Trailer) == 0 && req.Header["Expect"] == nil && !TakesOver(req)
}

// TakesOver reports whether a request asks for the connection itself.
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
