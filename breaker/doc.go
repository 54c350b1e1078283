// Package breaker protects an API, and its callers, from calls that are bound
// to fail: a circuit breaker that knows streams and broken bodies.
//
//	client := &http.Client{Transport: breaker.NewTransport(http.DefaultTransport, breaker.Config{})}
//
// For calls to OpenAI-compatible APIs, package
// [github.com/retrip-go/retrip/openai], imported as retrip, has it in its chain.
//
// [NewTransport] makes a [net/http.RoundTripper] over any other, with one
// breaker a host; in the chain of package openai, one for each endpoint and
// model of a host. It learns how a request ended not from its headers but from
// its body: a JSON answer is a success once it has been read to its end, a
// stream of server-sent events once its first event is there, and a stream
// that breaks later turns from a success into a failure. [New] is the state
// machine alone, for calls that are not HTTP.
//
// A breaker is closed, open or half open:
//
//   - closed: every request goes through. [Config.FailureThreshold] failures
//     in a row open the breaker, and so does a share of [Config.FailureRatio]
//     failures. Evidence needs time. Failures that come together are one: a
//     lost connection takes fifty streams with it, and says no more than with
//     one. It takes a second of failing in a row to open a breaker, or two
//     seconds of failing too often. What is over sooner is saved by retries.
//   - open: every request is refused with an [OpenError] before it is sent.
//     That lasts for 5 s the first time and up to [Config.OpenDuration] where
//     probes fail, or for as long as the failure that opened the breaker asked
//     to wait, but for two minutes at most.
//   - half open: at most [Config.MaxProbes] requests at a time go through. One
//     failure opens the breaker again, [Config.SuccessThreshold] successes
//     close it.
//
// A probe holds its place for as long as the breaker was open, or as long as the
// time limit that the failures ran into, or for [Config.ProbeTimeout]. When a
// place runs out without a failure their number doubles, and when 64 have, the
// breaker closes: a provider whose answers take minutes is not one that is down.
// Once places have run out, so many probes are under way that a failure before
// the end of its place opens the breaker only if [Config.FailureRatio] of all its
// probes have failed. One that comes after it always does.
//
// A breaker that has closed after being half open is on a leash: a row of two
// failures opens it, for as long as the last time. It forgets that after
// [Config.MinRequests] successes that ended well, or after a [Config.Window]
// without a failure.
//
// [Breaker.Trip] and [Breaker.Reset] are for operators who know more than the
// breaker: Trip opens it for Config.OpenDuration, after which it is half open as
// after failures; Reset closes it and forgets everything. [Transport.Breaker]
// finds the breaker to call them on.
//
// Processes that call the same provider may share what has opened, by
// [Config.Fleet]. [Fleet] says what becomes of it.
//
// A 429 and other 4xx are no failures: they, and requests the caller gave up,
// count as nothing.
package breaker
