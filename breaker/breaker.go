package breaker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/measure"
)

// every is the number of successes for which the clock is read once. Reading it
// for each would cost more than all else that a success does.
const every = 16

// A Breaker is the state machine of one key. Make it with [New], for calls that
// are not HTTP, or get it from [Transport.Breaker]. Its methods are safe for
// concurrent use. While it is closed, a request that succeeds allocates nothing,
// and takes no lock unless it ends a row of failures.
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
	sent      atomic.Int64 // requests admitted while a row of failures was under way

	mu         sync.Mutex
	m          machine
	announcing bool // a goroutine is calling the callbacks
}

// New returns a closed [Breaker] named cfg.Name. It does not use cfg's Key,
// MaxKeys and Observe. If cfg is not valid, Allow returns a [*ConfigError]. Close
// it when it is no longer used, unless that is at the end of the program.
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

// newBreaker makes a breaker that is not joined to a Fleet. start is the zero of its
// clock, which the breakers of a Transport share.
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

// now returns the time on the breaker's clock. It is monotonic, so that a clock that is
// set does not open or close anything.
func (b *Breaker) now() int64 { return int64(time.Since(b.start)) }

// time returns a time of the breaker's clock for those who read it.
func (b *Breaker) time(at int64) time.Time { return b.start.Add(time.Duration(at)) }

// all returns the number of successes, those of streams from their first event.
func (b *Breaker) all() uint64 { return b.plain.Load() + b.streams.Load() }

// tally returns the successes so far. The two numbers may differ by successes that come
// between the reads, which is exact enough for what they decide.
func (b *Breaker) tally() tally {
	plain := b.plain.Load()
	return tally{
		all: plain + b.streams.Load(), ended: plain + b.endedWell.Load(),
		sent: b.sent.Load() - int64(b.ignored.Load()),
	}
}

// lock locks the machine, and brings its windows up to now: whatever is counted
// next belongs there.
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

// unlock ends what began with lock. It reports whether there are changes to
// announce: the caller does so when all else is done, since callbacks may panic.
func (b *Breaker) unlock() (w word, changed bool) {
	w = b.publish()
	changed = len(b.m.changes) > 0
	b.mu.Unlock()
	return w, changed
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
// methods. In a half-open breaker the request holds a place until then, or until
// the place runs out; see [Config.ProbeTimeout]. The Permit is the caller's, so that
// nothing is allocated. It may be used again once it is settled.
func (b *Breaker) Allow(p *Permit) error {
	w := word(b.word.Load())
	if w&wordState != 0 {
		return b.allowSlowly(p)
	}
	if w&wordRow != 0 {
		b.sent.Add(1)
	}
	*p = Permit{b: b, word: w}
	return nil
}

// allowSlowly is Allow for a breaker that is not simply closed.
func (b *Breaker) allowSlowly(p *Permit) error {
	if b.invalid != nil {
		return b.invalid
	}
	now, t := b.lock()
	a := b.m.admit(now, t)
	w, changed := b.unlock()
	if !a.ok {
		b.rejected.Add(1)
		b.calls.Add(context.Background(), 1, b.label.rejected)
		return &OpenError{Key: b.key, RetryAfter: a.wait}
	}
	*p = Permit{b: b, word: w, probe: a.probe}
	if changed {
		b.announceOrIgnore(p)
	}
	return nil
}

// announceOrIgnore announces the change that came with an admission. If a callback
// panics the caller never gets the permit, so that its place has to be free again.
func (b *Breaker) announceOrIgnore(p *Permit) {
	done := false
	defer func() {
		if !done {
			p.Ignore()
		}
	}()
	b.announce()
	done = true
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

// change makes a change that an operator asks for.
func (b *Breaker) change(how func(m *machine, now int64, t tally)) {
	now, t := b.lock()
	how(&b.m, now, t)
	if _, changed := b.unlock(); changed {
		b.announce()
	}
}

// announce reports the machine's changes to the Fleet, the metrics, OnStateChange
// and the Logger, in order and outside the lock: a callback may use the Breaker.
// What changes meanwhile is announced by the goroutine that is already at it.
func (b *Breaker) announce() { drain(&b.mu, &b.announcing, b.m.nextChange, b.announceOne) }

// announceOne reports one change. The hook comes last, and also after a Logger that
// panics: a program may depend on it.
func (b *Breaker) announceOne(c change) {
	ctx := context.Background()
	if c.advise != 0 {
		b.link.publish(Advice{Name: b.name, Until: b.time(c.advise)})
	}
	b.meters.transitions.Add(ctx, 1, b.label.transition(c.from, c.to))
	if hook := b.cfg.OnStateChange; hook != nil { // also if the Logger panics
		defer hook(StateChange{Key: b.key, From: c.from, To: c.to, At: b.time(c.at), Seq: c.seq, Reason: c.reason})
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

// idle reports whether nothing but counts of successes is lost with the breaker. Such a
// breaker goes first when there are too many.
func (b *Breaker) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m.idle(b.now(), b.tally())
}
