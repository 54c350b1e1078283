package fleet_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/breaker/fleet"
)

var (
	shownFor   = flag.Duration("shown.for", 3*time.Second, "TestShown looks for ping-pong so long")
	shownWrite = flag.String("shown.write", "", "the page that TestShown writes its table into")
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
func run(herd []*replica, lasts time.Duration, wait waits, fails func(i int) bool, enough func() bool) {
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

// waits returns how long a replica waits before its next call.
type waits func(*rand.Rand) time.Duration

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
func never() bool      { return false }

func sum(herd []*replica, of func(*replica) *atomic.Int64) (n int64) {
	for _, r := range herd {
		n += of(r).Load()
	}
	return n
}

func sent(r *replica) *atomic.Int64    { return &r.sent }
func opened(r *replica) *atomic.Int64  { return &r.opened }
func refused(r *replica) *atomic.Int64 { return &r.refused }

// A table has rows in the order of their numbers.
type table struct {
	mu   sync.Mutex
	rows [14]string
}

// set sets a row: what was tried, what was hoped for, and what came of it.
func (s *table) set(row int, tried, goal, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[row] = fmt.Sprintf("| %s | %s | %s |\n", tried, goal, fmt.Sprintf(format, args...))
}

func (s *table) String() string {
	return fmt.Sprintf("%s, %s %s/%s\n\n| 20 replicas | goal | measured |\n|---|---|---|\n%s",
		time.Now().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.Join(s.rows[:], ""))
}

// write puts the table into a page, between two marks.
func (s *table) write(t *testing.T, page string) {
	t.Helper()
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := bytes.Cut(old, []byte("<!-- shown -->\n"))
	_, after, ends := bytes.Cut(rest, []byte("<!-- /shown -->\n"))
	if !begins || !ends {
		t.Fatalf("%s has no place for the table", page)
	}
	if err := os.WriteFile(page, fmt.Appendf(nil, "%s<!-- shown -->\n%s<!-- /shown -->\n%s", before, s, after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestShown shows what a fleet is good for, and that Redis costs a call nothing:
// go test -C breaker/fleet -run TestShown -v. With -shown.for=10m it looks for ping-pong
// for so long. With -short it shows neither calls at random nor a false alarm, which take
// longest: calls in step show the one rule, and package breaker tests the other.
func TestShown(t *testing.T) {
	s := newServer(t)
	if s == nil {
		return
	}
	shown := new(table)
	t.Run("fleet", func(t *testing.T) {
		for i, dead := range []struct {
			calls string
			wait  waits
		}{{"a call a second each, at random", atRandom}, {"a call each second", eachSecond}} {
			if testing.Short() && i == 0 {
				continue
			}
			t.Run("dead provider, "+dead.calls, func(t *testing.T) { t.Parallel(); showDead(t, s, shown, i, dead.calls, dead.wait) })
		}
		t.Run("a late joiner", func(t *testing.T) { t.Parallel(); showLate(t, s, shown) })
		t.Run("convergence", func(t *testing.T) { t.Parallel(); showConvergence(t, s, shown) })
		t.Run("two sick", func(t *testing.T) { t.Parallel(); showSick(t, s, shown) })
		if !testing.Short() {
			t.Run("false alarm", func(t *testing.T) { t.Parallel(); showFalseAlarm(t, s, shown) })
		}
	})
	showCalls(t, s, shown)
	t.Logf("\n%s", shown)
	if *shownWrite != "" {
		shown.write(t, *shownWrite)
	}
}

func showDead(t *testing.T, s *server, shown *table, row int, calls string, wait waits) {
	name := fmt.Sprint("dead ", row)
	alone, together := newHerd(t, nil, name), newHerd(t, s, name)
	var first atomic.Int64
	all := func() bool {
		if sum(together, opened) > 0 {
			first.CompareAndSwap(0, sum(together, sent))
		}
		return haveOpened(together)()
	}
	var both sync.WaitGroup
	both.Go(func() { run(alone, 30*time.Second, wait, always, haveOpened(alone)) })
	both.Go(func() { run(together, 30*time.Second, wait, always, all) })
	both.Wait()
	shown.set(row, "dead provider, "+calls+": requests until all have opened", "≤ 1/3", "%d alone, %d as a fleet, %d of them before the first had opened",
		sum(alone, sent), sum(together, sent), first.Load())
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
	shown.set(2, "all start in an outage that two others have found: requests until all are open", "", "%d", sum(herd, sent))
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
	shown.set(3, "advice reaches the 19 others", "≤ 1 s", "within %v of their start, within %v when all publish at once",
		first.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

func showSick(t *testing.T, s *server, shown *table) {
	herd := newHerd(t, s, "sick")
	well := herd[2:]
	run(herd, 8*time.Second, often, func(i int) bool { return i < 2 }, never)
	shown.set(4, "two are sick, for 8 s, 5 calls a second each", "the others lose no call", "the sick opened %d times, the others %d times, and refused %d of %d calls",
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
	shown.set(5, "a false alarm of two opens all", "closed within 30 s", "after %v", time.Since(began).Round(100*time.Millisecond))
	if !are(herd, breaker.Closed)() || sum(herd, opened) != 20 {
		t.Error("the alarm goes on")
	}
	run(herd, *shownFor, eachSecond, notEver, never)
	shown.set(6, "afterwards", "no ping-pong in 10 min", "%d openings in %v", sum(herd, opened)-20, *shownFor)
	if sum(herd, opened) != 20 {
		t.Error("the alarm comes back")
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
	defer alone.Close() //nolint:errcheck // nobody collects metrics
	f := fleet.NewRedis(s.client(t), fleet.Config{Prefix: "calls"})
	defer f.Close()
	cfg.Fleet = f
	shared := breaker.NewTransport(base, cfg)
	defer shared.Close() //nolint:errcheck // nobody collects metrics
	for i, phase := range []struct {
		name    string
		happens func()
		through *breaker.Transport
	}{
		{"without a fleet", func() {}, alone},
		{"with one", func() {}, shared},
		{"Redis frozen (SIGSTOP)", func() { s.freeze(t) }, shared},
		{"Redis thawed", func() { s.thaw(t) }, shared},
		{"Redis killed", s.kill, shared},
		{"Redis started again", func() { s.start(t) }, shared},
		{"Redis full (maxmemory)", func() { s.raw(t, "CONFIG SET maxmemory 1") }, shared},
	} {
		phase.happens()
		p50, p99, longest, n := measure(t, phase.through)
		shown.set(7+i, "how long calls take, "+phase.name, "p99 unchanged", "p50 %v, p99 %v, longest %v of %d", p50, p99, longest, n)
	}
}

// measure calls for a second and a half, or a tenth of that with -short, with 8 callers.
func measure(t *testing.T, tr *breaker.Transport) (p50, p99, longest time.Duration, n int) {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var calling sync.WaitGroup
	length := 1500 * time.Millisecond
	if testing.Short() {
		length /= 10
	}
	end := time.Now().Add(length)
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
				_, err = tr.RoundTrip(req)
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
