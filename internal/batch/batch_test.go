package batch

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/openai"
)

var (
	full    = flag.Bool("batch.full", false, "print the table")
	picture = flag.String("batch.svg", "", "draw the admitted rate of the first row into this file")
	only    = flag.String("batch.only", "", "simulate the rows whose name has this")
)

const (
	length  = 300 * time.Second
	ramp    = 4 * time.Second // in which the workers begin
	url     = "https://provider.example/v1/chat/completions"
	payload = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
)

// A goal is what the figures of a row may be.
type goal struct {
	used, failed, refused float64
	p99                   time.Duration
}

// A row is a batch behind a limit.
type row struct {
	client    string
	rate      float64
	hints     hints
	processes int
	workers   int
	goal      goal
	through   func(base http.RoundTripper) http.RoundTripper

	held held // what is different from a usual batch

	figures figures
}

func (r *row) String() string {
	return fmt.Sprintf("%s, %g/s, %v, %d%s", r.client, r.rate, r.hints, r.processes, r.held.name)
}

// figures are what came of a batch.
type figures struct {
	used    float64 // of what the limit allows
	failed  float64 // share of the calls
	refused float64 // for each call that was answered
	p99     time.Duration
	sent    int
	perSec  []int
}

func (f figures) String() string {
	return fmt.Sprintf("%.1f %% | %.2f %% | %.3f | %.1f s", 100*f.used, 100*f.failed, f.refused, f.p99.Seconds())
}

func (g goal) missed(f figures) bool {
	return g != goal{} && (f.used < g.used || f.failed > g.failed || f.refused > g.refused || f.p99 > g.p99)
}

func chain(cfg openai.Config) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper {
		cfg.MeterProvider = noop.NewMeterProvider()
		return openai.NewTransport(base, cfg)
	}
}

func naively(base http.RoundTripper) http.RoundTripper { return loop{base} }

// A loop is the usual one: four attempts, and a backoff with full jitter.
type loop struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l loop) RoundTrip(req *http.Request) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		response, err := l.base.RoundTrip(req)
		if attempt == 3 || err != nil || response.StatusCode != http.StatusTooManyRequests {
			return response, err
		}
		_ = response.Body.Close()
		time.Sleep(rand.N(500 * time.Millisecond << attempt))
	}
}

func rows() (all []*row) {
	alone := goal{0.95, 0.005, 0.05, 25 * time.Second}
	slow := goal{0.89, 0.005, 0.15, 42 * time.Second} // told whole seconds, it is some 90 %
	many := goal{0.95, 0.005, 0.15, 45 * time.Second}
	share := goal{0.80, 0.04, 0.65, 130 * time.Second} // a call every 5 s for each: little is learned from that
	for _, client := range []struct {
		name    string
		through func(http.RoundTripper) http.RoundTripper
		held    bool // to the goals
	}{
		{"retrip", chain(openai.Config{}), true},
		{"naive loop", naively, false},
	} {
		for _, batch := range []struct {
			rate      float64
			processes int
			workers   int
			goal      goal
		}{{20, 1, 200, alone}, {20, 10, 200, many}, {2, 1, 40, slow}, {2, 10, 40, share}} {
			for _, h := range []hints{millis, seconds, silent} {
				r := &row{client: client.name, rate: batch.rate, hints: h, processes: batch.processes, workers: batch.workers, through: client.through}
				if client.held {
					r.goal = batch.goal
				}
				all = append(all, r)
			}
		}
	}
	return all
}

// TestBatch lets workers make calls behind a limit, one after the other, and
// looks at what comes of it.
func TestBatch(t *testing.T) {
	all := slices.DeleteFunc(rows(), func(r *row) bool {
		return !*full && r.goal == goal{} || !strings.Contains(r.String(), *only)
	})
	t.Run("rows", func(t *testing.T) {
		for _, r := range all {
			t.Run(r.String(), func(t *testing.T) {
				t.Parallel()
				r.figures = r.simulate(t)
				t.Log(r.figures)
				if r.goal.missed(r.figures) {
					t.Errorf("the goal is %+v", r.goal)
				}
			})
		}
	})
	if *full {
		fmt.Print(table(all))
	}
	if *picture != "" {
		if err := os.WriteFile(*picture, draw(all[0]), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func table(all []*row) string {
	var b strings.Builder
	b.WriteString("| client | limit | hints | processes | of the limit | failed | refused an answer | p99 |\n|---|--:|---|--:|--:|--:|--:|--:|\n")
	for _, r := range all {
		fmt.Fprintf(&b, "| %s | %g/s | %v | %d | %v |\n", r.client, r.rate, r.hints, r.processes, r.figures)
	}
	return b.String()
}

// simulate runs a batch.
func (r *row) simulate(t *testing.T) (f figures) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(r.rate, r.hints, uint64(r.processes))
		r.held.shape(p)
		clients := make([]http.RoundTripper, r.processes)
		for i := range clients {
			clients[i] = r.through(p)
		}
		var mu sync.Mutex
		var took []time.Duration
		failed, calls := 0, 0
		start := time.Now()
		var wait sync.WaitGroup
		for n := range r.workers {
			wait.Go(func() {
				time.Sleep(time.Duration(n) * ramp / time.Duration(r.workers))
				for time.Since(start) < length {
					if r.held.absent(n, time.Since(start)) {
						time.Sleep(time.Second)
						continue
					}
					began := time.Now()
					ok := call(t.Context(), clients[n%len(clients)], payload)
					mu.Lock()
					calls++
					if ok {
						took = append(took, time.Since(began))
					} else {
						failed++
					}
					mu.Unlock()
					if time.Since(began) == 0 {
						time.Sleep(time.Second) // refused at once: nobody asks again in no time
					}
				}
			})
		}
		wait.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		admitted := 0
		for _, n := range p.perSec[:min(len(p.perSec), int(length/time.Second))] {
			admitted += n
		}
		slices.Sort(took)
		f = figures{
			used:   float64(admitted) / r.held.allowed(r.rate),
			failed: float64(failed) / float64(calls), refused: float64(p.refused) / float64(len(took)),
			p99: took[len(took)*99/100], sent: p.sent, perSec: p.perSec,
		}
	})
	return f
}

// call makes one call, and reports whether it was answered.
func call(ctx context.Context, through http.RoundTripper, payload string) bool {
	return callWith(ctx, through, payload, "")
}

// callWith is call, with a header that tells the provider that the call is large.
func callWith(ctx context.Context, through http.RoundTripper, payload, large string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(payload)))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Large", large)
	response, err := through.RoundTrip(req)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}
