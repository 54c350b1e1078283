package soak

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/retry"
)

// settle waits until nothing is left of the calls, and balances the books.
func (s *soak) settle() {
	s.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(slack); ; <-poll.C {
		// A connection may become idle at any time until then.
		for n := range s.scenes {
			s.scenes[n].chain.CloseIdleConnections()
		}
		open, bodies := s.provider.open.Load(), s.bodies.Load()
		forgetTimers()
		runtime.GC() // and with it the cleanups of the marks
		var pinned []*plan
		s.pinned.Range(func(id, _ any) bool {
			pinned = append(pinned, s.plan(id.(uint64)))
			return len(pinned) < 10
		})
		if open == 0 && bodies == 0 && pinned == nil {
			break
		}
		if time.Now().After(deadline) {
			s.Fatalf("left behind: %d connections, %d request bodies that were not closed, calls that something holds: %v\n%s", open, bodies, pinned, stacks())
		}
	}
	for n := range s.scenes {
		s.balance(n)
	}
}

// forgetTimers has the runtime drop the stopped timers that it still holds: each
// P does so once they are too large a share of its own.
func forgetTimers() {
	var wait sync.WaitGroup
	var began atomic.Int32
	procs := int32(runtime.GOMAXPROCS(0))
	for range procs {
		wait.Go(func() {
			for began.Add(1); began.Load() < procs; {
				continue // without leaving its P to another
			}
			for range 1000 {
				time.AfterFunc(time.Hour, func() {}).Stop()
			}
			runtime.Gosched()
		})
	}
	wait.Wait()
}

// balance holds the books of one chain against what came in and went out.
func (s *soak) balance(n int) {
	s.Helper()
	scene := &s.scenes[n]
	books := collect(s, scene.reader)
	attempts := float64(scene.attempted.Load())
	tried := float64(scene.tried.Load())
	equal := func(what string, got, want float64) {
		s.Helper()
		if got != want {
			s.Errorf("scene %d: %s: %v, want %v", n, what, got, want)
		}
	}
	var abandoned float64
	if scene.abandoned != nil {
		abandoned = float64(scene.abandoned.Load())
	}
	// Of what is abandoned the end may never be seen.
	seen := func(what string, got, want float64) {
		s.Helper()
		if got > want || got < want-abandoned {
			s.Errorf("scene %d: %s: %v, want %v, but for %v that were abandoned", n, what, got, want, abandoned)
		}
	}
	seen("operations", float64(books.count(inferenceDuration)+books.count(operationDuration)), float64(scene.calls.Load()))
	equal("attempts", float64(books.count(attemptDuration)), attempts)
	equal("calls that were tried", float64(books.count("retrip.retry.attempts")), tried)
	equal("attempts of all calls", books.sum("retrip.retry.attempts"), attempts)
	equal("calls that were tried + retries", tried+books.sum("retrip.retries"), attempts)
	equal("exhaustions", books.sum("retrip.retry.exhaustions"), float64(scene.stopped.Load()))
	seen("stream outcomes", books.sum("retrip.client.stream.outcomes"), float64(scene.streams.Load()))
	calls, used := float64(scene.calls.Load()), float64(scene.used.Load())
	for kind, least := range map[string]float64{"input": 9 * used, "output": used} {
		if got := books.sum("gen_ai.client.inference.usage." + kind + "_tokens"); got < least || kind == "input" && got > 9*calls {
			s.Errorf("scene %d: %v tokens of %s, where %v answers and %v calls had them", n, got, kind, used, calls)
		}
	}
	if waited, all := books.sum("retrip.retry.delay"), books.sum(inferenceDuration)+books.sum(operationDuration); waited > all {
		s.Errorf("scene %d: waited %v s in operations of %v s", n, waited, all)
	}
	if scene.config.DisableBreaker {
		return
	}
	var permits float64
	for _, outcome := range []string{"success", "failure", "ignored", "stale"} {
		permits += books.sum("retrip.breaker.calls", "retrip.breaker.outcome", outcome)
	}
	seen("permits settled", permits, attempts)
	var settled uint64
	for _, b := range scene.chain.Snapshot().Breakers {
		settled += b.Totals.Success + b.Totals.Failure + b.Totals.Ignored + b.Totals.Stale
		if b.Probes != 0 && scene.abandoned == nil {
			s.Errorf("scene %d: %d probes of %s are still under way", n, b.Probes, b.Key)
		}
		equal("states of "+b.Key, books.sum("retrip.breaker.state", "retrip.breaker.name", b.Key), 1)
	}
	seen("permits settled, by the snapshot", float64(settled), attempts)
}

