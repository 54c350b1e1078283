package soak

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// routedLimit is the time limit of an attempt, and of the first event of its answer.
const routedLimit = time.Second

// TestSoakOfTargets sends calls through chains with several targets, which die,
// freeze, shed, limit, lie, refuse credentials and come back. Whatever happens, no
// origin sees another's credentials, what is answered is what one target meant, byte
// for byte, calls that belong home go nowhere else, streams that are resumed are
// whole, and nothing is left of any call.
//
// No call fails while one target is well: that one is the harbour, of the model
// "safe". It is held of each call of that model for which all of this is so: it is a
// POST that may go to another target, with a payload that is kept; its caller neither
// cancels it nor limits its time, nor asks for one attempt or one target only; the
// Budget is none; no target says that the call itself is wrong; and the harbour's own
// answer did not stall for IdleTimeout, as it may on a machine that is too busy: no other
// limit holds there. Held whole,
// such a call ends in the whole answer. Else it returns a 200, and what is already with
// the caller may still break off.
func TestSoakOfTargets(t *testing.T) {
	// Series and accounts of six chains by four origins take some 12 MiB, once all have come up.
	runSoak(t, 16<<20, func(t *testing.T, seed uint64) soaking { return newRoutedSoak(t, seed) })
}

// A routedScene is one chain with targets.
type routedScene struct {
	name    string
	targets func(s *routedSoak) []openai.Target
	config  openai.Config
	home    bool // calls go home first, while home is well

	reader *sdk.ManualReader
	chain  *openai.Transport

	calls, tried, stopped, moved, resumes atomic.Int64
	attempted                             atomic.Int64 // RoundTrips of the base
	abandoned                             atomic.Int64 // calls whose body nobody read to its end or closed
}

func newRoutedScenes() []routedScene {
	scenes := []routedScene{
		{name: "tiers", home: true, config: openai.Config{Delivery: openai.FromFirstEvent}, targets: func(s *routedSoak) []openai.Target {
			return []openai.Target{{}, s.target(europe, 1), s.sour(1), s.target(harbour, 2)}
		}},
		{name: "one tier", config: openai.Config{Delivery: openai.Whole}, targets: func(s *routedSoak) []openai.Target {
			return []openai.Target{{Weight: 2}, s.target(europe, 0), s.target(harbour, 0)}
		}},
		{name: "another key", home: true, config: openai.Config{Delivery: openai.Whole, DisableBreaker: true}, targets: func(s *routedSoak) []openai.Target {
			second := s.target(home, 0)
			second.Name, second.Tier, second.Header = "second", 1, keys(secondSecret)
			return []openai.Target{{}, second, s.target(harbour, 2)}
		}},
		{name: "no home", config: openai.Config{Delivery: openai.Immediate}, targets: func(s *routedSoak) []openai.Target {
			return []openai.Target{s.target(europe, 0), s.target(harbour, 1)}
		}},
		{name: "home last", config: openai.Config{Delivery: openai.FromFirstEvent}, targets: func(s *routedSoak) []openai.Target {
			return []openai.Target{s.target(harbour, 0), {Tier: 1}}
		}},
		{name: "unpaced", home: true, config: openai.Config{Delivery: openai.Whole, Pacing: openai.Off, InBandErrors: openai.PassThrough}, targets: func(s *routedSoak) []openai.Target {
			return []openai.Target{{}, s.target(europe, 0), s.target(harbour, 1)}
		}},
	}
	for n := range scenes {
		c := &scenes[n].config
		c.FirstEventTimeout, c.IdleTimeout = routedLimit, 3*routedLimit
		c.Logger = slog.New(slog.DiscardHandler)
		c.Retry = retry.Config{
			Backoff: func() backoff.BackOff {
				return backoff.NewExponentialBackOff(backoff.WithInitialInterval(2*time.Millisecond), backoff.WithMaxInterval(20*time.Millisecond))
			},
			MaxRetryAfter:  1500 * time.Millisecond,
			MaxElapsed:     maxElapsed,
			AttemptTimeout: routedLimit,
			MaxReplayBytes: maxReplay,
			Budget:         retry.Unlimited,
		}
		c.Breaker = breaker.Config{OpenDuration: 200 * time.Millisecond}
	}
	return scenes
}

