package breaker_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
)

// A wire is a Fleet without loss or delay. Each of its ends is one origin.
type wire struct{ ends []*end }

type end struct {
	wire   *wire
	origin string
	hear   func(breaker.Advice)
}

func (*end) Name(key string) string { return key }

func (e *end) Publish(a breaker.Advice) {
	a.Origin = e.origin
	for _, other := range e.wire.ends {
		if other != e {
			other.hear(a)
		}
	}
}

func (e *end) Subscribe(hear func(breaker.Advice)) (stop func()) {
	e.hear = hear
	return func() { e.hear = func(breaker.Advice) {} }
}

// A replica makes a call a second.
type replica struct {
	*breaker.Breaker

	next          time.Time // call
	opened        int
	advised       int // of the times it opened
	sent, refused int
}

// A herd is 20 replicas that call the same provider.
type herd struct {
	chance   *rand.Rand
	replicas [20]*replica
}

func newHerd(t *testing.T, seed uint64, fleet bool) *herd {
	h := &herd{chance: rand.New(rand.NewPCG(seed, 2))}
	w := new(wire)
	for i := range h.replicas {
		r := new(replica)
		cfg := breaker.Config{OnStateChange: func(c breaker.StateChange) {
			if c.To == breaker.Open && c.From == breaker.Closed {
				r.opened++
			}
			if c.Reason == "failure_after_advice" || c.Reason == "advised_by_others" {
				r.advised++
			}
		}}
		if fleet {
			e := &end{wire: w, origin: strconv.Itoa(i)}
			w.ends = append(w.ends, e)
			cfg.Fleet = e
		}
		r.Breaker = newBreaker(t, cfg)
		r.next = time.Now().Add(h.wait())
		h.replicas[i] = r
	}
	return h
}

// wait is the time between two calls of a replica: a second on average.
func (h *herd) wait() time.Duration {
	return time.Duration(h.chance.ExpFloat64() * float64(time.Second))
}

// run lets the replicas call for a while, or until enough says so. fails returns
// the share of failures that one of them sees.
func (h *herd) run(lasts time.Duration, fails func(replica int) float64, enough func() bool) {
	for end := time.Now().Add(lasts); !enough(); {
		i := h.nextUp()
		r := h.replicas[i]
		if r.next.After(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(time.Until(r.next))
		r.next = r.next.Add(h.wait())
		r.call(h.chance.Float64() < fails(i))
	}
}

func (h *herd) nextUp() (first int) {
	for i, r := range h.replicas {
		if r.next.Before(h.replicas[first].next) {
			first = i
		}
	}
	return first
}

func (r *replica) call(fails bool) {
	var p breaker.Permit
	switch {
	case r.Allow(&p) != nil:
		r.refused++
	case fails:
		r.sent++
		p.Failure()
	default:
		r.sent++
		p.Success()
	}
}

// sum adds up what f returns of all replicas from the given one on.
func (h *herd) sum(from int, f func(*replica) int) (n int) {
	for _, r := range h.replicas[from:] {
		n += f(r)
	}
	return n
}

func (h *herd) in(s breaker.State) func() bool {
	return func() bool {
		return h.sum(0, func(r *replica) int {
			if r.State() == s {
				return 1
			}
			return 0
		}) == len(h.replicas)
	}
}

func (h *herd) haveOpened() bool {
	return h.sum(0, func(r *replica) int { return min(r.opened, 1) }) == len(h.replicas)
}

func never() bool { return false }

func share(of float64) func(int) float64 { return func(int) float64 { return of } }

func opened(r *replica) int  { return r.opened }
func advised(r *replica) int { return r.advised }
func sent(r *replica) int    { return r.sent }
func refused(r *replica) int { return r.refused }

// Only what a breaker's own failures opened is shared. So nobody learns anything before
// the first has opened, for which it needs five failures: until then a fleet sends as
// much as replicas that know of nobody. What it can save is what they send afterwards.
func TestAFleetSendsADeadProviderFewerRequests(t *testing.T) {
	t.Parallel()
	const seeds = 10
	var alone, first, together int
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			h := newHerd(t, seed, false)
			h.run(time.Minute, share(1), h.haveOpened)
			alone += h.sum(0, sent)
		})
		synctest.Test(t, func(t *testing.T) {
			h := newHerd(t, seed, true)
			h.run(time.Minute, share(1), func() bool { return h.sum(0, opened) > 0 })
			first += h.sum(0, sent)
			h.run(time.Minute, share(1), h.haveOpened)
			together += h.sum(0, sent)
		})
	}
	t.Logf("until all 20 have opened: %d requests alone, %d as a fleet, %d of them until the first had opened",
		alone/seeds, together/seeds, first/seeds)
	if together > alone*6/10 {
		t.Errorf("%d requests until all have opened, want at most 60%% of %d", together, alone)
	}
	if late := together - first; late > (alone-first)/3 {
		t.Errorf("%d requests after the first has opened, want at most a third of %d", late, alone-first)
	}
}

