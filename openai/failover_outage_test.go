package openai_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A site is a server in virtual time, whose state changes.
type site struct {
	takes   time.Duration // to answer
	dead    atomic.Int32  // how; 0 is not at all
	share   float64       // of requests that fail
	served  atomic.Int64
	failed  atomic.Int64
	latest  atomic.Int64 // when it answered last, since start
	start   time.Time
	healthy atomic.Int64 // when it was first asked after it came back
}

const (
	refuses = 1 + iota
	freezes
)

func (s *site) RoundTrip(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	switch s.dead.Load() {
	case refuses:
		s.failed.Add(1)
		return nil, io.ErrUnexpectedEOF
	case freezes:
		s.failed.Add(1)
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if rand.Float64() < s.share {
		s.failed.Add(1)
		return stub.Response(503, `{}`), nil
	}
	select {
	case <-time.After(s.takes):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	s.served.Add(1)
	s.latest.Store(int64(time.Since(s.start)))
	s.healthy.CompareAndSwap(0, int64(time.Since(s.start)))
	return stub.Response(200, fine), nil
}

// A trial is calls at a rate to a chain over two sites.
type trial struct {
	home, eu *site
	failed   atomic.Int64
	slowest  atomic.Int64
	slow     atomic.Int64 // calls that took longer than bearable
	bearable time.Duration
}

func newTrial(bearable time.Duration) *trial {
	now := time.Now()
	return &trial{home: &site{takes: 300 * time.Millisecond, start: now}, eu: &site{takes: 500 * time.Millisecond, start: now}, bearable: bearable}
}

// run makes calls for a time, and has at happen meanwhile.
func (tr *trial) run(t *testing.T, cfg openai.Config, rate int, length time.Duration, at map[time.Duration]func()) {
	t.Helper()
	cfg.Targets = homeAndEU()
	cfg.Targets[0].Base, cfg.Targets[1].Base = tr.home, tr.eu
	chain := newChain(t, tr.home, cfg)
	var calls sync.WaitGroup
	for when, happens := range at {
		time.AfterFunc(when, happens)
	}
	for range int(length.Seconds()) * rate {
		calls.Go(func() {
			began := time.Now()
			if got := do(t, chain, asks(t, context.Background())); got.err != nil || got.status != 200 {
				tr.failed.Add(1)
			}
			took := time.Since(began)
			for old := tr.slowest.Load(); int64(took) > old && !tr.slowest.CompareAndSwap(old, int64(took)); old = tr.slowest.Load() {
			}
			if took > tr.bearable {
				tr.slow.Add(1)
			}
		})
		time.Sleep(time.Second / time.Duration(rate))
	}
	calls.Wait()
}

func TestAHomeThatDiesFailsNoCallAndIsUsedAgainSoon(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		how   int32
		limit time.Duration
	}{"refusing": {refuses, 0}, "freezing": {freezes, 5 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(1500 * time.Millisecond)
				back := 40 * time.Second
				tr.run(t, openai.Config{FirstEventTimeout: row.limit}, 200, 90*time.Second, map[time.Duration]func(){
					10 * time.Second: func() { tr.home.dead.Store(row.how) },
					back:             func() { tr.home.dead.Store(0); tr.home.healthy.Store(0) },
				})
				away := time.Duration(tr.home.healthy.Load()) - back
				t.Logf("%s: %d failed, slowest %v, %d slow, home was asked in vain %d times, and answers again after %v, at last %v; eu served %d", name,
					tr.failed.Load(), time.Duration(tr.slowest.Load()), tr.slow.Load(), tr.home.failed.Load(), away, time.Duration(tr.home.latest.Load()), tr.eu.served.Load())
				if tr.failed.Load() != 0 || away > 20*time.Second || time.Duration(tr.home.latest.Load()) < 85*time.Second {
					t.Errorf("%d calls failed, home is used again after %v", tr.failed.Load(), away)
				}
				if row.how == refuses && (tr.slow.Load() > 0 || tr.home.failed.Load() > 300) {
					t.Errorf("%d calls were slow; %d attempts were in vain", tr.slow.Load(), tr.home.failed.Load())
				}
				if row.how == freezes && time.Duration(tr.slowest.Load()) > row.limit+1500*time.Millisecond {
					t.Errorf("the slowest call took %v", time.Duration(tr.slowest.Load()))
				}
			})
		})
	}
}

func TestWithBothDeadCallsFailAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(time.Second)
		tr.home.dead.Store(refuses)
		tr.eu.dead.Store(refuses)
		tr.run(t, openai.Config{}, 100, 60*time.Second, nil)
		t.Logf("%d failed, %d slow, attempts %d and %d", tr.failed.Load(), tr.slow.Load(), tr.home.failed.Load(), tr.eu.failed.Load())
		if tr.failed.Load() != 6000 || tr.slow.Load() > 600 || tr.home.failed.Load() > 600 || tr.eu.failed.Load() > 600 {
			t.Errorf("%d failed, %d slow, attempts %d and %d", tr.failed.Load(), tr.slow.Load(), tr.home.failed.Load(), tr.eu.failed.Load())
		}
	})
}

func TestInABrownOutOfBothTheSecondIsNoDustbin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(time.Minute)
		tr.home.share, tr.eu.share = 0.3, 0.3
		perSecond := 2000
		if testing.Short() {
			perSecond = 400
		}
		tr.run(t, openai.Config{}, perSecond, 20*time.Second, nil)
		calls := int64(20 * perSecond)
		second := float64(tr.eu.served.Load()+tr.eu.failed.Load()) / float64(calls)
		t.Logf("%.2f requests a call to the second, %.2f to home, %d failed", second, float64(tr.home.served.Load()+tr.home.failed.Load())/float64(calls), tr.failed.Load())
		if second > 1.5 {
			t.Errorf("the second target got %.2f requests a call", second)
		}
		// Four attempts of which 30 % fail leave 0.8 %. In the first half second only
		// failures have come back, since they are faster than answers.
		if tr.failed.Load() > calls/40 {
			t.Errorf("%d of %d calls failed", tr.failed.Load(), calls)
		}
	})
}

// A prompt that no provider can answer is one failure of each, however often it goes
// from one to the other and back.
func TestACallThatComesHomeAgainCountsOnceInHomesRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy).at(atEU, busy)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Retry: retry.Config{Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }}})
		for range breaker.DefaultFailureThreshold - 1 {
			do(t, tr, asks(t, t.Context()))
			time.Sleep(time.Second)
		}
		for _, b := range tr.Snapshot().Breakers {
			if b.State != breaker.Closed || b.ConsecutiveFailures != breaker.DefaultFailureThreshold-1 {
				t.Errorf("after %q %s is %s, with %d failures in a row", w.way(), b.Key, b.State, b.ConsecutiveFailures)
			}
		}
	})
}
