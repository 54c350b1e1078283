package throttle

import (
	"sync/atomic"
	"time"
)

// What is sent is counted in steps, since the time of each call would need memory
// for each call. The ring is longer than anybody looks back.
const (
	step  = 250 * time.Millisecond
	steps = 32
)

// A Recent counts what was sent lately. Many may add at the same time, and no
// one waits for another: when a step begins, a count may be lost. The zero
// value is ready for use.
type Recent struct {
	ring [steps]struct{ number, calls, cost, shed atomic.Int64 }
	last atomic.Int64 // the number of the latest step in which something was sent
}

// numberOf returns the number of a step. It is never 0, which marks a place in the
// ring that was never used.
func numberOf(at time.Duration) int64 { return int64(max(at, 0)/step) + 1 }

// Add counts a call that is sent at a time. The place of an old step is reused by
// whoever comes first in the new one.
func (r *Recent) Add(at time.Duration, cost int64) {
	n := numberOf(at)
	s := &r.ring[n%steps]
	was := s.number.Load()
	if was > n {
		return // too long ago for anybody to look at
	}
	if was < n && s.number.CompareAndSwap(was, n) {
		s.calls.Store(0)
		s.cost.Store(0)
		s.shed.Store(0)
	}
	s.calls.Add(1)
	s.cost.Add(cost)
	if r.last.Load() < n {
		r.last.Store(n)
	}
}

// Remove takes back what was added at a time. If the step has left the ring, nobody
// looks at it any more.
func (r *Recent) Remove(at time.Duration, cost int64) {
	n := numberOf(at)
	if s := &r.ring[n%steps]; s.number.Load() == n {
		s.calls.Add(-1)
		s.cost.Add(-cost)
	}
}

// Shed takes back what was added at a time, and counts it as shed.
func (r *Recent) Shed(at time.Duration, cost int64) {
	r.Remove(at, cost)
	n := numberOf(at)
	if s := &r.ring[n%steps]; s.number.Load() == n {
		s.shed.Add(1)
	}
}

// SumShed returns how many calls were shed of those that were sent in the steps from
// one time to another.
func (r *Recent) SumShed(from, until time.Duration) (shed int64) {
	for n := max(numberOf(from), numberOf(until)-steps+1); n <= numberOf(until); n++ {
		if s := &r.ring[n%steps]; s.number.Load() == n {
			shed += s.shed.Load()
		}
	}
	return shed
}

// Sum returns what was sent in the steps from one time to another. It is never
// negative, although a count that was lost may be removed later.
func (r *Recent) Sum(from, until time.Duration) (calls, cost int64) {
	for n := max(numberOf(from), numberOf(until)-steps+1); n <= numberOf(until); n++ {
		if s := &r.ring[n%steps]; s.number.Load() == n {
			calls += s.calls.Load()
			cost += s.cost.Load()
		}
	}
	return max(calls, 0), max(cost, 0)
}

// Last returns the end of the latest step in which something was sent.
func (r *Recent) Last() time.Duration { return time.Duration(r.last.Load()) * step }

// First returns when the first of what was sent between two times was sent, or until
// if nothing was.
func (r *Recent) First(from, until time.Duration) time.Duration {
	for n := max(numberOf(from), numberOf(until)-steps+1); n <= numberOf(until); n++ {
		if s := &r.ring[n%steps]; s.number.Load() == n && s.calls.Load() > 0 {
			return time.Duration(n-1) * step
		}
	}
	return until
}
