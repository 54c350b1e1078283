package batch

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
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

// A client is what the calls of a process go through.
type client struct {
	name    string
	through func(base http.RoundTripper, p *process) http.RoundTripper
}

var (
	retrip = client{"retrip", func(base http.RoundTripper, p *process) http.RoundTripper {
		return openai.NewTransport(base, openai.Config{
			MeterProvider: noop.NewMeterProvider(), Retry: retry.Config{Backoff: backoffs(p)},
		})
	}}
	before  = client{"the chain before", pausing}
	naively = client{"naive loop", func(base http.RoundTripper, p *process) http.RoundTripper { return loop{base, p} }}
)

// A loop is the usual one: four attempts, and a backoff with full jitter.
type loop struct {
	base    http.RoundTripper
	process *process
}

// RoundTrip implements http.RoundTripper.
func (l loop) RoundTrip(req *http.Request) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		response, err := l.base.RoundTrip(req)
		if attempt == 3 || err != nil || response.StatusCode != http.StatusTooManyRequests {
			return response, err
		}
		_ = response.Body.Close()
		time.Sleep(time.Duration(l.process.draw() * float64(500*time.Millisecond<<attempt)))
	}
}

// A batch is made by workers behind a limit, each of which makes calls one after
// the other.
type batch struct {
	name      string // what is different from a usual one
	rate      float64
	hints     hints
	processes int
	workers   int
	shape     shape
	comeAndGo time.Duration // for so long half of the workers are there, then the other half, then all
	seed      uint64        // 0 is that of the table
}

func (b *batch) String() string {
	return fmt.Sprintf("%g/s, %v, %d%s", b.rate, b.hints, b.processes, b.name)
}

// absent reports whether a worker makes no calls at a time.
func (b *batch) absent(worker int, at time.Duration) bool {
	if b.comeAndGo == 0 {
		return false
	}
	turn := int(at/b.comeAndGo) % 3
	return turn != 2 && worker/10%2 != turn
}

// allowed returns how many calls the limit lets through.
func (b *batch) allowed() float64 {
	calls, rate, since := 0.0, b.rate, time.Duration(0)
	for _, c := range b.shape.changes {
		calls += rate * (c.after - since).Seconds()
		rate, since = c.rate, c.after
	}
	return calls + rate*(length-since).Seconds() + max(rate, 1)
}

// figures are what came of a batch.
type figures struct {
	admitted int
	used     float64 // of what the limit allows
	failed   float64 // share of the calls
	refused  float64 // for each call that was answered
	p99      time.Duration
	perSec   []int
}

func (f figures) String() string {
	return fmt.Sprintf("%.1f %% | %.2f %% | %.3f | %.1f s", 100*f.used, 100*f.failed, f.refused, f.p99.Seconds())
}

// simulate runs a batch.
func (b *batch) simulate(t *testing.T, with client) (f figures) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(b.rate, b.hints, b.shape)
		r := &run{batch: b, start: time.Now()}
		var wait sync.WaitGroup
		clients, contexts := make([]http.RoundTripper, b.processes), make([]context.Context, b.processes)
		for i := range clients {
			own := &process{random: source(b.seed, 1, uint64(i))}
			clients[i], contexts[i] = with.through(p, own), call.WithRandom(t.Context(), own.draw)
		}
		for n := range b.workers {
			wait.Go(func() {
				time.Sleep(time.Duration(n) * ramp / time.Duration(b.workers))
				r.work(contexts[n%b.processes], clients[n%b.processes], n)
			})
		}
		wait.Wait()
		f = r.figures(p)
	})
	return f
}

// A run is a batch under way.
type run struct {
	*batch

	start  time.Time
	mu     sync.Mutex
	took   []time.Duration // of the calls that were answered
	failed int
}

