package payload

import "net/http"

// Plain reports whether a request is nothing but headers and a body that can
// be read beforehand: no trailers, no waiting for 100 Continue, no upgrade.
func Plain(req *http.Request) bool {
	return len(req.Trailer) == 0 && req.Header["Expect"] == nil && !TakesOver(req)
}

// TakesOver reports whether a request asks for the connection itself.
func TakesOver(req *http.Request) bool {
	return req.Method == http.MethodConnect || req.Header["Upgrade"] != nil
}
