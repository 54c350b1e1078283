package soak

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.uber.org/goleak"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

var (
	flagFor     = flag.Duration("soak.for", 0, "how long TestSoak lasts; 0 = 8s, or 3s with -short")
	flagSeed    = flag.Uint64("soak.seed", 0, "what the calls and faults of TestSoak follow from; 0 = a random one")
	flagCallers = flag.Int("soak.callers", 200, "how many callers TestSoak has at the same time")
)

const (
	maxReplay    = 128 << 10
	maxElapsed   = 6 * time.Second
	budgetTokens = 20_000      // of a Budget that is audited
	slack        = time.Minute // for a busy machine and the race detector
)

// TestSoak sends calls of all kinds through chains of all kinds to a provider
// that fails in all ways, over real connections. Whatever happens, each call
// ends in time, with the answer that was meant or with an error; nothing is
// left of it; and the books balance. The plan follows from the seed, the
// schedule does not.
func TestSoak(t *testing.T) {
	runSoak(t, 4<<20, func(t *testing.T, seed uint64) soaking { return newSoak(t, seed) })
}

// A soaking is a soak under way.
type soaking interface {
	run(length time.Duration)
	settle()  // waits until nothing is left of the calls, and balances the books
	recover() // waits until all is well again
	finish()  // looks at it as a whole
}

