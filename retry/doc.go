// Package retry is an http.RoundTripper that repeats calls which may yet
// succeed.
//
// A Transport reads the payload of a request once, sends it, and decides from
// the response or the error whether another attempt follows: after the wait
// that the server asks for, or after a backoff. All attempts share the one
// payload. What may not be repeated is sent once (see Config.Safe); what
// can't succeed in time goes back at once: the caller gets the last response
// as it is, its body readable from the first byte.
//
//	client := &http.Client{Transport: retry.NewTransport(http.DefaultTransport, retry.Config{})}
package retry