func (r *run) work(ctx context.Context, through http.RoundTripper, n int) {
	c := newCaller(r.seed, 2, uint64(n))
	ctx = c.in(ctx)
	for time.Since(r.start) < length {
		if r.absent(n, time.Since(r.start)) {
			time.Sleep(time.Second)
			continue
		}
		began := time.Now()
		c.sent = 0
		r.count(send(ctx, through, payload, ""), time.Since(began))
		if time.Since(began) == 0 {
			time.Sleep(time.Second) // refused at once: nobody asks again in no time
		}
	}
}

func (r *run) count(ok bool, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok {
		r.took = append(r.took, took)
	} else {
		r.failed++
	}
}

func (r *run) figures(p *provider) figures {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(r.took)
	return figures{
		admitted: p.admitted(),
		used:     float64(p.admitted()) / r.allowed(),
		failed:   float64(r.failed) / float64(r.failed+len(r.took)),
		refused:  float64(p.refused) / float64(len(r.took)),
		p99:      percentile(r.took, 99), perSec: p.perSec,
	}
}

// send makes one call, and reports whether it was answered. The provider is told
// whether the call is large.
func send(ctx context.Context, through http.RoundTripper, payload, large string) bool {
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

// A goal is what the figures of a row may be.
type goal struct {
	used, failed, refused float64
	p99                   time.Duration
}

func (g goal) missed(f figures) bool {
	return g != goal{} && (f.used < g.used || f.failed > g.failed || f.refused > g.refused || f.p99 > g.p99)
}

// A row is one of the table.
type row struct {
	batch

	client  client
	goal    goal
	figures figures
}

func (r *row) String() string { return r.client.name + ", " + r.batch.String() }

func rows() (all []*row) {
	alone := goal{0.95, 0.005, 0.05, 25 * time.Second}
	slow := goal{0.90, 0.005, 0.15, 42 * time.Second}
	many := goal{0.95, 0.005, 0.16, 60 * time.Second}  // each process tells little chance from a limit
	share := goal{0.85, 0.04, 0.70, 110 * time.Second} // a call every 5 s for each: little is learned from that
	for _, c := range []client{retrip, before, naively} {
		for _, of := range []struct {
			rate      float64
			processes int
			workers   int
			goal      goal
		}{{20, 1, 200, alone}, {20, 10, 200, many}, {2, 1, 40, slow}, {2, 10, 40, share}} {
			for _, h := range []hints{millis, seconds, silent} {
				r := &row{batch: batch{rate: of.rate, hints: h, processes: of.processes, workers: of.workers}, client: c}
				if c.name == retrip.name {
					r.goal = of.goal
				}
				all = append(all, r)
			}
		}
	}
	return all
}

// TestBatch looks at what comes of batches, and holds ours to the goals.
func TestBatch(t *testing.T) {
	all := slices.DeleteFunc(rows(), func(r *row) bool {
		return !*full && r.goal == goal{} || !strings.Contains(r.String(), *only)
	})
	t.Run("rows", func(t *testing.T) {
		for _, r := range all {
			t.Run(r.String(), func(t *testing.T) {
				t.Parallel()
				r.figures = r.simulate(t, r.client)
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

// TestARunRepeatsItself runs a batch twice.
func TestARunRepeatsItself(t *testing.T) {
	t.Parallel()
	b := batch{rate: 20, hints: millis, processes: 10, workers: 200}
	if once, again := b.simulate(t, retrip), b.simulate(t, retrip); once.String() != again.String() || !slices.Equal(once.perSec, again.perSec) {
		t.Errorf("%v, then %v", once, again)
	}
}

func table(all []*row) string {
	var b strings.Builder
	b.WriteString("| client | limit | hints | processes | of the limit | failed | refused an answer | p99 |\n|---|--:|---|--:|--:|--:|--:|--:|\n")
	for _, r := range all {
		fmt.Fprintf(&b, "| %s | %g/s | %v | %d | %v |\n", r.client.name, r.rate, r.hints, r.processes, r.figures)
	}
	return b.String()
}