type routedSoak struct {
	*testing.T

	scenes   []routedScene
	seed     uint64
	sites    [siteCount]*site
	roots    *x509.CertPool
	next     atomic.Uint64
	problems atomic.Int32
	under    sync.Map // the calls under way, by id: *routedState

	stop    context.CancelFunc
	stopped context.Context

	bodies sync.Map // request bodies that were not closed yet, and whose they are
	pinned sync.Map // the calls that something still refers to

	whole, broken, failed atomic.Int64 // how calls ended
	sheltered, excused    atomic.Int64 // calls that must not fail; of them those that were too slow
	resumed, refused      atomic.Int64
}

func newRoutedSoak(t *testing.T, seed uint64) *routedSoak {
	s := &routedSoak{T: t, seed: seed, scenes: newRoutedScenes()}
	s.stopped, s.stop = context.WithCancel(context.Background())
	var secure *tls.Config
	secure, s.roots = certified()
	for n := range s.sites {
		v := &site{soak: s, index: siteIndex(n), host: host{seed: seed + uint64(n), done: make(chan struct{})}}
		v.problem = func(_ *plan, format string, args ...any) { s.problem(nil, format, args...) }
		v.handler = v
		config := secure
		if v.index != europe {
			config = nil
		}
		v.address = v.start(t, 0, config, v.index == harbour)
		t.Cleanup(func() { close(v.done) })
		s.sites[n] = v
	}
	for n := range s.scenes {
		scene := &s.scenes[n]
		base := openai.BaseTransport()
		base.IdleConnTimeout, base.HTTP2.SendPingTimeout = 500*time.Millisecond, 500*time.Millisecond
		base.TLSClientConfig.RootCAs = s.roots
		scene.reader = sdk.NewManualReader()
		scene.config.MeterProvider = sdk.NewMeterProvider(sdk.WithReader(scene.reader), sdk.WithExemplarFilter(exemplar.AlwaysOffFilter))
		scene.config.Targets = scene.targets(s)
		if err := scene.config.Validate(); err != nil {
			t.Fatal(err)
		}
		scene.chain = openai.NewTransport(&routedBase{base, scene}, scene.config)
		t.Cleanup(func() { _ = scene.chain.Close() })
	}
	t.Cleanup(s.stop)
	return s
}

// target returns one at a site, with a key of its own.
func (s *routedSoak) target(at siteIndex, tier int) openai.Target {
	t := openai.Target{
		Name: siteNames[at], BaseURL: s.sites[at].address.url() + siteBases[at],
		Header: keys(siteSecrets[at]), Forward: []string{"X-Soak-Id"}, Tier: tier,
	}
	if at == harbour {
		t.Models = map[string]string{"safe": "safe-there", "rough": "rough-there"}
		t.AttemptTimeout, t.FirstEventTimeout = -1, -1 // it is not the harbour's fault if the machine is busy
	}
	return t
}

// sour returns a target whose credentials come from an Authorize that is no better
// than what they are for.
func (s *routedSoak) sour(tier int) openai.Target {
	t := s.target(sour, tier)
	t.Header = nil
	var asked atomic.Int64
	t.Authorize = func(req *http.Request) error {
		switch n := asked.Add(1); {
		case n%31 == 0:
			panic("soak")
		case n%11 == 0:
			return errors.New("no token")
		}
		maps.Copy(req.Header, keys(siteSecrets[sour]))
		return nil
	}
	return t
}

func keys(secret string) http.Header {
	return http.Header{"Authorization": {"Bearer " + secret}, "X-Api-Key": {secret}}
}

func (s *routedSoak) problem(p *routedPlan, format string, args ...any) {
	if n := s.problems.Add(1); n <= 20 {
		s.Errorf("%s\n\t%+v", fmt.Sprintf(format, args...), p)
	} else if n == 21 {
		s.stop()
	}
}

// A routedBase counts what comes out of a chain.
type routedBase struct {
	*http.Transport

	scene *routedScene
}

func (b *routedBase) RoundTrip(req *http.Request) (*http.Response, error) {
	b.scene.attempted.Add(1)
	return b.Transport.RoundTrip(req)
}

// run makes calls for a while.
func (s *routedSoak) run(length time.Duration) {
	over := time.Now().Add(length)
	var wait sync.WaitGroup
	for range max(1, *flagCallers/2) {
		wait.Go(func() {
			for time.Now().Before(over) && s.stopped.Err() == nil {
				s.call(newRoutedPlan(s.seed, s.next.Add(1), len(s.scenes)))
			}
		})
	}
	wait.Wait()
}

