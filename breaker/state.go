package breaker

import (
	"time"
)

// A State is that of a [Breaker]. The zero value is Closed, which is how a breaker
// begins.
type State int

// The states; the package documentation says what they mean.
const (
	Closed State = iota
	Open
	HalfOpen
)

// String returns "closed", "open" or "half_open".
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half_open"
	default:
		return "invalid"
	}
}

// MarshalText returns what String does, so that a [Snapshot] reads well as JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A StateChange is one transition of one breaker; see [Config.OnStateChange].
type StateChange struct {
	Key      string // of the breaker
	From, To State
	At       time.Time
	Seq      uint64 // counts the breaker's changes from 1, by which late readers can sort them

	// Reason is one of failures_in_a_row, failure_ratio, probe_failed,
	// probes_succeeded, places_ran_out, open_duration_over, tripped and reset;
	// with a Fleet also failure_after_advice and advised_by_others.
	Reason string
}