// runSoak runs one in two halves, and compares what is left of them. The heap may
// grow by half and by room, for what a short first half has not met yet.
func runSoak(t *testing.T, room uint64, start func(t *testing.T, seed uint64) soaking) {
	t.Helper()
	length, seed := *flagFor, *flagSeed
	switch {
	case length > 0:
	case testing.Short():
		length = 3 * time.Second
	default:
		length = 8 * time.Second
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	// Not by t.Log, which says nothing if the test hangs.
	fmt.Fprintf(os.Stderr, "go test ./internal/soak -race -run '^%s$' -soak.for=%v -soak.seed=%d\n", t.Name(), length, seed)

	before := goleak.IgnoreCurrent()
	t.Run("calls", func(t *testing.T) {
		// All that it sends is garbage, and little is live.
		defer debug.SetGCPercent(debug.SetGCPercent(600))
		s := start(t, seed)
		// What the first half has cost once, such as the series of its metrics,
		// the second must not cost again.
		s.run(length / 2)
		s.settle()
		first := heapInUse()
		s.run(length - length/2)
		s.settle()
		s.recover()
		s.settle()
		second := heapInUse()
		for limit := time.Now().Add(slack); second > first+first/2+room && time.Now().Before(limit); {
			second = heapInUse()
		}
		t.Logf("heap in use: %d bytes, then %d", first, second)
		if second > first+first/2+room {
			t.Error("the heap grew")
		}
		s.finish()
	})
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func (s *soak) finish() {
	s.audit()
	s.summarise()
}

func heapInUse() uint64 {
	forgetTimers()
	for range 3 {
		runtime.GC() // the pools are empty after the second one
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A scene is one chain of the soak.
type scene struct {
	http2    bool
	patient  bool // its own limits end nothing within the test
	attempts int
	config   openai.Config

	reader *sdk.ManualReader
	chain  *openai.Transport
	url    string

	calls     atomic.Int64  // RoundTrips of the chain
	tried     atomic.Int64  // of them those that made an attempt
	stopped   atomic.Int64  // of them those whose retryable failure was returned
	attempted atomic.Int64  // RoundTrips of the base
	streams   atomic.Int64  // of them those that were answered with a readable stream
	used      atomic.Int64  // answers that were read to their end and tell their usage
	abandoned *atomic.Int64 // calls whose body nobody read to its end or closed; nil: nobody may do that

	budgets sync.Map // by model: *budgetBook, if the Budget is audited
}

func newScenes() []scene {
	scenes := make([]scene, 8)
	for n := range scenes {
		s := &scenes[n]
		s.http2 = n%2 == 1
		s.attempts = 4
		s.config = openai.Config{
			Delivery:          openai.Delivery(n / 2 % 3),
			FirstEventTimeout: 500 * time.Millisecond,
			IdleTimeout:       500 * time.Millisecond,
			RetryStateful:     n%3 == 0,
			Logger:            slog.New(slog.DiscardHandler),
			Retry: retry.Config{
				MaxAttempts: s.attempts,
				Backoff: func() backoff.BackOff {
					return backoff.NewExponentialBackOff(backoff.WithInitialInterval(2*time.Millisecond), backoff.WithMaxInterval(20*time.Millisecond))
				},
				MaxRetryAfter:  1500 * time.Millisecond,
				MaxElapsed:     maxElapsed,
				AttemptTimeout: 3 * time.Second,
				MaxReplayBytes: maxReplay,
				Budget:         retry.NewBudget(2000, 1000),
			},
			Breaker: breaker.Config{OpenDuration: 50 * time.Millisecond, ProbeTimeout: time.Hour, Window: 2 * time.Second},
		}
	}
	// What a timer that is left behind holds shows only if it doesn't expire.
	for _, s := range []*scene{&scenes[6], &scenes[7]} {
		s.patient = true
		s.config.FirstEventTimeout, s.config.IdleTimeout, s.config.Retry.AttemptTimeout = time.Hour, time.Hour, time.Hour
		s.config.Retry.MaxRetryAfter, s.config.Retry.MaxElapsed = 2*time.Hour, 2*time.Hour
		s.config.Retry.Budget = retry.Unlimited
	}
	// Where breakers seldom open, more of the rest is seen.
	for n := range 4 {
		scenes[n].config.Breaker.FailureThreshold, scenes[n].config.Breaker.FailureRatio = 20, 0.9
	}
	// There the books balance but for them.
	for _, s := range []*scene{&scenes[4], &scenes[5]} {
		s.abandoned = new(atomic.Int64)
		s.config.Breaker.ProbeTimeout = 500 * time.Millisecond // elsewhere no place may be lost
	}
	for _, s := range []*scene{&scenes[2], &scenes[3]} {
		s.config.Retry.Budget = retry.NewBudget(budgetTokens, 0)
		s.config.Retry.BudgetKey = func(req *http.Request) string { return markOf(req.Context()).plan.model }
	}
	scenes[6].config.SDKRetries = openai.StopSDKRetriesAlways
	scenes[7].config.Delivery = openai.Whole
	scenes[7].config.DisableBreaker = true
	return scenes
}

type soak struct {
	*testing.T

	provider *provider
	scenes   []scene
	seed     uint64
	next     atomic.Uint64 // the number of the next call
	problems atomic.Int32
	dials    atomic.Int64

	stop    context.CancelFunc // ends everything, once something hangs
	stopped context.Context

	bodies atomic.Int64 // opaque request bodies that were not closed yet
	pinned sync.Map     // the calls that something still refers to

	whole, ended atomic.Int64 // answers taken for whole, other answers
	errors       sync.Map     // of calls, by their error.type: *atomic.Int64
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{T: t, seed: seed, scenes: newScenes()}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.provider = &provider{scenes: s.scenes, host: host{problem: s.problem, seed: seed, done: make(chan struct{})}}
	s.provider.handler = s.provider
	startProvider(t, s.provider)
	t.Cleanup(func() { close(s.provider.done) })
	refusing, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refusing.Close()
	for n := range s.scenes {
		scene := &s.scenes[n]
		base := openai.BaseTransport()
		// For as long the timers of net/http hold on to a closed HTTP/2 connection.
		base.IdleConnTimeout, base.HTTP2.SendPingTimeout = 500*time.Millisecond, 500*time.Millisecond
		dial := base.DialContext
		base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if s.dials.Add(1)%13 == 0 {
				address = refusing.Addr().String()
			}
			return dial(ctx, network, address)
		}
		scene.url = s.provider.plain.url()
		if scene.http2 {
			scene.url = s.provider.secure.url()
			base.TLSClientConfig.RootCAs = s.provider.roots
		}
		scene.reader = sdk.NewManualReader()
		scene.config.MeterProvider = sdk.NewMeterProvider(sdk.WithReader(scene.reader), sdk.WithExemplarFilter(exemplar.AlwaysOffFilter))
		scene.chain = openai.NewTransport(&countingBase{base, s, scene}, scene.config)
		t.Cleanup(func() { _ = scene.chain.Close() })
	}
	t.Cleanup(s.stop)
	return s
}

func (s *soak) plan(id uint64) *plan { return newPlan(s.seed, id, s.scenes) }

func (s *soak) problem(p *plan, format string, args ...any) {
	if n := s.problems.Add(1); n <= 20 {
		s.Errorf("%s\n\t%v", fmt.Sprintf(format, args...), p)
	} else if n == 21 {
		s.stop()
	}
}

// A countingBase counts what comes out of a chain, and when.
type countingBase struct {
	*http.Transport

	soak  *soak
	scene *scene
}

func (b *countingBase) RoundTrip(req *http.Request) (*http.Response, error) {
	b.scene.attempted.Add(1)
	mark := markOf(req.Context())
	if early := time.Until(mark.notBefore); early > 0 {
		b.soak.problem(mark.plan, "an attempt began %v before the wait was over that the provider had asked for", early)
	}
	resp, err := b.Transport.RoundTrip(req)
	if err == nil {
		attempt, _ := strconv.Atoi(resp.Header.Get("X-Soak-Attempt"))
		mark.notBefore = time.Now().Add(mark.plan.fault(attempt).hint())
	}
	// What is empty is readable, whatever encoding it claims.
	if err == nil && resp.StatusCode == http.StatusOK && (resp.Header.Get("Content-Encoding") == "" || resp.Body == http.NoBody) &&
		resp.Header.Get("Content-Type") == "text/event-stream" {
		b.scene.streams.Add(1)
	}
	return resp, err
}

// run makes calls for a while.
func (s *soak) run(length time.Duration) {
	over := time.Now().Add(length)
	var wait sync.WaitGroup
	for range *flagCallers {
		wait.Go(func() {
			for time.Now().Before(over) && s.stopped.Err() == nil {
				s.call(s.plan(s.next.Add(1)))
			}
		})
	}
	wait.Wait()
}
