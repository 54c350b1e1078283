package breaker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/measure"
)

// A State is that of a breaker. The zero value is Closed.
type State int

// The states.
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

// MarshalText returns what String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A StateChange is one transition of one breaker.
type StateChange struct {
	Key      string // of the breaker
	From, To State
	At       time.Time
	Seq      uint64 // counts the breaker's changes from 1

	// Reason is one of failures_in_a_row, failure_ratio, probe_failed,
	// probes_succeeded, places_ran_out, open_duration_over, tripped and reset.
	Reason string
}

// A Snapshot is a breaker at one moment.
type Snapshot struct {
	Key   string    `json:"key"`
	State State     `json:"state"`
	Since time.Time `json:"since"` // when the breaker changed its state, or was made
	Seq   uint64    `json:"seq"`   // of the last StateChange

	// The outcomes in the window, while the breaker is closed. Up to fifteen
	// successes may be missing, and as many of streams: the clock is not read
	// for each.
	Successes           uint64 `json:"successes"`
	Failures            uint64 `json:"failures"`
	ConsecutiveFailures int    `json:"consecutive_failures"`

	ProbeAt time.Time `json:"probe_at,omitzero"` // zero unless the breaker is open
	Probes  int       `json:"probes"`            // under way

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

// A word is what a request must know of the breaker to pass it while it is
// closed. From the lowest bit: two bits of state, 22 to come, 40 that count
// generations.
type word uint64

const (
	wordInvalid    = 3 // in place of a state: the Config is
	wordNotClosed  = 3 // set in anything but a closed breaker
	wordGeneration = 24
)

func (w word) state() State       { return State(w & 3) }
func (w word) generation() uint64 { return uint64(w >> wordGeneration) }

// every is the number of successes for which the clock is read once.
const every = 16

// A Breaker is the state machine of one key. Make it with [New] or get it from
// [Transport.Breaker]. Its methods are safe for concurrent use.
type Breaker struct {
	key     string
	cfg     *Config
	invalid error
	start   time.Time // the zero of the breaker's clock
	meters  *meters
	calls   measure.Counter // of meters
	label   *label
	own     bool // the meters are the Breaker's own, to be closed with it

	word   atomic.Uint64
	rollAt atomic.Int64 // when the window's newest bucket ends

	// Every success writes plain: it must not share a cache line with what
	// every request reads.
	_         [64]byte
	plain     atomic.Uint64 // successes but those of streams
	_         [56]byte
	streams   atomic.Uint64 // successes of streams
	endedWell atomic.Uint64 // streams with a success that came to a good end
	revoked   atomic.Uint64 // successes of streams that turned into failures
	failures  atomic.Uint64
	ignored   atomic.Uint64
	stale     atomic.Uint64
	rejected  atomic.Uint64

	mu      sync.Mutex
	m       machine
	telling bool // somebody is telling the changes
}

// New returns a closed Breaker named cfg.Name. It does not use cfg's Key,
// MaxKeys and Observe. If cfg is not valid, Allow returns a [*ConfigError].
func New(cfg Config) *Breaker {
	err := cfg.Validate()
	cfg = cfg.withDefaults()
	b := newBreaker(cfg.Name, &cfg, time.Now(), newMeters(cfg.MeterProvider), err)
	b.own = true
	b.meters.observe(func(each func(*Breaker)) { each(b) })
	return b
}

func newBreaker(key string, cfg *Config, start time.Time, meters *meters, invalid error) *Breaker {
	b := &Breaker{key: key, cfg: cfg, invalid: invalid, start: start, meters: meters, calls: meters.calls, label: meters.label(key)}
	b.m = newMachine(cfg)
	now := b.now()
	b.m.since = now
	b.m.window.roll(now, 0)
	b.publish()
	return b
}

// Close unregisters the callbacks of a Breaker made by New. It may go on to be
// used.
func (b *Breaker) Close() error {
	if b.own {
		return b.meters.close()
	}
	return nil
}

func (b *Breaker) now() int64 { return int64(time.Since(b.start)) }

func (b *Breaker) time(at int64) time.Time { return b.start.Add(time.Duration(at)) }

func (b *Breaker) tally() tally {
	plain := b.plain.Load()
	return tally{all: plain + b.streams.Load(), enders: plain + b.endedWell.Load()}
}

// Allow admits a request, or returns an [*OpenError] (a [*ConfigError] if the
// Config was not valid). An admitted request must settle p with one of its
// methods; p must not be in use. What p was before does not matter.
func (b *Breaker) Allow(p *Permit) error {
	w := word(b.word.Load())
	if w&wordNotClosed != 0 {
		return b.allowSlowly(p)
	}
	*p = Permit{b: b, word: w}
	return nil
}

func (b *Breaker) allowSlowly(p *Permit) error {
	if b.invalid != nil {
		return b.invalid
	}
	b.mu.Lock()
	now := b.now()
	a := b.m.admit(now, b.tally())
	w := b.unlock()
	switch {
	case a.ok:
		*p = Permit{b: b, word: w, probe: a.probe}
		return nil
	default:
		b.rejected.Add(1)
		b.calls.Add(context.Background(), 1, b.label.rejected)
		return &OpenError{Key: b.key, RetryAfter: a.wait}
	}
}

// State returns the breaker's state. An open one counts as half open as soon
// as it would let a probe through.
func (b *Breaker) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.stateAt(b.now())
}

