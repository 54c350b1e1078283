package breaker

import (
	"container/heap"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/retrip-go/retrip/internal/call"
)

// A key finds a breaker without putting its name together. Names given by
// Config.Key have no scheme.
type key struct {
	scheme, name string
	subject      call.Subject // zero unless the call says what it is about
}

// kept returns the key as it is remembered: in lower case where case does not
// matter, and in memory of its own, of bounded size. A part of a URL or of a
// payload would keep all of that in memory.
func (k key) kept() key {
	if k.scheme == "" {
		return key{name: bounded(k.name)}
	}
	return key{
		scheme: strings.Clone(strings.ToLower(k.scheme)), name: bounded(strings.ToLower(k.name)),
		subject: call.Subject{Endpoint: bounded(k.subject.Endpoint), Model: bounded(k.subject.Model), Target: bounded(k.subject.Target)},
	}
}

// String returns the name of the key's breaker.
func (k key) String() string {
	if k.scheme == "" {
		return k.name
	}
	name := k.scheme + "://" + k.name
	for _, part := range [...]string{k.subject.Endpoint, k.subject.Model, k.subject.Target} {
		if part != "" {
			name += " " + part
		}
	}
	return name
}

// maxName is the length in bytes of the longest part of a key. Names end up in
// errors, logs and labels, and anybody who can send a request can invent them.
const maxName = 128

// bounded returns a copy of a name that is valid UTF-8 and not too long.
func bounded(name string) string {
	if len(name) > maxName {
		name = name[:maxName]
	}
	if !utf8.ValidString(name) {
		name = strings.ToValidUTF8(name, "")
	}
	return strings.Clone(name)
}

// keys are the breakers of a Transport. A look-up of what was used lately takes
// no lock.
type keys struct {
	max  int
	make func(name string) *Breaker

	lately [32]atomic.Pointer[keyed] // by hash: most services call a few models
	latest atomic.Pointer[keyed]
	uses   atomic.Uint64 // changes of latest

	mu    sync.RWMutex
	all   map[key]*keyed
	named map[string]*keyed
	// Every key is in one of these. A busy one is forgotten last, and moves back
	// once its trouble is over.
	idle, busy byUse
}

type keyed struct {
	key     key
	breaker *Breaker
	used    atomic.Uint64 // the number of the latest use after that of another

	order uint64 // what used was when its place in idle or busy was found
}

// hash tells apart what one service calls; it need not be good.
func (k key) hash() int {
	h := 3*len(k.name) + 5*len(k.subject.Model) + 7*len(k.subject.Endpoint) + len(k.subject.Target)
	if n := len(k.subject.Model); n > 0 {
		h += int(k.subject.Model[n-1]) + int(k.subject.Model[n/2])
	}
	return h
}

// get returns the breaker of k, a new one if there is none.
func (s *keys) get(k key) *Breaker {
	slot := &s.lately[k.hash()%len(s.lately)]
	e := slot.Load()
	if e == nil || e.key != k {
		e = s.lookup(k, slot)
	}
	if e == nil {
		e = s.add(k.kept())
	}
	if s.latest.Load() != e {
		e.used.Store(s.uses.Add(1))
		s.latest.Store(e)
	}
	return e.breaker
}

// lookup returns k's entry, and puts it into slot; nil if there is none.
func (s *keys) lookup(k key, slot *atomic.Pointer[keyed]) *keyed {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.all[k]
	if e != nil {
		slot.Store(e) // under the lock, so that what is forgotten does not come back
	}
	return e
}

// find returns the breaker of a name, or nil.
func (s *keys) find(name string) *Breaker {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.named[name]; e != nil {
		return e.breaker
	}
	return nil
}

func (s *keys) add(k key) *keyed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.all[k]; e != nil {
		return e
	}
	if len(s.all) >= s.max {
		s.forget()
	}
	if s.all == nil {
		s.all, s.named = make(map[key]*keyed), make(map[string]*keyed)
	}
	name := k.String()
	e := &keyed{key: k, breaker: s.make(name)}
	e.used.Store(s.uses.Add(1))
	e.order = e.used.Load()
	s.all[k], s.named[name] = e, e
	heap.Push(&s.idle, e)
	return e
}

// forget removes the least recently used of the breakers that know of no
// failures, of all if each knows of some: what a dead key has learned goes last,
// however many names somebody invents.
func (s *keys) forget() {
	if e := s.busy.oldest(); e != nil && e.breaker.idle() {
		heap.Push(&s.idle, heap.Pop(&s.busy))
	}
	for e := s.idle.oldest(); e != nil && !e.breaker.idle(); e = s.idle.oldest() {
		heap.Push(&s.busy, heap.Pop(&s.idle))
	}
	from := &s.idle
	if len(*from) == 0 {
		from = &s.busy
	}
	from.oldest()
	e := heap.Pop(from).(*keyed)
	delete(s.all, e.key)
	delete(s.named, e.breaker.key)
	s.lately[e.key.hash()%len(s.lately)].CompareAndSwap(e, nil)
	s.latest.CompareAndSwap(e, nil)
}

// each calls f with every breaker, in no order.
func (s *keys) each(f func(*Breaker)) {
	s.mu.RLock()
	all := make([]*Breaker, 0, len(s.all))
	for _, e := range s.all {
		all = append(all, e.breaker)
	}
	s.mu.RUnlock()
	for _, b := range all {
		f(b)
	}
}

// byUse is a heap of keys, the least recently used first. A use does not move
// its key, because that would take a lock: its place is found when the heap is
// asked for the oldest.
type byUse []*keyed

func (h byUse) Len() int           { return len(h) }
func (h byUse) Less(i, j int) bool { return h[i].order < h[j].order }
func (h byUse) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements [heap.Interface].
func (h *byUse) Push(x any) { *h = append(*h, x.(*keyed)) }

// Pop implements [heap.Interface].
func (h *byUse) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}

// oldest returns the least recently used key, which is the first then; nil if
// there is none.
func (h *byUse) oldest() *keyed {
	for len(*h) > 0 {
		e := (*h)[0]
		used := e.used.Load()
		if used == e.order {
			return e
		}
		e.order = used
		heap.Fix(h, 0)
	}
	return nil
}
