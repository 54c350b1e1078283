package breaker

import (
	"container/heap"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"github.com/retrip-go/retrip/internal/call"
)

// What callers and their own callers choose of a key is bounded, in bytes. A provider
// that redirects chooses the host.
const (
	maxModel = 128
	maxHost  = 1 << 10 // or the name that Config.Key gives
)

// A key finds a breaker without putting its name together, which would allocate for
// every request. That of a name given by Config.Key has the name as its host, and nothing
// else.
type key struct {
	scheme, host string
	call.Subject
}

// String returns the name, as "https://api.openai.com chat gpt-4o".
func (k key) String() string {
	name := []string{k.host}
	if k.scheme != "" {
		name[0] = k.scheme + "://" + k.host
	}
	for _, part := range []string{k.Endpoint, k.Model, k.Target} {
		if part != "" {
			name = append(name, part)
		}
	}
	return strings.ToValidUTF8(strings.Join(name, " "), "\uFFFD")
}

// printable returns a name for a log, whose handler may write it as it is: quoted
// if it could do more than be read.
func printable(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// canonical returns the key with scheme and host in lower case (RFC 9110, section 4.2.3),
// and no long part.
func (k key) canonical() key {
	k.host = k.host[:min(len(k.host), maxHost)]
	if k.scheme != "" {
		k.scheme, k.host = strings.ToLower(k.scheme), strings.ToLower(k.host)
	}
	k.Model = strings.ToValidUTF8(k.Model[:min(len(k.Model), maxModel)], "")
	return k
}

// clone returns the key with copies of what may be a part of something larger: a name
// from a payload would keep the payload in memory for as long as the breaker lives.
func (k key) clone() key {
	for _, part := range []*string{&k.scheme, &k.host, &k.Endpoint, &k.Model, &k.Target} {
		*part = strings.Clone(*part)
	}
	return k
}

// A keys has the breakers of a Transport by their keys. It is safe for concurrent use.
type keys struct {
	max   int
	make  func(key) *Breaker
	added func(*Breaker) // called outside the lock, when the breaker can be found

	latest atomic.Pointer[keyed] // used last: most services call one model
	uses   atomic.Uint64         // changes of latest

	mu   sync.RWMutex
	all  map[key]*keyed
	idle ranking // of all that are not in busy
	busy ranking // of those that were worth keeping when they were looked at last
	next int     // of busy, to be looked at again
}

// A keyed is a breaker and how long ago it was used. Its use is noted without a lock, so
// that its rank in the heap may be out of date: it is put right when it comes to the
// front.
type keyed struct {
	key     key
	breaker *Breaker
	used    atomic.Uint64 // the number of the latest use after that of another
	rank    uint64        // used, when it was looked at
}

// get returns the breaker of k, a new one if there is none. The one used last is found
// without a lock. Others are looked for as they are first, since most keys are canonical
// already.
func (s *keys) get(k key) *Breaker {
	if e := s.latest.Load(); e != nil && e.key == k {
		return e.breaker
	}
	e := s.find(k)
	if e == nil {
		e = s.find(k.canonical())
	}
	if e == nil {
		e = s.add(k.canonical().clone())
	}
	e.used.Store(s.uses.Add(1))
	s.latest.Store(e)
	return e.breaker
}

// find returns what is known of exactly this key, or nil.
func (s *keys) find(k key) *keyed {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all[k]
}

// named returns the breaker of a name, or nil. It is for operators, who may wait for a
// search.
func (s *keys) named(name string) *Breaker {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.all {
		if e.breaker.key == name {
			return e.breaker
		}
	}
	return nil
}

// each calls f with every breaker, in no order. It does so without the lock, because f
// may take long or use the Transport.
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

// advised calls f with every breaker that is called name in advice, and reports
// whether there is one. None is added meanwhile.
func (s *keys) advised(name string, f func(*Breaker)) (found bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.all {
		if e.breaker.name == name {
			f(e.breaker)
			found = true
		}
	}
	return found
}

// add adds a breaker, unless another request just did. It is made outside the lock,
// since it asks the Fleet for its name.
func (s *keys) add(k key) *keyed {
	b := s.make(k)
	b.target = k.Target
	e, added := s.insert(k, b)
	if added {
		s.added(e.breaker)
	}
	return e
}

// insert puts a breaker under a key, or returns the one that is there.
func (s *keys) insert(k key, b *Breaker) (e *keyed, added bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.all[k]; e != nil {
		return e, false
	}
	if len(s.all) >= s.max {
		s.forget()
	}
	e = &keyed{key: k, breaker: b, rank: s.uses.Load()}
	e.used.Store(e.rank)
	if s.all == nil {
		s.all = make(map[key]*keyed)
	}
	s.all[k] = e
	heap.Push(&s.idle, e)
	return e, true
}

// forget removes the least recently used of the breakers that know of no
// failures, of all if there is none such. It looks at few of them, so that a
// flood of names costs little, and makes no dead model forgotten.
func (s *keys) forget() {
	s.lookAgain()
	for {
		e := s.idle.oldest()
		if e == nil {
			break
		}
		if heap.Pop(&s.idle); e.breaker.idle() {
			delete(s.all, e.key)
			return
		}
		heap.Push(&s.busy, e)
	}
	if e := s.busy.oldest(); e != nil {
		heap.Pop(&s.busy)
		delete(s.all, e.key)
	}
}

// lookAgain looks at some of the busy breakers, in turn: those that know of no
// failures any more are like others again.
func (s *keys) lookAgain() {
	const some = 4
	for range min(some, len(s.busy)) {
		s.next++
		if s.next >= len(s.busy) {
			s.next = 0
		}
		if e := s.busy[s.next]; e.breaker.idle() {
			heap.Remove(&s.busy, s.next)
			heap.Push(&s.idle, e)
		}
	}
}

// A ranking is a heap with the least recently used in front, by uses that may
// have been followed by others.
type ranking []*keyed

// oldest returns the one used least recently, or nil.
func (r *ranking) oldest() *keyed {
	for len(*r) > 0 {
		e := (*r)[0]
		used := e.used.Load()
		if e.rank == used {
			return e
		}
		e.rank = used
		heap.Fix(r, 0)
	}
	return nil
}

// Len implements heap.Interface.
func (r *ranking) Len() int { return len(*r) }

// Less implements heap.Interface.
func (r *ranking) Less(i, j int) bool { return (*r)[i].rank < (*r)[j].rank }

// Swap implements heap.Interface.
func (r *ranking) Swap(i, j int) { (*r)[i], (*r)[j] = (*r)[j], (*r)[i] }

// Push implements heap.Interface.
func (r *ranking) Push(e any) { *r = append(*r, e.(*keyed)) }

// Pop implements heap.Interface.
func (r *ranking) Pop() any {
	last := len(*r) - 1
	e := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return e
}
