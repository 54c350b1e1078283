// Package breaker protects an API, and its callers, from calls that are bound
// to fail: a circuit breaker that knows streams and broken bodies.
//
// [NewTransport] is an [net/http.RoundTripper] over any other, with one
// breaker a host. It learns how a request ended not from its headers but from
// its body: a JSON answer is a success once it has been read to its end, a
// stream of server-sent events once its first event is there, and a stream
// that breaks later turns from a success into a failure. [New] is the state
// machine alone, for calls that are not HTTP.
//
// A breaker is closed, open or half open:
//
//   - closed: every request goes through. [Config.FailureThreshold] failures
//     in a row open the breaker, and so does a share of
//     [Config.FailureRatio] failures. On a busy key, one with at least
//     [Config.MinRequests] outcomes in the [Config.Window], those failures
//     must lie at least a second apart: one lost connection takes fifty
//     streams with it in no time.
//   - open: every request is refused with an [OpenError] before it is sent,
//     for [Config.OpenDuration], or for as long as the failure that opened the
//     breaker asked to wait.
//   - half open: at most [Config.MaxProbes] requests at a time go through. One
//     failure opens the breaker again, [Config.SuccessThreshold] successes
//     close it.
//
// A 429 and other 4xx are no failures: they, and requests the caller gave up,
// count as nothing.
package breaker
