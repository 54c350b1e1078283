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
	// probes_succeeded, places_ran_out, open_duration_over, tripped and reset;
	// with a Fleet also failure_after_advice and advised_by_others.
	Reason string
}

// A Snapshot is a breaker at one moment.
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

// A word is what a request must know of the breaker to pass it while it is
// closed, and what its success must know to end a row of failures. From the
// lowest bit: two bits of state, one that says that a row is under way, one that
// says that the breaker is wary, 28 of the row's number, 32 that count generations.
type word uint64

const (
	wordInvalid    = 3 // in place of a state: the Config is
	wordState      = 3
	wordRow        = 1 << 2
	wordWary       = 1 << 3
	wordRowNumber  = 4
	wordGeneration = 32
)

func newWord(m *machine) word {
	w := word(m.generation)<<wordGeneration | word(m.state)
	if m.row.number != 0 {
		w |= wordRow | word(m.row.number<<wordRowNumber)&(1<<wordGeneration-1)
	}
	if m.others != (others{}) {
		w |= wordWary
	}
	return w
}

// sameRow reports whether two words are of the same row, or of none, in the same
// generation.
func (w word) sameRow(v word) bool { return (w^v)&^wordWary == 0 }

func (w word) state() State       { return State(w & wordState) }
func (w word) generation() uint32 { return uint32(w >> wordGeneration) }

// every is the number of successes for which the clock is read once.
const every = 16

// A Breaker is the state machine of one key. Make it with [New] or get it from
// [Transport.Breaker]. Its methods are safe for concurrent use.
type Breaker struct {
	key     string
	target  string
	cfg     *Config
	invalid error
	start   time.Time // the zero of the breaker's clock
	meters  *meters
	calls   measure.Counter // of meters
	label   *label
	own     bool   // the meters and the link are the Breaker's own, to be closed with it
	link    *link  // to other processes; nil without a Fleet
	name    string // in advice

	word   atomic.Uint64
	rollAt atomic.Int64 // when the newest bucket of a window ends

	// Every success writes plain: it must not share a cache line with what
	// every request reads.
	_         [64]byte
	plain     atomic.Uint64 // successes but those of streams
	seen      atomic.Uint64 // all successes, when the clock was read last
	served    atomic.Int64  // when the clock was read last and there was a new success
	_         [40]byte
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
	b := newBreaker(labelled{name: cfg.Name}, &cfg, time.Now(), newMeters(cfg.MeterProvider), err)
	b.own = true
	b.meters.observe(func(each func(*Breaker)) { each(b) })
	b.link = newLink(&cfg, func(name string, f func(*Breaker)) bool {
		if b.name != name {
			return false
		}
		f(b)
		return true
	})
	b.join()
	b.link.open()
	return b
}

func newBreaker(of labelled, cfg *Config, start time.Time, meters *meters, invalid error) *Breaker {
	b := &Breaker{key: of.name, cfg: cfg, invalid: invalid, start: start, meters: meters, calls: meters.calls, label: meters.label(of)}
	b.m = newMachine(cfg, b.now())
	b.served.Store(never)
	b.publish()
	return b
}

// Close unregisters the callbacks of a Breaker made by New, and has it hear no
// more of its Fleet. It may go on to be used.
func (b *Breaker) Close() error {
	if !b.own {
		return nil
	}
	b.link.close()
	return b.meters.close()
}

func (b *Breaker) now() int64 { return int64(time.Since(b.start)) }

func (b *Breaker) time(at int64) time.Time { return b.start.Add(time.Duration(at)) }

// all returns the number of successes.
func (b *Breaker) all() uint64 { return b.plain.Load() + b.streams.Load() }

// tally returns the successes so far.
func (b *Breaker) tally() tally {
	plain := b.plain.Load()
	return tally{all: plain + b.streams.Load(), ended: plain + b.endedWell.Load()}
}

// lock locks the machine, for what happens now.
func (b *Breaker) lock() (now int64, t tally) {
	b.mu.Lock()
	now, t = b.now(), b.tally()
	seen := b.seen.Swap(t.all)
	if seen != t.all {
		b.served.Store(now)
	}
	b.m.roll(now, seen)
	return now, t
}

// unlock ends what began with lock. It reports whether there are changes to tell:
// the caller does so when all else is done, since callbacks may panic.
func (b *Breaker) unlock() (w word, tells bool) {
	w = b.publish()
	tells = len(b.m.changes) > 0
	b.mu.Unlock()
	return w, tells
}