// Trip opens the breaker, or keeps it open, for Config.OpenDuration from now.
func (b *Breaker) Trip() {
	b.mu.Lock()
	now := b.now()
	b.m.trip(now, b.tally())
	b.unlock()
}

// Reset closes the breaker and forgets all outcomes.
func (b *Breaker) Reset() {
	b.mu.Lock()
	now := b.now()
	b.m.reset(now, b.tally())
	b.unlock()
}

// Snapshot returns the breaker as it is now.
func (b *Breaker) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, t := b.now(), b.tally()
	s := Snapshot{
		Key:                 b.key,
		State:               b.m.stateAt(now),
		Since:               b.time(b.m.since),
		Seq:                 b.m.seq,
		ConsecutiveFailures: b.m.run.lengthNow(t.enders),
		Totals: Totals{
			Success:  t.all - b.revoked.Load(),
			Failure:  b.failures.Load(),
			Ignored:  b.ignored.Load(),
			Stale:    b.stale.Load(),
			Rejected: b.rejected.Load(),
		},
	}
	if b.m.state == Closed {
		s.Successes, s.Failures = b.m.window.counts(now, t.all)
	}
	if s.State == Open {
		s.ProbeAt = b.time(b.m.openUntil)
	}
	for _, p := range b.m.probes {
		if p.id != 0 && p.deadline > now {
			s.Probes++
		}
	}
	return s
}

// publish makes the machine's state known to the requests that take no lock.
func (b *Breaker) publish() word {
	w := word(b.m.generation)<<wordGeneration | word(b.m.state)
	if b.invalid != nil {
		w |= wordInvalid
	}
	b.word.Store(uint64(w))
	b.rollAt.Store(b.m.window.end())
	return w
}

// unlock ends what began with mu.Lock and may have changed the machine.
func (b *Breaker) unlock() word {
	w := b.publish()
	tell := len(b.m.changes) > 0 && !b.telling
	b.telling = b.telling || tell
	b.mu.Unlock()
	if tell {
		b.tell()
	}
	return w
}

// tell tells the world of the machine's changes, in order and outside the
// lock. Changes that happen meanwhile are told by whoever is at it.
func (b *Breaker) tell() {
	done := false
	defer func() {
		if done {
			return
		}
		// A callback panicked: the next change is told again.
		b.mu.Lock()
		b.telling = false
		b.mu.Unlock()
	}()
	for !done {
		b.mu.Lock()
		changes := b.m.changes
		b.m.changes = nil
		done = len(changes) == 0
		b.telling = !done
		b.mu.Unlock()
		for _, c := range changes {
			b.tellOne(c)
		}
	}
}

func (b *Breaker) tellOne(c change) {
	ctx := context.Background()
	b.meters.transitions.Add(ctx, 1, b.label.transition(c.from, c.to))
	if b.cfg.Logger != nil {
		level := slog.LevelInfo
		if c.to == Open {
			level = slog.LevelWarn
		}
		b.cfg.Logger.LogAttrs(ctx, level, "circuit breaker changed its state",
			slog.String("key", b.key), slog.String("from", c.from.String()), slog.String("to", c.to.String()),
			slog.String("reason", c.reason), slog.Uint64("seq", c.seq))
	}
	if b.cfg.OnStateChange != nil {
		b.cfg.OnStateChange(StateChange{Key: b.key, From: c.from, To: c.to, At: b.time(c.at), Seq: c.seq, Reason: c.reason})
	}
}

// idle reports whether the breaker is closed: nothing but counts is lost with
// it.
func (b *Breaker) idle() bool { return word(b.word.Load()).state() == Closed }

// RefusesFor returns for how long the breaker would refuse requests from now
// on, and 0 if it would admit one now.
func (b *Breaker) RefusesFor() time.Duration {
	if word(b.word.Load())&wordNotClosed == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.refusesFor(b.now())
}
