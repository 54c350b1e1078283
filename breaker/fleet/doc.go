// Package fleet has processes tell each other, through a Redis or Valkey that they
// share, which providers their circuit breakers have found down.
//
//	shared := fleet.NewRedis(client, fleet.Config{}) // client: the service's own *redis.Client
//	defer shared.Close()
//	transport := retrip.NewTransport(nil, retrip.Config{Breaker: breaker.Config{Fleet: shared}})
//
// It is advice, and no more: [breaker.Fleet] says what a breaker makes of it. A call
// never waits for Redis. Where Redis is gone, frozen, slow, full or flushed, each
// process is on its own, as without a fleet.
//
// What is shared is the names of the breakers that have opened by their own
// failures, with a random number for the process and the time at which it probes:
// no counts, no successes, no prompts, no credentials. A name is that of the
// breaker, as "https://api.openai.com chat gpt-4o"; with [Config.HashKeys] it is a
// hash of that.
//
// # What Redis has to do
//
// A [Redis] has two connections of its own, one that is subscribed to the channel
// Prefix + "advice", with a PING every 3 s, and one for commands. An advice is
// published there and stored in the sorted set of the same name, for those who come
// later or have lost their connection: TIME, then PUBLISH, ZADD, ZREMRANGEBYSCORE and
// PEXPIRE in one pipeline. That is two round trips for each breaker that opens. TIME
// follows every 15 s. At the start, after each reconnect and after a failure the set is
// read, by one ZRANGEBYSCORE of at most 1,024 members. In a cluster all of it is in one
// slot, and its client asks for CLUSTER SLOTS and COMMAND too. A user for it needs no
// more than
//
//	ACL SETUSER retrip on >secret resetkeys ~retrip:* resetchannels &retrip:* +hello +ping +time +subscribe +publish +zadd +zremrangebyscore +zrangebyscore +pexpire
//
// Times are those of the server's clock; those of the processes need not agree. What
// is over, or ends more than 120 s ahead, is dropped, and so is what has another
// version or is no advice at all. What is read is bounded in size and number; a
// connection on which more comes is closed, and another made.
// Any client that may publish there can have breakers opened, though none of a process that
// is served: keep others out by the user's rights.
//
// # Metrics
//
//   - retrip.fleet.published, retrip.fleet.received: advice
//   - retrip.fleet.dropped: advice that got no further, by retrip.fleet.reason:
//     queue_full (more than 256 waited), failed (Redis did not take it), not_stored
//     (it was published only), late (over, or too far ahead), invalid
//   - retrip.fleet.connected: 1 if Redis answered the latest command, else 0
package fleet