// publish makes the machine's state known to the requests that take no lock.
func (b *Breaker) publish() word {
	w := newWord(&b.m)
	if b.invalid != nil {
		w |= wordInvalid
	}
	b.word.Store(uint64(w))
	b.rollAt.Store(b.m.rollAt())
	return w
}

// Allow admits a request, or returns an [*OpenError] (a [*ConfigError] if the
// Config was not valid). An admitted request must settle p with one of its
// methods; p must not be in use. What p was before does not matter.
func (b *Breaker) Allow(p *Permit) error {
	w := word(b.word.Load())
	if w&wordState != 0 {
		return b.allowSlowly(p)
	}
	*p = Permit{b: b, word: w}
	return nil
}

func (b *Breaker) allowSlowly(p *Permit) error {
	if b.invalid != nil {
		return b.invalid
	}
	now, t := b.lock()
	a := b.m.admit(now, t)
	w, tells := b.unlock()
	if !a.ok {
		b.rejected.Add(1)
		b.calls.Add(context.Background(), 1, b.label.rejected)
		return &OpenError{Key: b.key, RetryAfter: a.wait}
	}
	*p = Permit{b: b, word: w, probe: a.probe}
	if tells {
		b.tellOrIgnore(p)
	}
	return nil
}

// tellOrIgnore tells of the change that came with an admission. If a callback
// panics nobody learns of the permit, whose place has to be free again.
func (b *Breaker) tellOrIgnore(p *Permit) {
	told := false
	defer func() {
		if !told {
			p.Ignore()
		}
	}()
	b.tell()
	told = true
}

// State returns the breaker's state. An open one counts as half open as soon
// as it would let a probe through.
func (b *Breaker) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.stateAt(b.now())
}

// Trip opens the breaker, or keeps it open, for Config.OpenDuration from now.
// Then it is half open, as after failures: it closes when probes succeed.
func (b *Breaker) Trip() { b.change((*machine).trip) }

// Reset closes the breaker and forgets all that it has learned, also how long
// it was open before. Requests that were admitted before it do not count.
func (b *Breaker) Reset() { b.change((*machine).reset) }

func (b *Breaker) change(how func(m *machine, now int64, t tally)) {
	now, t := b.lock()
	how(&b.m, now, t)
	if _, tells := b.unlock(); tells {
		b.tell()
	}
}

// Snapshot returns the breaker as it is now.
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

// tell tells the world of the machine's changes, in order and outside the
// lock. Those that happen meanwhile are told by whoever is at it.
func (b *Breaker) tell() { drain(&b.mu, &b.telling, b.m.nextChange, b.tellOne) }

func (b *Breaker) tellOne(c change) {
	ctx := context.Background()
	if c.advise != 0 {
		b.link.publish(Advice{Name: b.name, Until: b.time(c.advise)})
	}
	b.meters.transitions.Add(ctx, 1, b.label.transition(c.from, c.to))
	if told := b.cfg.OnStateChange; told != nil { // also if the Logger panics
		defer told(StateChange{Key: b.key, From: c.from, To: c.to, At: b.time(c.at), Seq: c.seq, Reason: c.reason})
	}
	if b.cfg.Logger != nil {
		level := slog.LevelInfo
		if c.to == Open {
			level = slog.LevelWarn
		}
		b.cfg.Logger.LogAttrs(ctx, level, "circuit breaker changed its state",
			slog.String("key", printable(b.key)), slog.String("from", c.from.String()), slog.String("to", c.to.String()),
			slog.String("reason", c.reason), slog.Uint64("seq", c.seq))
	}
}

// idle reports whether nothing but counts of successes is lost with the breaker.
func (b *Breaker) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.idle(b.now(), b.tally())
}

// A gate tells package retry what a Breaker would say.
type gate Breaker

// RefusesFor returns for how long the breaker is certain to refuse requests from
// now on; 0 if it may admit one.
func (g *gate) RefusesFor() time.Duration {
	b := (*Breaker)(g)
	if word(b.word.Load()).state() != Open {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.refusesFor(b.now())
}

// FailuresInARow returns how many failures count in the row under way.
func (g *gate) FailuresInARow() int {
	b := (*Breaker)(g)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.row.counted
}
