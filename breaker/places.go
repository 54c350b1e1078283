package breaker

import (
	"cmp"
	"slices"
)

// What becomes of a half-open breaker whose probes take their time. Each place that
// runs out doubles their number, so that enoughRan of them have run out after a few times
// the length of a place: a service whose answers take minutes is served again soon.
const (
	mostPlaces = 1_000
	enoughRan  = 64 // places that run out close it
)

// A places has those of a half-open breaker's probes. All are held for the same time, so
// that they run out in the order in which they were taken, and no timer is needed: they
// are looked at when a request asks for one.
type places struct {
	most   int     // there are at the same time
	length int64   // how long each is held, in nanoseconds
	held   []place // in the order in which they were taken, and so run out
	latest uint64  // id of the latest probe
	ranOut int     // without a failure
	failed int     // probes that did not open the breaker again
}

// A place is held by a probe until its deadline, or until it is settled.
type place struct {
	probe    uint64 // its id, not 0
	deadline int64
}

// reset begins with most free places. The ids go on, so that a probe of an earlier time
// can't give back the place of another.
func (p *places) reset(most int, length int64) {
	*p = places{most: most, length: length, latest: p.latest}
}

// expire takes the places back that have run out. Each doubles their number: a
// provider that answers slowly must not be taken for one that is down.
func (p *places) expire(now int64) {
	n := 0
	for n < len(p.held) && p.held[n].deadline <= now {
		n++
		p.most = min(2*p.most, mostPlaces)
	}
	p.held = slices.Delete(p.held, 0, n)
	p.ranOut += n
}

// take returns the id of the probe that got a place, or how long it takes until
// the next runs out.
func (p *places) take(now int64) (probe uint64, wait int64) {
	if len(p.held) >= p.most {
		return 0, p.held[0].deadline - now
	}
	p.latest++
	p.held = append(p.held, place{probe: p.latest, deadline: now + p.length})
	return p.latest, 0
}

// leave gives a probe's place back. It reports false if it had run out. The ids of the
// places that are held rise, so that a search by halves finds one.
func (p *places) leave(probe uint64) bool {
	i, held := slices.BinarySearchFunc(p.held, probe, func(a place, id uint64) int { return cmp.Compare(a.probe, id) })
	if held {
		p.held = slices.Delete(p.held, i, i+1)
	}
	return held
}

// taken returns how many places are held at now.
func (p *places) taken(now int64) (n int) {
	for _, held := range p.held {
		if held.deadline > now {
			n++
		}
	}
	return n
}
