package breaker

import (
	"time"
)

// A Snapshot is a breaker at one moment. Its JSON is meant for status pages, and
// is as stable as the fields.
type Snapshot struct {
	Key    string    `json:"key"`
	Target string    `json:"target,omitempty"` // in the chain, the target that it watches over, if there are several
	State  State     `json:"state"`
	Since  time.Time `json:"since"` // when the breaker changed its state, or was made
	Seq    uint64    `json:"seq"`   // of the last StateChange

	// The outcomes in the window, while the breaker is closed. The clock is not
	// read for each success: up to fifteen may be missing, or count for too
	// long, and as many of streams.
	Successes           uint64 `json:"successes"`
	Failures            uint64 `json:"failures"`
	ConsecutiveFailures int    `json:"consecutive_failures"` // that count in the row under way

	ProbeAt time.Time `json:"probe_at,omitzero"` // zero unless the breaker is open
	Probes  int       `json:"probes"`            // that hold a place

	Totals Totals `json:"totals"`
}

// Totals are what became of all requests since the breaker was made. A
// stream's Success counts from its first event on.
type Totals struct {
	Success  uint64 `json:"success"`
	Failure  uint64 `json:"failure"`
	Ignored  uint64 `json:"ignored"`
	Stale    uint64 `json:"stale"`    // settled after a change of state, and not counted in it
	Rejected uint64 `json:"rejected"` // by an open or half-open breaker
}

// Snapshot returns the breaker as it is now. It takes the breaker's lock for a moment,
// as a failure does. The totals are read one after the other while requests go on, so
// that they may differ by those.
func (b *Breaker) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, all := b.now(), b.all()
	s := Snapshot{
		Key:                 b.key,
		Target:              b.target,
		State:               b.m.stateAt(now),
		Since:               b.time(b.m.since),
		Seq:                 b.m.seq,
		ConsecutiveFailures: b.m.row.counted,
		Totals: Totals{
			Success:  all - b.revoked.Load(),
			Failure:  b.failures.Load(),
			Ignored:  b.ignored.Load(),
			Stale:    b.stale.Load(),
			Rejected: b.rejected.Load(),
		},
	}
	if b.m.state == Closed {
		s.Successes, s.Failures = b.m.window.counts(now, all)
	}
	if s.State == Open {
		s.ProbeAt = b.time(b.m.openUntil)
	}
	s.Probes = b.m.places.taken(now)
	return s
}
