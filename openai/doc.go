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
// provider alone. One operation is recorded for each call, when its answer has
// been read to its end, is closed or has failed.
//
// [Delivery] says when an answer becomes the caller's. What goes wrong before is
// repeated where the request may be; what goes wrong after cannot be taken back,
// and ends the body in an error. [Config] has the settings, with their defaults.
//
// With [Config.Targets] a call that fails at one place is answered by another: a
// [Target] has its own address and credentials.
//
// The stream of a response that runs in the background is taken up again when it
// breaks off, from its last whole event: see [ResumeError].
//
// Which calls are repeated, [DefaultSafe] says; after what, [DefaultPolicy].
package openai