func TestAFleetIsClosedAgainSoonAfterAnOutage(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			h := newHerd(t, seed, true)
			h.run(time.Minute, share(0), never)
			h.run(time.Minute, share(1), never)
			since := time.Now()
			h.run(5*time.Minute, share(0), h.in(breaker.Closed))
			if took := time.Since(since); took > 45*time.Second { // the longest step, a quarter more, and a wait for the next call
				t.Errorf("closed after %v", took)
			}
			before := h.sum(0, opened)
			h.run(10*time.Minute, share(0), never)
			if n := h.sum(0, opened) - before; n > 0 {
				t.Errorf("opened %d times in 10 min with a provider that is well", n)
			}
		})
	}
}

// alarm has two replicas find everything failing for a while, before the others have
// made a call.
func (h *herd) alarm() {
	for range 5 {
		time.Sleep(apart)
		h.replicas[0].call(true)
		h.replicas[1].call(true)
	}
}

func TestAFalseAlarmIsOverSoon(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			h := newHerd(t, seed, true)
			h.alarm()
			if !h.in(breaker.Open)() {
				t.Error("two say that the provider is down, and not all believe it")
			}
			since := time.Now()
			h.run(time.Minute, share(0), h.in(breaker.Closed))
			if took := time.Since(since); took > 30*time.Second {
				t.Errorf("all closed after %v, want 30 s at most", took)
			}
		})
	}
}

// An opening on advice is followed by no other: who opens by its own failures has 19
// others open with the chance that their next call fails, and that is all. It tells them
// so again when its probe fails, which is one in five at most.
func TestAFalseAlarmIsNoPingPong(t *testing.T) {
	t.Parallel()
	const seeds = 5
	for _, failing := range []float64{0, 0.02, 0.1, 0.2} {
		var own, onAdvice int
		var refusals [2]float64 // alone, and as a fleet, of all calls
		for seed := range uint64(seeds) {
			for i, fleet := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					h := newHerd(t, seed, fleet)
					h.alarm()
					h.run(time.Minute, share(0), h.in(breaker.Closed))
					before := [...]int{h.sum(0, opened), h.sum(0, advised), h.sum(0, sent), h.sum(0, refused)}
					h.run(10*time.Minute, share(failing), never)
					turnedAway := float64(h.sum(0, refused) - before[3])
					refusals[i] += turnedAway / (turnedAway + float64(h.sum(0, sent)-before[2])) / seeds
					if fleet {
						late := h.sum(0, advised) - before[1]
						onAdvice += late
						own += h.sum(0, opened) - before[0] - late
					}
				})
			}
		}
		t.Logf("%.0f%% failures, 10 min of 20 replicas: %.1f%% of the calls refused alone, %.1f%% as a fleet, which opened %.1f times by its own failures and %.1f on advice",
			100*failing, 100*refusals[0], 100*refusals[1], float64(own)/seeds, float64(onAdvice)/seeds)
		if most := 19 * failing * 1.25 * float64(own); float64(onAdvice) > 1.5*most+5 || failing == 0 && own+onAdvice > 0 {
			t.Errorf("%.0f%% failures: opened %d times on advice, want about %.0f", 100*failing, onAdvice, most)
		}
		if refusals[1] > 0.05 || refusals[1] > refusals[0]+failing/5 {
			t.Errorf("%.0f%% failures: too many calls are refused", 100*failing)
		}
	}
}

func TestTwoSickReplicasShutNobodyOutWhoIsServed(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			h := newHerd(t, seed, true)
			h.run(time.Minute, share(0), never)
			h.run(10*time.Minute, func(i int) float64 {
				if i < 2 {
					return 1
				}
				return 0
			}, never)
			if n := h.sum(2, opened); h.sum(0, opened) < 2 || n > 0 || h.sum(2, refused) > 0 {
				t.Errorf("the well ones opened %d times and refused %d calls", n, h.sum(2, refused))
			}
		})
	}
}
