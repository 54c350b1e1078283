package payload

import (
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
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

// What io.NopCloser makes, and http.NewRequest by it.
var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))
)

// IsInMemory reports whether a body is one of those that net/http knows to be in
// memory: their Read never blocks, and they are sent in one write with the
// headers if they are not wrapped.
func IsInMemory(body io.ReadCloser) bool {
	if t := reflect.TypeOf(body); t != nopCloser && t != nopCloserWriterTo {
		return false
	}
	switch reflect.ValueOf(body).Field(0).Interface().(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return true
	}
	return false
}
