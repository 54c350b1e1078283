package openai_test

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
)

// A slowProvider fails a share of the requests at once. The others it answers after
// some time.
type slowProvider struct {
	answers time.Duration
	share   float64
	down    atomic.Bool // it fails all

	chance *chance
}

func (p *slowProvider) RoundTrip(req *http.Request) (*http.Response, error) {
	if p.down.Load() || p.chance.next() < p.share {
		return stub.Response(500, `{"error":{"code":"server_error"}}`), nil
	}
	select {
	case <-time.After(p.answers):
		return stub.Response(200, fine), nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// A chance is a source of random numbers for many goroutines.
type chance struct {
	mu     sync.Mutex
	random *rand.Rand
}

func newChance(seed uint64) *chance { return &chance{random: rand.New(rand.NewPCG(seed, 1))} }

func (c *chance) next() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.Float64()
}

// Failures come at once where answers take long. A few of them in a row say nothing
// then: the successes of what was sent beside them can't be there yet.
func TestAFewFailuresBesideSlowAnswersOpenNoBreaker(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answers time.Duration
		share   float64
		callers int
		atMost  float64 // of the calls fail: more than four attempts in a row do by chance
	}{
		"1.5 s, 10 %":           {1500 * time.Millisecond, 0.1, 150, 0.003},
		"3 s, 5 %":              {3 * time.Second, 0.05, 150, 0.001},
		"3 s, 10 %":             {3 * time.Second, 0.1, 150, 0.003},
		"3 s, 30 %, 32 callers": {3 * time.Second, 0.3, 32, 0.04},
		"10 s, 30 %":            {10 * time.Second, 0.3, 150, 0.03},
		"a minute, 20 %":        {time.Minute, 0.2, 50, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const calls = 20
				base := &slowProvider{answers: row.answers, share: row.share, chance: newChance(1)}
				tr := newChain(t, base, openai.Config{Breaker: breaker.Config{OnStateChange: func(c breaker.StateChange) {
					t.Errorf("%v: %s", c.To, c.Reason)
				}}})
				failed := callsOf(t, tr, row.callers, calls)
				if share := float64(failed) / float64(row.callers*calls); share > row.atMost {
					t.Errorf("%.1f %% of the calls failed", 100*share)
				}
			})
		})
	}
}

// An outage that begins amid such failures is known as soon as any other, also while
// answers from before it still come in.
func TestAnOutageBesideSlowAnswersOpensTheBreaker(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]time.Duration{"3 s": 3 * time.Second, "a minute": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				chance := newChance(2)
				base := &slowProvider{answers: answers, share: 0.1, chance: chance}
				var opened atomic.Int64 // when it did, in ns
				began := time.Now()
				tr := newChain(t, base, openai.Config{Breaker: breaker.Config{OnStateChange: func(c breaker.StateChange) {
					if c.To == breaker.Open {
						opened.CompareAndSwap(0, int64(time.Since(began)))
					}
				}}})
				ctx := call.WithRandom(t.Context(), chance.next)
				var all sync.WaitGroup
				for range 40 * 20 { // 40 s at 20/s
					time.Sleep(50 * time.Millisecond)
					base.down.Store(time.Since(began) > 30*time.Second)
					all.Go(func() { do(t, tr, ask(t, ctx, "m")) })
				}
				all.Wait()
				if at := time.Duration(opened.Load()); at < 30*time.Second || at > 34*time.Second {
					t.Errorf("it opened after %v, the outage began after 30 s", at)
				}
			})
		})
	}
}
