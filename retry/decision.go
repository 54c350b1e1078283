package retry

import (
	"time"

	"github.com/retrip-go/retrip/internal/hint"
)

// A Policy decides what follows an attempt. It must be safe for concurrent
// use. It must leave the response's body alone, because the caller may still
// get it: reading the body is for [Config.Inspect].
type Policy func(*Attempt) Decision

// A Decision says what follows an attempt. The zero value is
// Stop(NotRetryable). A Decision asks for another attempt; whether there is
// time, budget and a payload left for one is for the [Transport] to see.
type Decision struct {
	action action
	reason Reason
	after  time.Duration
	most   time.Duration // of a backoff; 0 if there is no bound
	below  bool          // the wait is that of a layer below
}

type action int

const (
	stop action = iota
	afterBackoff
	afterHint
)

// Stop ends the call: the caller gets what the attempt brought. The reason is
// [NotRetryable] if the attempt did not fail, or failed for good. Any other
// reason says why a retryable failure goes to the caller all the same, and
// counts as an exhaustion in the metrics.
func Stop(reason Reason) Decision { return Decision{action: stop, reason: reason} }

// AfterBackoff asks for another attempt after the wait that [Config.Backoff]
// makes.
func AfterBackoff(reason Reason) Decision { return Decision{action: afterBackoff, reason: reason} }

// After asks for another attempt no sooner than after d, as the server
// wishes; 0 is at once. Up to a quarter of d, at most 10 s, is added at
// random, so that callers who got the same hint don't return together. A
// negative d counts as 0. A d above [Config.MaxRetryAfter] ends the call.
func After(d time.Duration, reason Reason) Decision {
	return Decision{action: afterHint, reason: reason, after: hint.Clamp(d)}
}

// AtMost bounds the wait of an [AfterBackoff]. It is for a server that says
// when waiting longer is of no more use. 0 and less is no bound.
func (d Decision) AtMost(most time.Duration) Decision {
	d.most = max(most, 0)
	return d
}

// Below says that a layer below the [Transport] holds the next attempt back,
// as pacing does in package openai. The wait of d is still checked against
// the limits of the call, but the Transport makes the attempt at once.
func (d Decision) Below() Decision {
	d.below = true
	return d
}

// A Reason says in one word why a call is retried or ends. Use the constants:
// a Reason becomes an attribute of the metrics, where others count as
// "_OTHER", so that the number of series stays bounded.
type Reason string

// Reasons for another attempt.
const (
	ReasonRateLimited   Reason = "rate_limited"   // 429
	ReasonServerError   Reason = "server_error"   // 500, 502
	ReasonOverloaded    Reason = "overloaded"     // 503, 529
	ReasonTimeout       Reason = "timeout"        // 408, 504
	ReasonConnection    Reason = "connection"     // no connection, or a lost one
	ReasonBrokenBody    Reason = "broken_body"    // the answer was cut or no JSON
	ReasonStreamError   Reason = "stream_error"   // a stream failed before it brought anything
	ReasonServerSaysYes Reason = "server_says_so" // x-should-retry: true
)

// Reasons to stop.
const (
	NotRetryable      Reason = ""               // success, or a failure that repeating doesn't mend
	StopAttempts      Reason = "attempts"       // MaxAttempts are sent
	StopBudget        Reason = "budget"         // the Budget is empty
	StopDeadline      Reason = "deadline"       // the wait would pass the context's deadline or MaxElapsed
	StopHintTooLong   Reason = "hint_too_long"  // the server asks for more than MaxRetryAfter
	StopNotReplayable Reason = "not_replayable" // not Safe, or a payload too large to keep
	StopRejected      Reason = "rejected"       // a breaker refused the next attempt, or would
	StopServerSaysNo  Reason = "server_says_no" // x-should-retry: false, or a quota is used up
	StopPolicy        Reason = "policy"         // the Policy or the Backoff ends it
)
