package breaker

import (
	"maps"
	"math"
	"strings"
	"sync"
	"sync/atomic"
)

// A key finds a breaker without putting its name together. Names given by
// Config.Key have no scheme.
type key struct{ scheme, name string }

func (k key) lower() key {
	if k.scheme == "" {
		return k
	}
	return key{strings.ToLower(k.scheme), strings.ToLower(k.name)}
}

func (k key) String() string {
	if k.scheme == "" {
		return k.name
	}
	return k.scheme + "://" + k.name
}

// keys are the breakers of a Transport. Lookups take no lock: the map is
// replaced, not changed.
type keys struct {
	max  int
	make func(name string) *Breaker

	latest atomic.Pointer[keyed] // used last: most services call one host
	uses   atomic.Uint64         // changes of latest
	all    atomic.Pointer[map[key]*keyed]
	mu     sync.Mutex // held to replace the map
}

type keyed struct {
	key     key
	breaker *Breaker
	used    atomic.Uint64 // the number of the latest use after that of another
}

// get returns the breaker of k, a new one if there is none.
func (s *keys) get(k key) *Breaker {
	if e := s.latest.Load(); e != nil && e.key == k {
		return e.breaker
	}
	e := s.lookup(k)
	if e == nil {
		e = s.add(k.lower())
	}
	e.used.Store(s.uses.Add(1))
	s.latest.Store(e)
	return e.breaker
}

// find returns the breaker of k, or nil.
func (s *keys) find(k key) *Breaker {
	if e := s.lookup(k); e != nil {
		return e.breaker
	}
	return nil
}

func (s *keys) lookup(k key) *keyed {
	if all := s.all.Load(); all != nil {
		return (*all)[k]
	}
	return nil
}

func (s *keys) add(k key) *keyed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.lookup(k); e != nil {
		return e
	}
	all := make(map[key]*keyed)
	if old := s.all.Load(); old != nil {
		maps.Copy(all, *old)
	}
	if len(all) >= s.max {
		s.forget(all)
	}
	e := &keyed{key: k, breaker: s.make(k.String())}
	all[k] = e
	s.all.Store(&all)
	return e
}

// forget removes the least recently used of the closed breakers, of all if
// none is closed. One that is paused counts as not closed.
func (s *keys) forget(all map[key]*keyed) {
	var oldest *keyed
	age := uint64(math.MaxUint64)
	idle := false
	for _, e := range all {
		closed := e.breaker.idle()
		if used := e.used.Load(); oldest == nil || closed && !idle || closed == idle && used < age {
			oldest, age, idle = e, used, closed
		}
	}
	delete(all, oldest.key)
}

// each calls f with every breaker, in no order.
func (s *keys) each(f func(*Breaker)) {
	if all := s.all.Load(); all != nil {
		for _, e := range *all {
			f(e.breaker)
		}
	}
}
