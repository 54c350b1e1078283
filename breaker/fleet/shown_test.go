package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/breaker/fleet"
)

// A replica is one of 20 processes that call the same provider.
type replica struct {
	*breaker.Breaker

	opened, sent, refused atomic.Int64
}

// newHerd returns 20 replicas, which share what they learn where there is a server.
func newHerd(t *testing.T, s *server, name string) (herd []*replica) {
	t.Helper()
	var fleets []*fleet.Redis
	for range 20 {
		r := new(replica)
		cfg := breaker.Config{Name: name, OnStateChange: func(c breaker.StateChange) {
			if c.To == breaker.Open {
				r.opened.Add(1)
			}
		}}
		if s != nil {
			f := fleet.NewRedis(s.client(t), fleet.Config{Prefix: name})
			t.Cleanup(func() { _ = f.Close() })
			cfg.Fleet = f
			fleets = append(fleets, f)
		}
		r.Breaker = breaker.New(cfg)
		t.Cleanup(func() { _ = r.Close() })
		herd = append(herd, r)
	}
	if s != nil {
		converge(t, fleets)
	}
	return herd
}

// converge returns how long it takes until all have heard of something.
func converge(t *testing.T, fleets []*fleet.Redis) time.Duration {
	t.Helper()
	var heard atomic.Int64
	for _, f := range fleets[1:] {
		var once sync.Once
		stop := f.Subscribe(func(a breaker.Advice) {
			if a.Name == "hello" {
				once.Do(func() { heard.Add(1) })
			}
		})
		defer stop()
	}
	began := time.Now()
	fleets[0].Publish(breaker.Advice{Name: "hello", Until: time.Now().Add(20 * time.Second)})
	eventually(t, "all have heard", func() bool { return heard.Load() == int64(len(fleets)-1) })
	return time.Since(began)
}

// call makes one call.
func (r *replica) call(fails bool) {
	var p breaker.Permit
	switch {
	case r.Allow(&p) != nil:
		r.refused.Add(1)
		return
	case fails:
		p.Failure()
	default:
		p.Success()
	}
	r.sent.Add(1)
}

// run has each replica call, with waits of its own between calls, until the test or
// enough says so.
func run(herd []*replica, lasts time.Duration, wait func(*rand.Rand) time.Duration, fails func(i int) bool, enough func() bool) {
	end := time.Now().Add(lasts)
	var calling sync.WaitGroup
	for i, r := range herd {
		chance := rand.New(rand.NewPCG(uint64(i), 3))
		calling.Go(func() {
			time.Sleep(time.Duration(chance.Int64N(int64(time.Second)))) // not all begin at once
			for time.Now().Before(end) && !enough() {
				r.call(fails(i))
				time.Sleep(wait(chance))
			}
		})
	}
	calling.Wait()
}

func atRandom(chance *rand.Rand) time.Duration {
	return time.Duration(chance.ExpFloat64() * float64(time.Second))
}
func eachSecond(*rand.Rand) time.Duration { return time.Second }
func often(*rand.Rand) time.Duration      { return 200 * time.Millisecond }

func are(herd []*replica, s breaker.State) func() bool {
	return func() bool {
		return !slices.ContainsFunc(herd, func(r *replica) bool { return r.State() != s })
	}
}

func haveOpened(herd []*replica) func() bool {
	return func() bool {
		return !slices.ContainsFunc(herd, func(r *replica) bool { return r.opened.Load() == 0 })
	}
}

func always(int) bool  { return true }
func notEver(int) bool { return false }

func sum(herd []*replica, of func(*replica) *atomic.Int64) (n int64) {
	for _, r := range herd {
		n += of(r).Load()
	}
	return n
}

func sent(r *replica) *atomic.Int64    { return &r.sent }
func opened(r *replica) *atomic.Int64  { return &r.opened }
func refused(r *replica) *atomic.Int64 { return &r.refused }

// A table has lines that are told when all is over.
type table struct {
	mu    sync.Mutex
	lines []string
}

func (s *table) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// TestShown shows what a fleet is good for, and that Redis costs a call nothing:
// go test -C breaker/fleet -run TestShown -v.
func TestShown(t *testing.T) {
	s := newServer(t)
	if s == nil {
		return
	}
	shown := new(table)
	t.Run("fleet", func(t *testing.T) {
		for name, wait := range map[string]func(*rand.Rand) time.Duration{"each second": eachSecond, "at random, 1/s": atRandom} {
			t.Run("dead provider, "+name, func(t *testing.T) { t.Parallel(); showDead(t, s, shown, name, wait) })
		}
		t.Run("a late joiner", func(t *testing.T) { t.Parallel(); showLate(t, s, shown) })
		t.Run("convergence", func(t *testing.T) { t.Parallel(); showConvergence(t, s, shown) })
		t.Run("two sick", func(t *testing.T) { t.Parallel(); showSick(t, s, shown) })
		t.Run("false alarm", func(t *testing.T) { t.Parallel(); showFalseAlarm(t, s, shown) })
	})
	slices.Sort(shown.lines)
	showCalls(t, s, shown)
	t.Logf("\n%s", strings.Join(shown.lines, "\n"))
}

func showDead(t *testing.T, s *server, shown *table, name string, wait func(*rand.Rand) time.Duration) {
	alone, together := newHerd(t, nil, name), newHerd(t, s, name)
	var both sync.WaitGroup
	for _, herd := range [][]*replica{alone, together} {
		both.Go(func() { run(herd, 30*time.Second, wait, always, haveOpened(herd)) })
	}
	both.Wait()
	shown.add("20 replicas, dead provider, calls %s: requests until all have opened: %d alone, %d as a fleet", name, sum(alone, sent), sum(together, sent))
	if sum(together, sent) > sum(alone, sent) {
		t.Error("a fleet sends more")
	}
}

