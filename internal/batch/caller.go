package batch

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const seed = 16

// A caller is a worker, as the provider knows it: all that chance decides of its
// calls is drawn from a source of its own, so that no order in which goroutines
// happen to run changes anything.
type caller struct {
	random *rand.Rand
	sent   int // attempts of the call under way
}

type callerKey struct{}

func newCaller(seeds ...uint64) *caller { return &caller{random: source(seeds...)} }

func (c *caller) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// source returns a source of numbers for what is known by these seeds.
func source(seeds ...uint64) *rand.Rand {
	mixed := uint64(seed)
	for _, s := range seeds {
		mixed = mixed*0x9e3779b97f4a7c15 + s
	}
	return rand.New(rand.NewPCG(seed, mixed))
}

// A process draws what its chain leaves to chance from one source.
type process struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (p *process) draw() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Float64()
}

// backoffs are those of the chain's default, drawn from the source of a process.
func backoffs(p *process) func() backoff.BackOff {
	return func() backoff.BackOff { return &growing{p, 500 * time.Millisecond} }
}

type growing struct {
	process *process
	next    time.Duration
}

func (g *growing) Reset() {}

func (g *growing) NextBackOff() time.Duration {
	d := time.Duration(float64(g.next) * (0.75 + g.process.draw()/2))
	g.next = min(2*g.next, 8*time.Second)
	return d
}