// settle waits until nothing is left of the calls, and balances the books.
func (s *routedSoak) settle() {
	s.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(slack); ; <-poll.C {
		for n := range s.scenes {
			s.scenes[n].chain.CloseIdleConnections()
		}
		var open int64
		for _, v := range s.sites {
			open += v.open.Load()
		}
		forgetTimers()
		runtime.GC()
		var pinned []uint64
		s.pinned.Range(func(id, _ any) bool {
			pinned = append(pinned, id.(uint64))
			return len(pinned) < 10
		})
		var bodies []any
		s.bodies.Range(func(_, of any) bool {
			bodies = append(bodies, of)
			return len(bodies) < 10
		})
		if open == 0 && bodies == nil && pinned == nil {
			break
		}
		if time.Now().After(deadline) {
			s.Fatalf("left behind: %d connections, request bodies that were not closed: %v, calls that something holds: %v\n%s", open, bodies, pinned, stacks())
		}
	}
	for n := range s.scenes {
		s.balance(&s.scenes[n])
	}
}

// balance holds the books of one chain against what came in and went out.
func (s *routedSoak) balance(scene *routedScene) {
	s.Helper()
	books := collect(s, scene.reader)
	attempts, calls := float64(scene.attempted.Load()), float64(scene.calls.Load())
	tried, resumes := float64(scene.tried.Load()), float64(scene.resumes.Load())
	operations := float64(books.count(inferenceDuration) + books.count(operationDuration))
	if operations > calls || operations < calls-float64(scene.abandoned.Load()) {
		s.Errorf("%s: %v operations of %v calls", scene.name, operations, calls)
	}
	if got := float64(books.count(attemptDuration)); got != attempts {
		s.Errorf("%s: %v attempts, want %v", scene.name, got, attempts)
	}
	if got := float64(books.count("retrip.retry.attempts")); got != tried {
		s.Errorf("%s: %v calls that were tried, want %v", scene.name, got, tried)
	}
	if got := tried + books.sum("retrip.retries") + resumes; got != attempts {
		s.Errorf("%s: %v calls that were tried, retries and requests to resume, want %v", scene.name, got, attempts)
	}
	if got, least := books.sum("retrip.failovers"), float64(scene.moved.Load()); got < least {
		s.Errorf("%s: %v fail-overs, where reports have %v", scene.name, got, least)
	}
}

// recover holds the chains to it that calls go home again, once home is well.
func (s *routedSoak) recover() {
	s.Helper()
	for n := range s.scenes {
		if !s.scenes[n].home {
			continue
		}
		for deadline := time.Now().Add(slack); s.stopped.Err() == nil; time.Sleep(time.Millisecond) {
			p := wellRoutedPlan(n)
			s.call(p)
			if p.answeredBy.Load() == int32(home)+1 {
				break
			}
			if time.Now().After(deadline) {
				s.Errorf("%s: no call comes home: %+v", s.scenes[n].name, s.scenes[n].chain.Snapshot())
				return
			}
		}
	}
}

// finish shows what the soak has seen, and that it was worth it.
func (s *routedSoak) finish() {
	s.Logf("%d calls: %d whole, %d broken off, %d without an answer; %d must not fail, of which %d were too slow; %d streams resumed to their end, %d refused",
		s.next.Load(), s.whole.Load(), s.broken.Load(), s.failed.Load(), s.sheltered.Load(), s.excused.Load(), s.resumed.Load(), s.refused.Load())
	for _, v := range s.sites {
		s.Logf("%s: %d requests, trouble %v; crashed %d times, unheard %d, gone away %d, %d connections reset", siteNames[v.index], v.served.Load(), v.counts(),
			v.address.crashed.Load(), v.address.unheard.Load(), v.address.goneAway.Load(), v.cut.Load())
	}
	for n := range s.scenes {
		scene := &s.scenes[n]
		books := collect(s, scene.reader)
		s.Logf("%s: %d calls, %d attempts, fail-overs %v, resumes %d, stopped %d", scene.name, scene.calls.Load(), scene.attempted.Load(), books.sum("retrip.failovers"), scene.resumes.Load(), scene.stopped.Load())
	}
	if s.next.Load() < 3000 {
		return
	}
	if whole, sheltered := s.whole.Load(), s.sheltered.Load(); whole < s.broken.Load() || sheltered == 0 || s.excused.Load() > sheltered/2 || s.resumed.Load() == 0 {
		s.Error("too little went well to say much")
	}
}