// showLate is 20 replicas that start while two others have found the provider down.
func showLate(t *testing.T, s *server, shown *table) {
	for range 2 {
		f := fleet.NewRedis(s.client(t), fleet.Config{Prefix: "late"})
		defer f.Close()
		f.Publish(breaker.Advice{Name: "late", Until: time.Now().Add(25 * time.Second)})
	}
	c := s.client(t)
	eventually(t, "stored", func() bool { return c.ZCard(t.Context(), "lateadvice").Val() == 2 })
	herd := newHerd(t, s, "late")
	eventually(t, "all have read what is stored", are(herd, breaker.Open))
	run(herd, 2*time.Second, eachSecond, always, are(herd, breaker.Closed))
	shown.add("20 replicas started in an outage that two have found: requests until all are open: %d", sum(herd, sent))
	if n := sum(herd, sent); n > 0 {
		t.Errorf("%d requests sent", n)
	}
}

func showConvergence(t *testing.T, s *server, shown *table) {
	var fleets []*fleet.Redis
	for range 20 {
		f := fleet.NewRedis(s.client(t), fleet.Config{Prefix: "converge"})
		defer f.Close()
		fleets = append(fleets, f)
	}
	first := converge(t, fleets)
	for _, f := range fleets {
		f.Publish(breaker.Advice{Name: "again", Until: time.Now().Add(20 * time.Second)})
	}
	began := time.Now()
	var heard atomic.Int64
	for _, f := range fleets[1:] {
		var once sync.Once
		defer f.Subscribe(func(a breaker.Advice) {
			if a.Name == "at last" {
				once.Do(func() { heard.Add(1) })
			}
		})()
	}
	fleets[0].Publish(breaker.Advice{Name: "at last", Until: time.Now().Add(20 * time.Second)})
	eventually(t, "all have heard", func() bool { return heard.Load() == 19 })
	shown.add("advice reaches 19 others: within %v of their start, within %v when all publish at once",
		first.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

func showSick(t *testing.T, s *server, shown *table) {
	herd := newHerd(t, s, "sick")
	well := herd[2:]
	run(herd, 8*time.Second, often, func(i int) bool { return i < 2 }, func() bool { return false })
	shown.add("two sick of 20, for 8 s: the sick opened %d times; the others opened %d times, and refused %d of %d calls",
		sum(herd[:2], opened), sum(well, opened), sum(well, refused), sum(well, sent)+sum(well, refused))
	if sum(herd[:2], opened) < 2 || sum(well, opened)+sum(well, refused) > 0 {
		t.Error("the well ones suffer")
	}
}

func showFalseAlarm(t *testing.T, s *server, shown *table) {
	herd := newHerd(t, s, "alarm")
	for range 5 {
		herd[0].call(true)
		herd[1].call(true)
		time.Sleep(260 * time.Millisecond)
	}
	eventually(t, "all believe it", are(herd, breaker.Open))
	began := time.Now()
	run(herd, 30*time.Second, eachSecond, notEver, are(herd, breaker.Closed))
	shown.add("all of 20 after a false alarm: closed after %v, %d openings", time.Since(began).Round(100*time.Millisecond), sum(herd, opened))
	if !are(herd, breaker.Closed)() || sum(herd, opened) != 20 {
		t.Error("the alarm goes on")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// showCalls shows how long calls take while Redis suffers: calls of a Transport of
// which one key opens and publishes all the time.
func showCalls(t *testing.T, s *server, shown *table) {
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		code := http.StatusOK
		if req.URL.Host == "dead" {
			code = http.StatusServiceUnavailable
		}
		return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	})
	cfg := breaker.Config{FailureThreshold: 1, OpenDuration: 20 * time.Millisecond}
	alone := breaker.NewTransport(base, cfg)
	defer alone.Close()
	f := fleet.NewRedis(s.client(t), fleet.Config{Prefix: "calls"})
	defer f.Close()
	cfg.Fleet = f
	shared := breaker.NewTransport(base, cfg)
	defer shared.Close()
	for _, phase := range []struct {
		name    string
		happens func()
		through *breaker.Transport
	}{
		{"without a fleet", func() {}, alone},
		{"with one", func() {}, shared},
		{"server frozen (SIGSTOP)", func() { s.freeze(t) }, shared},
		{"thawed", func() { s.thaw(t) }, shared},
		{"killed", s.kill, shared},
		{"started again", func() { s.start(t) }, shared},
		{"full (maxmemory)", func() { s.raw(t, "CONFIG SET maxmemory 1") }, shared},
	} {
		phase.happens()
		p50, p99, longest, n := measure(t, phase.through)
		shown.add("calls, %-24s p50 %6v, p99 %6v, longest %6v of %d", phase.name+":", p50, p99, longest, n)
	}
}

// measure calls for a second and a half, with 8 callers.
func measure(t *testing.T, tr *breaker.Transport) (p50, p99, longest time.Duration, n int) {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var calling sync.WaitGroup
	end := time.Now().Add(1500 * time.Millisecond)
	for i := range 8 {
		host := []string{"dead", "well"}[i%2]
		calling.Go(func() {
			var mine []time.Duration
			for time.Now().Before(end) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				began := time.Now()
				_, err = tr.RoundTrip(req) //nolint:bodyclose // there is none
				mine = append(mine, time.Since(began))
				if err != nil && host == "well" {
					t.Errorf("a call failed: %v", err)
					return
				}
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	calling.Wait()
	slices.Sort(took)
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Nanosecond) }
	return round(took[len(took)/2]), round(took[len(took)*99/100]), round(took[len(took)-1]), len(took)
}
