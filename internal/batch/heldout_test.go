package batch

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// heldOut are batches other than those that the controller's constants were
// found with.
func heldOut() (all []*batch) {
	const second = time.Second
	const milli = time.Millisecond
	quick := func(s shape) shape { s.shortest, s.longest = 100*milli, 500*milli; return s }
	for _, b := range []batch{
		{rate: 7, processes: 1, workers: 80},
		{rate: 7, processes: 3, workers: 80},
		{rate: 50, processes: 1, workers: 400},
		{rate: 50, processes: 5, workers: 400},
		{rate: 0.5, processes: 1, workers: 12},
		{rate: 200, processes: 1, workers: 1500},
		{rate: 7, processes: 1, workers: 12, name: ", quick answers", shape: quick(shape{})},
		{rate: 50, processes: 4, workers: 60, name: ", quick answers", shape: quick(shape{})},
		{rate: 7, processes: 1, workers: 300, name: ", slow answers", shape: shape{shortest: 20 * second, longest: 40 * second}},
		{rate: 10, processes: 1, workers: 100, name: ", windows of 1 s", shape: shape{window: second}},
		{rate: 10, processes: 1, workers: 100, name: ", windows of 10 s", shape: shape{window: 10 * second}},
		{rate: 5, processes: 1, workers: 100, name: ", windows of 60 s", shape: shape{window: 60 * second}},
		{rate: 30, processes: 1, workers: 200, name: ", then 5, then 20", shape: shape{changes: []change{{100 * second, 5}, {200 * second, 20}}}},
		{rate: 5, processes: 1, workers: 200, name: ", then 40", shape: shape{changes: []change{{150 * second, 40}}}},
		{rate: 20, processes: 2, workers: 200, name: ", coming and going", comeAndGo: 20 * second},
		{rate: 10, processes: 1, workers: 40, name: ", 5 % at random", shape: shape{chance: 0.05, wait: 700 * milli}},
		{rate: 10, processes: 1, workers: 40, name: ", 10 % at random", shape: shape{chance: 0.1, wait: 700 * milli}},
		{rate: 40, processes: 1, workers: 160, name: ", 10 % at random", shape: shape{chance: 0.1, wait: 700 * milli}},
		{rate: 40, processes: 1, workers: 160, name: ", 20 % at random", shape: shape{chance: 0.2, wait: 700 * milli}},
		{rate: 40, processes: 1, workers: 160, name: ", 30 % at random", shape: shape{chance: 0.3, wait: 700 * milli}},
		{rate: 40, processes: 1, workers: 160, name: ", 50 % at random", shape: shape{chance: 0.5, wait: 700 * milli}},
		{rate: 10, processes: 1, workers: 40, name: ", 30 % at random", shape: shape{chance: 0.3, wait: 2000 * milli}},
		{rate: 20, processes: 1, workers: 40, name: ", three quarters are others'", shape: shape{taken: 0.75}},
		{rate: 20, processes: 1, workers: 40, name: ", others fill it", shape: shape{taken: 1}},
		{rate: 1, processes: 1, workers: 1, name: ", serial, 20 % at random", shape: quick(shape{chance: 0.2, wait: 50 * milli})},
		{rate: 1, processes: 1, workers: 1, name: ", serial, each refused once: at once", shape: quick(shape{first: true})},
		{rate: 1, processes: 1, workers: 1, name: ", serial, each refused once: 10 ms", shape: quick(shape{first: true, wait: 10 * milli})},
		{rate: 1, processes: 1, workers: 1, name: ", serial"},
		{rate: 1, processes: 1, workers: 1, name: ", serial, quick answers", shape: quick(shape{})},
	} {
		for _, h := range []hints{millis, seconds, silent} {
			for _, seed := range []uint64{7, 1234, 3, 4, 5, 6} {
				if !*full && seed != 7 {
					continue
				}
				b := b
				b.hints, b.seed = h, seed
				all = append(all, &b)
			}
		}
	}
	return all
}

// leasts are what must be answered at least, as a share of the best of the chain
// before and a naive loop; 0.9 if nothing stands here. All of these have a
// reason: who keeps to a hint, or leaves others their part of a limit, has less
// than one who asks without end.
var leasts = []struct {
	batch string
	share float64
}{
	{"0.5/s", 0.7},                                  // one refusal costs as much as a call
	{"s, 1, windows of 1 s", 0.8},                   // a hint of a second is a window too long
	{"none, 1, windows of 10 s", 0.8},               // nothing says when the window ends
	{"10/s, ms, 1, 5 % at random", 0.5},             // few calls: chance shows late
	{"10/s, s, 1, 5 % at random", 0.5},              // the same
	{"10/s, none, 1, 5 % at random", 0.5},           // the same
	{", 10 % at random", 0.2},                       // the same
	{", 20 % at random", 0.5},                       // more than is taken for chance
	{", serial, 20 % at random", 0.6},               // a second for 50 ms
	{", 30 % at random", 0.1},                       // as many as where processes share a limit
	{", 50 % at random", 0.02},                      // the same
	{", three quarters are others'", 0.6},           // others who do not back off
	{", others fill it", 0.2},                       // the same
	{"s, 1, serial, each refused once: 10 ms", 0.4}, // a second for 10 ms
}

func (b *batch) least() float64 {
	least := 0.9
	for _, l := range leasts {
		if strings.Contains(b.String(), l.batch) {
			least = l.share
		}
	}
	return least
}

// TestHeldOut compares what is answered with what was by the chain that did not
// pace, and by a naive loop: pacing does no harm.
func TestHeldOut(t *testing.T) {
	var mu sync.Mutex
	lines := map[string]string{}
	var order []string
	t.Run("batches", func(t *testing.T) {
		for _, b := range heldOut() {
			if !*full && (b.rate > 40 || b.hints == seconds) || testing.Short() && b.hints != millis || !strings.Contains(b.String(), *only) {
				continue
			}
			name := fmt.Sprintf("%v, seed %d", b, b.seed)
			order = append(order, name)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ours, paused, naive := b.simulate(t, retrip), b.simulate(t, before), b.simulate(t, naively)
				share := float64(ours.admitted) / float64(max(paused.admitted, naive.admitted))
				if share < b.least() {
					t.Errorf("%.0f %% of what others have: %v; %v; %v", 100*share, ours, paused, naive)
				}
				mu.Lock()
				defer mu.Unlock()
				lines[name] = fmt.Sprintf("%.0f %% | %v | %v | %v", 100*share, ours, paused, naive)
			})
		}
	})
	if *full {
		for _, name := range order {
			fmt.Printf("| %s | %s |\n", name, lines[name])
		}
	}
}
