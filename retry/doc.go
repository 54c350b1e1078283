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
//
// A request's path through the files: transport.go and trip.go run one call,
// attempt.go one attempt of it; payload.go decides what is buffered; policy.go
// what is retried; delay.go and budget.go when, and whether that is allowed;
// kept.go keeps a response that was given up until the next attempt is under
// way.
package retry
