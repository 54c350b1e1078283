package breaker

import (
	"log/slog"
	"maps"
	"sync"
	"time"
)

// maxEarly bounds the keys that are not known yet, but advised about. They come from
// other processes, and must not fill the memory of this one.
const maxEarly = 1_024

// A link connects the breakers of a Transport, or one alone, with a Fleet. A nil link is
// that of a Config without a Fleet. Everything that comes from the Fleet passes here,
// where its panics and its sizes are bounded. It is safe for concurrent use.
type link struct {
	cfg  *Config
	find func(name string, f func(*Breaker)) (found bool)

	start time.Time // the zero of its clock

	mu     sync.Mutex
	stop   func() // ends the subscription; nil before it began and after close
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

// close has the link hear of the Fleet no more. The subscription ends outside the lock,
// because stop may wait for a call of hear, which takes it.
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

// publish hands advice to the Fleet. A breaker without a name there has no part in it.
func (l *link) publish(a Advice) {
	if l == nil || a.Name == "" {
		return
	}
	defer l.guard("Publish")
	l.cfg.Fleet.Publish(a)
}

// nameOf asks the Fleet for a key's name. A Fleet that panics gives none.
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

// catchUp passes on to a new breaker what was kept for it.
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

// take returns what was kept for a name, which is not kept any longer: the breaker has
// it.
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
