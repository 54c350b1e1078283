package breaker

import (
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// quorum is the number of other origins whose advice opens a breaker that has not
// been served for 5 s, without a failure of its own.
const quorum = 2

const (
	servedLately = 5 * time.Second // ago at most, who is served opens for no quorum
	never        = math.MinInt64 / 2
	maxJitter    = 250   // thousandths
	maxEarly     = 1_024 // keys that are not known yet, but advised about
)

// An Advice says that a breaker is open by its own failures.
type Advice struct {
	Name   string    // of the breaker's key, as Fleet.Name calls it
	Origin string    // who says so; the Fleet fills it in
	Until  time.Time // when the breaker lets a probe through; at most 120 s ahead
}

// A Fleet carries advice between processes that call the same providers. Package
// [github.com/retrip-go/retrip/breaker/fleet] has one over Redis.
//
// What is published is only what a breaker's own failures have opened: no opening
// on advice, no Trip, no counts. A closed breaker that is advised becomes wary:
// its own next outcome decides. A failure opens it; a success ends its wariness,
// until somebody advises anew. With advice from a quorum of two other origins, a
// breaker that has had no success in the last 5 s opens at once, until the time
// that so many agree on. (Successes are not timed one by one: one may be taken
// for younger than it is, until a failure or some further advice comes.) So a few
// sick replicas shut nobody out who is served. With a Fleet, a breaker that has
// opened stays so for up to a quarter longer, by chance, so that replicas do not
// probe together.
//
// Advice about a key that is not known here is kept for it until it is over, for
// 1,024 keys at most.
//
// All methods must be safe for concurrent use, and none may block: requests wait
// for them. A method that panics is as one that does nothing; a line in
// Config.Logger says so.
type Fleet interface {
	// Name returns what advice about a key is called. It is asked once for
	// each new breaker. One that is called "" has no part in the Fleet.
	Name(key string) string

	// Publish hands advice to the other processes. Its Origin is empty.
	Publish(a Advice)

	// Subscribe has f called with the advice of others, until stop is called.
	// f does not block. Advice whose Origin is this process's own must not
	// be passed on.
	Subscribe(f func(Advice)) (stop func())
}

// others are those who advise a breaker: the two whose advice lasts the longest,
// that one first. More need not be known. The zero value is nobody.
type others [quorum]adviser

type adviser struct {
	origin string
	until  int64
}

// add takes advice. An origin's shorter advice does not undo its longer one.
func (o *others) add(origin string, until int64) {
	at := len(o) - 1 // who gives way
	for i, a := range o {
		if a.until != 0 && a.origin == origin {
			at = i
		}
	}
	if until <= o[at].until {
		return
	}
	o[at] = adviser{origin, until}
	for ; at > 0 && o[at].until > o[at-1].until; at-- {
		o[at], o[at-1] = o[at-1], o[at]
	}
}

// wary reports whether any advice still holds.
func (o *others) wary(now int64) bool { return o[0].until > now }

// agreed returns until when a quorum advises, 0 if there is none.
func (o *others) agreed() int64 { return o[len(o)-1].until }

// A link connects the breakers of a Transport, or one alone, with a Fleet. nil is
// one without.
type link struct {
	cfg  *Config
	find func(name string, f func(*Breaker)) (found bool)

	start time.Time // the zero of its clock

	mu     sync.Mutex
	stop   func()
	closed bool
	early  map[string]others // advice about keys that are not known, by its name
}

// newLink returns a link to cfg's Fleet. find calls a function with all breakers
// of a name; none is added meanwhile.
func newLink(cfg *Config, find func(name string, f func(*Breaker)) bool) *link {
	if cfg.Fleet == nil {
		return nil
	}
	return &link{cfg: cfg, find: find, start: time.Now(), early: make(map[string]others)}
}

// open has the link hear of the Fleet.
func (l *link) open() {
	if l == nil {
		return
	}
	defer l.guard("Subscribe")
	stop := l.cfg.Fleet.Subscribe(l.hear)
	l.mu.Lock()
	l.stop = stop
	l.mu.Unlock()
}

// close has the link hear of the Fleet no more.
func (l *link) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	stop := l.stop
	l.stop, l.closed = nil, true
	clear(l.early)
	l.mu.Unlock()
	if stop != nil {
		defer l.guard("the function that Subscribe returned")
		stop()
	}
}

// publish tells the Fleet.
func (l *link) publish(a Advice) {
	if l == nil || a.Name == "" {
		return
	}
	defer l.guard("Publish")
	l.cfg.Fleet.Publish(a)
}

// nameOf asks the Fleet for a key's name.
func (l *link) nameOf(key string) (name string) {
	defer l.guard("Name")
	return l.cfg.Fleet.Name(key)
}

// hear takes advice from the Fleet.
func (l *link) hear(a Advice) {
	for _, b := range l.addressees(a) {
		l.pass(a, b)
	}
}

// pass passes advice on. What follows may run callbacks. Their panics must not end
// the goroutine of the Fleet, which serves other breakers too.
func (l *link) pass(a Advice, b *Breaker) {
	defer l.guard("OnStateChange, on advice")
	b.advise(a)
}

// addressees returns the breakers that advice is about. If there are none it is
// kept.
func (l *link) addressees(a Advice) (all []*Breaker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || a.Name == "" || time.Until(a.Until) <= 0 {
		return nil
	}
	if !l.find(a.Name, func(b *Breaker) { all = append(all, b) }) {
		l.keep(a)
	}
	return all
}

// keep keeps advice about a key that is not known yet. Where there is too much of
// it, what is over makes room, else nothing does.
func (l *link) keep(a Advice) {
	now := int64(time.Since(l.start))
	kept, known := l.early[a.Name]
	if !known && len(l.early) >= maxEarly {
		maps.DeleteFunc(l.early, func(_ string, o others) bool { return !o.wary(now) })
		if len(l.early) >= maxEarly {
			return
		}
	}
	kept.add(a.Origin, min(int64(a.Until.Sub(l.start)), now+int64(longestOpen)))
	l.early[a.Name] = kept
}

// catchUp tells a new breaker what was kept for it.
func (l *link) catchUp(b *Breaker) {
	if l == nil {
		return
	}
	for _, a := range l.take(b.name) {
		if a.until != 0 {
			l.pass(Advice{Origin: a.origin, Until: l.start.Add(time.Duration(a.until))}, b)
		}
	}
}

func (l *link) take(name string) others {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.early[name]
	delete(l.early, name)
	return kept
}

// guard is deferred around foreign code that must not cost more than itself.
func (l *link) guard(who string) {
	if r := recover(); r != nil && l.cfg.Logger != nil {
		l.cfg.Logger.Error("circuit breaker's fleet panicked",
			slog.String("in", who), slog.Any("panic", r))
	}
}

// join gives a breaker its name in the fleet, and a moment of its own to probe at.
func (b *Breaker) join() {
	if b.link == nil {
		return
	}
	b.name = b.link.nameOf(b.key)
	b.m.jitter = rand.Int64N(maxJitter + 1)
}

// advise takes the word of another process.
func (b *Breaker) advise(a Advice) {
	now, t := b.lock()
	b.m.advise(now, t, b.served.Load(), a.Origin, int64(a.Until.Sub(b.start)))
	if _, changed := b.unlock(); changed {
		b.announce()
	}
}