// summarise shows what the soak has seen, and that it was worth it.
func (s *soak) summarise() {
	var hits []string
	for kind := range s.provider.hits {
		n := s.provider.hits[kind].Load()
		hits = append(hits, strconv.FormatInt(n, 10))
		if n == 0 && s.next.Load() > 5000 {
			s.Errorf("fault %d never came", kind)
		}
	}
	whole, ended := s.whole.Load(), s.ended.Load()
	var failed []string
	s.errors.Range(func(kind, n any) bool {
		failed = append(failed, fmt.Sprintf("%s %d", kind, n.(*atomic.Int64).Load()))
		return true
	})
	s.Logf("%d calls: %d answers taken for whole, %d not; errors: %v; attempts by fault: %s", s.next.Load(), whole, ended, failed, strings.Join(hits, " "))
	for _, a := range []*address{s.provider.plain, s.provider.secure} {
		unheard, goneAway, crashed := a.unheard.Load(), a.goneAway.Load(), a.crashed.Load()
		s.Logf("%s: unheard %d times, gone away %d times, crashed %d times", a.url(), unheard, goneAway, crashed)
		if s.next.Load() > 5000 && (unheard == 0 || goneAway == 0 || crashed == 0) {
			s.Error("a fault of the servers never came")
		}
	}
	s.Logf("%d connections, %d reset at some byte", s.provider.accepted.Load(), s.provider.cut.Load())
	for n := range s.scenes {
		scene := &s.scenes[n]
		books := collect(s, scene.reader)
		s.Logf("scene %d: %d calls, %d attempts, retries %v, stopped %d, rejected %v, paused %v, transitions %v", n, scene.calls.Load(), scene.attempted.Load(),
			books.sum("retrip.retries"), scene.stopped.Load(), books.sum("retrip.breaker.calls", "retrip.breaker.outcome", "rejected"),
			books.sum("retrip.breaker.calls", "retrip.breaker.outcome", "paused"), books.sum("retrip.breaker.transitions"))
	}
	if whole < ended/4 || whole == 0 {
		s.Errorf("too few answers were whole to say much: %d beside %d others", whole, ended)
	}
}

// recover holds the chains to it that they come back: once nothing goes wrong
// with a model any more, its breakers close, whatever became of its permits.
func (s *soak) recover() {
	s.Helper()
	for n := range len(s.scenes) * len(models) * wells {
		p := s.plan(wellFrom + uint64(n))
		for deadline := time.Now().Add(slack); s.stopped.Err() == nil; {
			before := s.whole.Load()
			s.call(p)
			left := s.open(p)
			if s.whole.Load() > before && left == nil {
				break
			}
			if time.Now().After(deadline) {
				s.Errorf("scene %d: %s of %s does not recover: %+v", p.scene, p.endpoint.name, p.model, left)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// open returns the breakers of a plan's endpoint and model that are not closed.
func (s *soak) open(p *plan) (left []breaker.Snapshot) {
	for _, b := range s.scenes[p.scene].chain.Snapshot().Breakers {
		if b.State != breaker.Closed && strings.HasSuffix(b.Key, " "+p.endpoint.name+" "+p.model) {
			left = append(left, b)
		}
	}
	return left
}

// A budgetBook is what the calls of a model have cost.
type budgetBook struct {
	failed atomic.Int64 // retries that failed, and keep their tokens
	gained atomic.Int64 // first attempts that succeeded
}

// budget returns the book of a model's bucket; nil if it is not audited.
func (s *scene) budget(model string) *budgetBook {
	if s.config.Retry.BudgetKey == nil {
		return nil
	}
	b, _ := s.budgets.LoadOrStore(model, new(budgetBook))
	return b.(*budgetBook)
}

func (b *budgetBook) count(report *retry.Report) {
	switch {
	case b == nil || report.Attempts == 0:
	case report.Err != nil:
		b.failed.Add(int64(report.Attempts) - 1)
	case report.Attempts == 1:
		b.gained.Add(1)
	default:
		b.failed.Add(int64(report.Attempts) - 2)
	}
}

// audit counts the tokens that are left. A retry that failed has cost five of
// them, or one if a 429 asked for it; all others are to be had.
func (s *soak) audit() {
	s.Helper()
	for n := range s.scenes {
		scene := &s.scenes[n]
		scene.budgets.Range(func(model, book any) bool {
			b := book.(*budgetBook)
			failed, gained := float64(b.failed.Load()), float64(b.gained.Load())
			least, most := budgetTokens-5*failed, min(budgetTokens, budgetTokens-failed+gained)
			left := float64(5 * s.retriesLeft(scene.config.Retry.Budget, model.(string)))
			if left < least-5 || left > most {
				s.Errorf("scene %d: %v tokens are left for %s, not %v to %v", n, left, model, least, most)
			}
			return true
		})
	}
}

// retriesLeft uses a bucket up.
func (s *soak) retriesLeft(budget *retry.Budget, key string) int {
	down := retry.NewTransport(stub.Func(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusBadGateway, Body: http.NoBody}, nil
	}), retry.Config{
		MaxAttempts: math.MaxInt32, MaxElapsed: -1,
		Backoff: func() backoff.BackOff { return &backoff.ZeroBackOff{} },
		Budget:  budget, BudgetKey: func(*http.Request) string { return key },
		MeterProvider: noop.NewMeterProvider(),
	})
	var report retry.Report
	req, err := retry.NewRequest(retry.WithReport(s.stopped, &report), http.MethodGet, "http://x/", nil)
	if err != nil {
		s.Fatal(err)
	}
	resp, err := down.RoundTrip(req)
	if err != nil {
		s.Errorf("a call that only its Budget ends: %v", err)
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return report.Attempts - 1
}
