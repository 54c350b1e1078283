package storm

import (
	"slices"
	"sync/atomic"
	"time"
)

// step is how finely a record tells times apart.
const step = 100 * time.Millisecond

// A moment is what happened in one step.
type moment struct {
	calls    atomic.Int64 // begun
	answered atomic.Int64 // of those, whenever it was
	requests atomic.Int64 // sent upstream
	queue    time.Duration
}

// A record is what happened in a simulation.
type record struct {
	start   time.Time
	load    float64 // calls a second
	end     time.Duration
	moments []moment
	back    []atomic.Int64 // of each client, its first request after end
}

func newRecord(in incident, clients int) *record {
	return &record{
		start: time.Now(), load: rate * float64(clients), end: in.until,
		// Retries go on after the last call.
		moments: make([]moment, (in.length+maxPatience)/step), back: make([]atomic.Int64, clients),
	}
}

func (r *record) at(t time.Time) *moment {
	return &r.moments[min(int(t.Sub(r.start)/step), len(r.moments)-1)]
}

func (r *record) request(t time.Time, client int) {
	r.at(t).requests.Add(1)
	if since := t.Sub(r.start) - r.end; since >= 0 {
		r.back[client].CompareAndSwap(0, int64(since)+1)
	}
}

// A sum is what happened in a stretch of time.
type sum struct{ calls, answered, requests float64 }

func (r *record) between(from, until time.Duration) (s sum) {
	for i := from / step; i < until/step; i++ {
		m := &r.moments[i]
		s.calls += float64(m.calls.Load())
		s.answered += float64(m.answered.Load())
		s.requests += float64(m.requests.Load())
	}
	return s
}

func (s sum) amplification() float64 { return s.requests / s.calls }

// share is that of the calls that were answered. Nobody can complain where
// nobody calls.
func (s sum) share() float64 {
	if s.calls == 0 {
		return 1
	}
	return s.answered / s.calls
}

// Figures are a row of the table.
type figures struct {
	during, whole sum
	recovered     bool
	recovery      time.Duration // from the end of the incident until it lasts that 99 % of a second's calls are answered
	busiest       float64       // second after the end, in normal loads
	sharpest      float64       // tenth of a second after it
	spread        time.Duration // in which nine of ten clients come back
	stuck         bool          // the collapse of the incident never ended
	again         bool          // after the end the provider got into a collapse, or back into one
	load          []float64     // of each second, in normal loads
}

func (r *record) figures(in incident) figures {
	f := figures{during: r.between(in.from, in.until), whole: r.between(0, in.length)}
	const second = time.Second
	f.recovered, f.recovery = true, 0
	for t := in.until; t+second <= in.length; t += step {
		s := r.between(t, t+second)
		f.busiest = max(f.busiest, s.requests/r.load)
		f.sharpest = max(f.sharpest, r.between(t, t+step).requests/r.load*float64(second/step))
		if s.share() < 0.99 {
			f.recovery = t + step - in.until
			f.recovered = t+second < in.length
		}
	}
	f.spread = r.spread()
	f.stuck, f.again = r.collapses(in)
	for t := time.Duration(0); t < in.length; t += second {
		f.load = append(f.load, r.between(t, t+second).requests/r.load)
	}
	return f
}

func (r *record) spread() time.Duration {
	var back []int64
	for i := range r.back {
		if at := r.back[i].Load(); at > 0 {
			back = append(back, at)
		}
	}
	if len(back) == 0 {
		return 0
	}
	slices.Sort(back)
	return time.Duration(back[len(back)*95/100] - back[len(back)*5/100])
}

// collapses says whether the provider's queue, after the end, stayed too long
// or became so again.
func (r *record) collapses(in incident) (stuck, again bool) {
	stuck = true
	for t := in.until; t < in.length; t += step {
		long := r.moments[t/step].queue > tipping
		again = again || long && !stuck
		stuck = stuck && long
	}
	return stuck, again
}
