// Package openai makes calls to OpenAI-compatible APIs resilient. It is an
// [net/http.RoundTripper] under the SDK that a service already has:
//
//	import retrip "github.com/retrip-go/retrip/openai"
//
//	client := &http.Client{Transport: retrip.NewTransport(nil, retrip.Config{})}
//
// [NewTransport] assembles a chain: retry → rate limits → breaker → attempt
// metrics → base. The [Transport] at its entrance recognizes the endpoint by the
// end of the path, whatever stands before it. Package retry reads the payload
// once, and shares it between all attempts. An attempt waits while its rate
// limit is exhausted, and passes package breaker, which leaves a broken
// provider alone. With [Config.Targets] a call goes on to another provider where one
// can't serve it. One operation is recorded for each call, when its answer has
// been read to its end, is closed or has failed.
//
// [Delivery] says when an answer becomes the caller's. What goes wrong before that is
// repeated if the request may be repeated. What goes wrong after it cannot be taken
// back, and ends the body in an error that matches [io.ErrUnexpectedEOF]. [Config] has
// the settings, with their defaults.
//
// With [Config.Targets] a call that fails at one place is answered by another: a
// [Target] has its own address and credentials.
//
// The stream of a response that runs in the background is taken up again when it
// breaks off, from its last whole event: see [ResumeError].
//
// [DefaultSafe] says which calls are repeated, and [DefaultPolicy] after which
// failures. Give each call a deadline by its context: without one, a provider that
// falls silent keeps its caller for as long as [Config.FirstEventTimeout] says.
package openai
