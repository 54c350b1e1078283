package batch

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/retrip-go/retrip/openai"
)

// What is held makes a batch other than those that the controller's constants
// were found with.
type held struct {
	name              string
	seed              uint64 // 0 is that of the table
	shortest, longest time.Duration
	window            time.Duration
	chance            float64
	changes           []change
	comeAndGo         time.Duration // for so long half of the workers are there, then the other half, then all
}

// shape makes a provider one of the batch.
func (h *held) shape(p *provider) {
	if h.seed != 0 {
		p.random = rand.New(rand.NewPCG(h.seed, p.random.Uint64()))
	}
	if h.longest > 0 {
		p.shortest, p.longest = h.shortest, h.longest
	}
	p.window, p.chance, p.changes = h.window, h.chance, h.changes
	if p.window > 0 {
		p.tokens = p.rate * p.window.Seconds()
	}
}

// absent reports whether a worker makes no calls at a time.
func (h *held) absent(worker int, at time.Duration) bool {
	if h.comeAndGo == 0 {
		return false
	}
	turn := int(at/h.comeAndGo) % 3
	return turn != 2 && worker/10%2 != turn
}

// allowed returns how many calls the limit lets through.
func (h *held) allowed(rate float64) float64 {
	calls, since := 0.0, time.Duration(0)
	for _, c := range h.changes {
		calls += rate * (c.after - since).Seconds()
		rate, since = c.rate, c.after
	}
	return calls + rate*(length-since).Seconds() + max(rate, 1)
}

// TestHeldOut is TestBatch with other limits, other latencies and other seeds. It
// has no goals yet: it shows what the rules make of them.
func TestHeldOut(t *testing.T) {
	const second = time.Second
	quick := func(h held) held { h.shortest, h.longest = 100*time.Millisecond, 500*time.Millisecond; return h }
	for _, r := range []*row{
		{rate: 7, processes: 1, workers: 80},
		{rate: 7, processes: 3, workers: 80},
		{rate: 50, processes: 1, workers: 400},
		{rate: 50, processes: 5, workers: 400},
		{rate: 0.5, processes: 1, workers: 12},
		{rate: 200, processes: 1, workers: 1500},
		{rate: 7, processes: 1, workers: 12, held: quick(held{name: ", quick answers"})},
		{rate: 50, processes: 4, workers: 60, held: quick(held{name: ", quick answers"})},
		{rate: 7, processes: 1, workers: 300, held: held{name: ", slow answers", shortest: 20 * second, longest: 40 * second}},
		{rate: 10, processes: 1, workers: 100, held: held{name: ", windows of 1 s", window: second}},
		{rate: 10, processes: 1, workers: 100, held: held{name: ", windows of 10 s", window: 10 * second}},
		{rate: 5, processes: 1, workers: 100, held: held{name: ", windows of 60 s", window: 60 * second}},
		{rate: 30, processes: 1, workers: 200, held: held{name: ", then 5, then 20", changes: []change{{100 * second, 5}, {200 * second, 20}}}},
		{rate: 5, processes: 1, workers: 200, held: held{name: ", then 40", changes: []change{{150 * second, 40}}}},
		{rate: 20, processes: 2, workers: 200, held: held{name: ", coming and going", comeAndGo: 20 * second}},
		{rate: 10, processes: 1, workers: 40, held: held{name: ", 10 % at random", chance: 0.1}},
		{rate: 40, processes: 1, workers: 160, held: held{name: ", 10 % at random", chance: 0.1}},
		{rate: 40, processes: 1, workers: 160, held: held{name: ", 30 % at random", chance: 0.3}},
	} {
		for _, h := range []hints{millis, seconds, silent} {
			for _, seed := range []uint64{7, 1234} {
				if !*full && (h != millis || seed != 7) {
					continue
				}
				r := *r
				r.client, r.through, r.hints, r.held.seed = "retrip", chain(openai.Config{}), h, seed
				t.Run(r.String(), func(t *testing.T) {
					t.Parallel()
					t.Log(r.simulate(t))
				})
			}
		}
	}
}
