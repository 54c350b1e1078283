package storm

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
	"github.com/retrip-go/retrip/breaker"
)

func down(refuses bool, lasts time.Duration) func(uint64) server {
	return func(uint64) server {
		return func(now time.Duration) (int, time.Duration) {
			switch {
			case now >= lasts:
				return 200, fastest
			case refuses:
				return noConnection, quickly
			}
			return 503, 20 * time.Millisecond
		}
	}
}

func frozen() func(uint64) server {
	return func(uint64) server {
		return func(now time.Duration) (int, time.Duration) { return 200, 1000 * time.Hour }
	}
}

func TestLong(t *testing.T) {
	for _, perSecond := range []float64{2, 20, 1000} {
		for _, refuses := range []bool{true, false} {
			tr := trial{serve: down(refuses, time.Minute), send: arrivals(perSecond, time.Minute)}
			start := time.Now()
			r := tr.play(t, 1, ours)
			fmt.Printf("outage %v/s refuses %v: %.3f requests a call, %.3f from the third second on (%v)\n", perSecond, refuses,
				float64(r.requests.Load())/float64(r.calls.Load()), float64(r.late.requests.Load())/float64(r.late.calls.Load()), time.Since(start))
		}
	}
	for _, perSecond := range []float64{2, 50} {
		tr := trial{serve: frozen(), send: arrivals(perSecond, 10*time.Minute), cfg: openai.Config{Retry: retry.Config{AttemptTimeout: 30 * time.Second}}}
		start := time.Now()
		r := tr.play(t, 1, ours)
		fmt.Printf("frozen %v/s: %.3f requests a call (%v)\n", perSecond, float64(r.requests.Load())/float64(r.calls.Load()), time.Since(start))
	}
	for _, perSecond := range []float64{1, 50} {
		for _, takes := range []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute} {
			for _, sick := range []float64{0, 0.05} {
				var worst, sum int64
				var calls int64
				start := time.Now()
				n := 10
				if perSecond > 1 { n = 2 }
				line := ""
				for seed := range uint64(n) {
					var w *world
					tr := trial{send: func(x *world) { w = x; regular(perSecond, 10*time.Minute)(x) }}
					tr.serve = func(seed uint64) server {
						chance := rand.New(rand.NewPCG(seed, 4))
						return func(now time.Duration) (int, time.Duration) {
							switch {
							case now < 5*time.Second && w.opened.Load() == 0:
								return 503, 20 * time.Millisecond
							case breaker.State(w.last.Load()) == breaker.HalfOpen && chance.Float64() < sick:
								return 503, 20 * time.Millisecond
							}
							return 200, takes
						}
					}
					r := tr.play(t, seed, ours)
					calls = r.calls.Load()
					lost := calls - r.answered.Load()
					sum += lost
					worst = max(worst, lost)
					line += fmt.Sprint(" ", lost)
				}
				fmt.Printf("well again, %v/s, calls of %v, %.0f %% sick: mean %.1f worst %d of %d = %.2f %% (%v) %s\n", perSecond, takes, 100*sick, float64(sum)/float64(n), worst, calls, 100*float64(worst)/float64(calls), time.Since(start), line)
			}
		}
	}
}
