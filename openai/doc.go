// Package openai makes calls to OpenAI-compatible APIs resilient, as an
// http.RoundTripper under the SDK a service already has.
//
// NewTransport assembles the chain retry → rate limits → breaker → attempt
// metrics → base:
//
//	client := &http.Client{Transport: openai.NewTransport(nil, openai.Config{})}
//
// The Transport names a request's endpoint and hands it to package retry, which
// reads the payload once, tells what it says of the model, and shares it between
// all attempts. An attempt is held back while its rate limit is exhausted, and
// passes package breaker, which leaves a broken provider alone. The operation is
// recorded when it is over: with the last byte of its answer, an error or Close,
// after all attempts.
//
// A request's path through the files: transport.go is the entrance and the
// assembly; endpoint.go knows what may be repeated; call.go, lookup.go and
// modelname.go read the payload; keys.go tells budgets and deployments apart;
// pacing.go keeps to rate limits, one for each account of pacing_key.go. Its
// answer's path: answer.go follows the bytes, stream.go, template.go and
// jsoncheck.go what they mean, usage.go what they tell, clock.go how long they
// take; observe.go tells the breaker, delivery.go the retry layer; metrics.go
// records attempts, streams and operations.
package openai
