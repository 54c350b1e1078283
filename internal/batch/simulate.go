package batch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/call"
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

func percentile(list []time.Duration, n int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[len(list)*n/100]
}
