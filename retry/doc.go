// Package retry is an [http.RoundTripper] that repeats calls which may yet
// succeed:
//
//	client := &http.Client{Transport: retry.NewTransport(http.DefaultTransport, retry.Config{})}
//
// For calls to OpenAI-compatible APIs, package
// [github.com/retrip-go/retrip/openai], imported as retrip, has it in its chain,
// with the rules of those APIs.
//
// A [Transport] reads the payload of a request once, sends it, and decides from
// the response or the error whether another attempt follows. It waits for as
// long as the server asks, or for a backoff. All attempts send the same bytes.
// [Config.Policy] says what is worth another attempt, and [Config.Safe] what may
// be repeated at all. The effect of a POST may have happened although its answer
// was lost, so that one without an idempotency key is sent once.
//
// A call whose attempts, time or [Budget] run out ends at once: the caller gets
// the last response as it is, with its body readable from the first byte. There
// is an error only where there was no response. [WithReport] records which attempts
// were made, and [Config.OnRetry] is called before each wait.
package retry
