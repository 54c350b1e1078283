package batch

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

var (
	full    = flag.Bool("batch.full", false, "print the table")
	picture = flag.String("batch.svg", "", "draw the admitted rate of the first row into this file")
	only    = flag.String("batch.only", "", "simulate the rows whose name has this")
)

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
	many := goal{0.95, 0.005, 0.15, 45 * time.Second}
	share := goal{0.90, 0.05, 0.78, 100 * time.Second} // a call every 5 s for each: little is learned from that
	goals := []goal{alone, many, slow, share}

	for _, c := range []client{retrip, before, naively} {
		for i, of := range limits {
			for _, h := range everyHint {
				r := &row{batch: batch{rate: of.rate, hints: h, processes: of.processes, workers: of.workers}, client: c}
				if c.name == retrip.name {
					r.goal = goals[i]
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
		b.WriteString(r.line(r.client, r.figures))
	}
	return b.String()
}
