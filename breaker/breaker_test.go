package breaker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
)

// admit returns a permit, and fails the test if there is none.
func admit(t testing.TB, b *breaker.Breaker) *breaker.Permit {
	t.Helper()
	p := new(breaker.Permit)
	if err := b.Allow(p); err != nil {
		t.Fatalf("Allow: %v", err)
	}
	return p
}

func succeed(t testing.TB, b *breaker.Breaker, n int) {
	t.Helper()
	for range n {
		admit(t, b).Success()
	}
}

func fail(t testing.TB, b *breaker.Breaker, n int) {
	t.Helper()
	for range n {
		admit(t, b).Failure()
	}
}

// apart is the time between two failures that both count in a row of five.
const apart = 250 * time.Millisecond

// failApart lets n requests fail, of which each counts in a row of five.
func failApart(t testing.TB, b *breaker.Breaker, n int) {
	t.Helper()
	for range n {
		time.Sleep(apart)
		fail(t, b, 1)
	}
}

func wantState(t testing.TB, b *breaker.Breaker, want breaker.State) {
	t.Helper()
	if got := b.State(); got != want {
		t.Fatalf("state is %v, want %v", got, want)
	}
}

// wantRefusal fails the test unless b refuses; it returns the refusal.
func wantRefusal(t testing.TB, b *breaker.Breaker) *breaker.OpenError {
	t.Helper()
	var open *breaker.OpenError
	if err := b.Allow(new(breaker.Permit)); !errors.As(err, &open) || !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("Allow returned %v, want an OpenError", err)
	}
	return open
}

// newBreaker returns a Breaker that is closed with the test.
func newBreaker(t testing.TB, cfg breaker.Config) *breaker.Breaker {
	b := breaker.New(cfg)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// virtual runs f in a synctest bubble, with a Breaker made in it.
func virtual(t *testing.T, cfg breaker.Config, f func(*testing.T, *breaker.Breaker)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f(t, newBreaker(t, cfg))
	})
}

func TestOpening(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	type step struct {
		outcome string // s, f or i for each request
		every   time.Duration
	}
	for name, test := range map[string]struct {
		cfg   breaker.Config
		steps []step
		want  breaker.State
	}{
		"four failures in a row":        {steps: []step{{"ffff", 250 * ms}}, want: breaker.Closed},
		"five failures in a row":        {steps: []step{{"fffff", 250 * ms}}, want: breaker.Open},
		"a success ends a row":          {steps: []step{{"ffffsffff", 250 * ms}}, want: breaker.Closed},
		"what is ignored does not":      {steps: []step{{"fifififif", 250 * ms}}, want: breaker.Open},
		"what is ignored is no outcome": {steps: []step{{"iiiiiiiiiiiiiiiiiiiiiiiii", 0}, {"fffff", 250 * ms}}, want: breaker.Open},
		"just under a second":           {steps: []step{{"fffff", 249 * ms}}, want: breaker.Closed},
		"many in just under a second":   {steps: []step{{strings.Repeat("f", 1000), ms}}, want: breaker.Closed},
		"many in a second":              {steps: []step{{strings.Repeat("f", 1001), ms}}, want: breaker.Open},
		"a threshold of one":            {cfg: breaker.Config{FailureThreshold: 1}, steps: []step{{"f", 0}}, want: breaker.Open},
		"a threshold of two":            {cfg: breaker.Config{FailureThreshold: 2}, steps: []step{{"ff", 1000 * ms}}, want: breaker.Open},
		"a threshold of two, too early": {cfg: breaker.Config{FailureThreshold: 2}, steps: []step{{"ff", 999 * ms}}, want: breaker.Closed},
		"threshold off":                 {cfg: breaker.Config{FailureThreshold: -1}, steps: []step{{"ffffffffff", 250 * ms}}, want: breaker.Closed},
		"busy: five over a second":      {steps: []step{{strings.Repeat("s", 20), 0}, {"fffff", 250 * ms}}, want: breaker.Open},
		"half fail":                     {steps: []step{{strings.Repeat("sf", 25), 100 * ms}}, want: breaker.Open},
		"half fail, too few outcomes":   {steps: []step{{strings.Repeat("sf", 9), 400 * ms}}, want: breaker.Closed},
		"half fail, but not for long":   {steps: []step{{strings.Repeat("sf", 10), 100 * ms}, {strings.Repeat("sf", 9), 100 * ms}}, want: breaker.Closed},
		"half fail in an instant":       {steps: []step{{strings.Repeat("sf", 100), 0}}, want: breaker.Closed},
		"less than half fail":           {steps: []step{{"ss" + strings.Repeat("sf", 30), 100 * ms}}, want: breaker.Closed},
		"a lower ratio":                 {cfg: breaker.Config{FailureRatio: 0.25, MinRequests: 8}, steps: []step{{"ssssss", 0}, {strings.Repeat("sf", 7), 300 * ms}}, want: breaker.Open},
		"exactly a ratio":               {cfg: breaker.Config{FailureThreshold: -1, FailureRatio: 0.28, MinRequests: 25}, steps: []step{{strings.Repeat("s", 18), 0}, {"fffffff", 100 * ms}, {strings.Repeat("ssf", 6), 300 * ms}}, want: breaker.Open},
		"ratio off":                     {cfg: breaker.Config{FailureRatio: -1}, steps: []step{{strings.Repeat("sf", 30), 100 * ms}}, want: breaker.Closed},
		"the ratio forgets":             {cfg: breaker.Config{FailureThreshold: -1}, steps: []step{{"fffffffff", 200 * ms}, {"i", 75 * time.Second}, {"ssssssssss", 0}, {"f", 0}}, want: breaker.Closed},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, test.cfg, func(t *testing.T, b *breaker.Breaker) {
				for i, step := range test.steps {
					for j, outcome := range step.outcome {
						if i+j > 0 {
							time.Sleep(step.every)
						}
						var p breaker.Permit
						if b.Allow(&p) != nil {
							break // it is open
						}
						switch outcome {
						case 's':
							p.Success()
						case 'f':
							p.Failure()
						default:
							p.Ignore()
						}
					}
				}
				wantState(t, b, test.want)
			})
		})
	}
}

func TestClosedOpenHalfOpenClosed(t *testing.T) {
	var changes []breaker.StateChange
	virtual(t, breaker.Config{
		Name:          "x",
		OnStateChange: func(c breaker.StateChange) { changes = append(changes, c) },
	}, func(t *testing.T, b *breaker.Breaker) {
		start := time.Now()
		failApart(t, b, 5)
		if r := wantRefusal(t, b); r.RetryAfter != 5*time.Second || r.Key != "x" {
			t.Errorf("refused with %+v", r)
		}
		time.Sleep(5*time.Second - 1)
		wantState(t, b, breaker.Open)
		if r := wantRefusal(t, b); r.RetryAfter != 1 {
			t.Errorf("refused for %v", r.RetryAfter)
		}
		time.Sleep(time.Nanosecond)
		wantState(t, b, breaker.HalfOpen)
		fail(t, b, 1)
		wantState(t, b, breaker.Open)
		time.Sleep(10 * time.Second)
		wantState(t, b, breaker.HalfOpen)
		succeed(t, b, 1)
		wantState(t, b, breaker.Closed)

		at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
		want := []breaker.StateChange{
			{Key: "x", From: breaker.Closed, To: breaker.Open, At: at(1250), Seq: 1, Reason: "failures_in_a_row"},
			{Key: "x", From: breaker.Open, To: breaker.HalfOpen, At: at(6250), Seq: 2, Reason: "open_duration_over"},
			{Key: "x", From: breaker.HalfOpen, To: breaker.Open, At: at(6250), Seq: 3, Reason: "probe_failed"},
			{Key: "x", From: breaker.Open, To: breaker.HalfOpen, At: at(16250), Seq: 4, Reason: "open_duration_over"},
			{Key: "x", From: breaker.HalfOpen, To: breaker.Closed, At: at(16250), Seq: 5, Reason: "probes_succeeded"},
		}
		if !slices.EqualFunc(changes, want, func(a, b breaker.StateChange) bool {
			return a.At.Equal(b.At) && a.Key == b.Key && a.From == b.From && a.To == b.To && a.Seq == b.Seq && a.Reason == b.Reason
		}) {
			t.Errorf("changes %+v\nwant %+v", changes, want)
		}
	})
}

func TestFiftyFailuresWithinSixMillisecondsDoNotOpenABusyKey(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		succeed(t, b, 20)
		time.Sleep(time.Second)
		for range 50 {
			fail(t, b, 1)
			time.Sleep(120 * time.Microsecond)
		}
		wantState(t, b, breaker.Closed)
	})
}

func TestAFifthOfFailuresNeverOpensABusyKey(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		chance := rand.New(rand.NewPCG(1, 2))
		succeed(t, b, 20)
		for range 5 * 60 * 1000 {
			time.Sleep(time.Millisecond)
			if p := admit(t, b); chance.IntN(5) == 0 {
				p.Failure()
			} else {
				p.Success()
			}
		}
		if s := b.Snapshot(); s.Seq != 0 {
			t.Errorf("opened: %+v", s)
		}
	})
}

func TestHalfOpenAdmitsMaxProbes(t *testing.T) {
	virtual(t, breaker.Config{MaxProbes: 3}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(30 * time.Second)
		var sent atomic.Int32
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				var p breaker.Permit
				if b.Allow(&p) != nil {
					return
				}
				sent.Add(1)
				time.Sleep(time.Second)
				p.Ignore()
			})
		}
		wg.Wait()
		if n := sent.Load(); n != 3 {
			t.Errorf("%d probes, want 3", n)
		}
		// An ignored probe has given its place back.
		for range 3 {
			admit(t, b)
		}
		if r := wantRefusal(t, b); r.RetryAfter != 30*time.Second {
			t.Errorf("refused for %v, want until a place runs out", r.RetryAfter)
		}
	})
}

func TestProbesThatAreNeverSettledDoNotWedge(t *testing.T) {
	virtual(t, breaker.Config{SuccessThreshold: 2}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(30 * time.Second)
		slow := admit(t, b)
		_ = wantRefusal(t, b)
		time.Sleep(30 * time.Second)
		admit(t, b).Success()
		wantState(t, b, breaker.HalfOpen)
		// The slow one's outcome still counts.
		slow.Success()
		wantState(t, b, breaker.Closed)
	})
}

func TestAnExpiredProbeDoesNotFreeItsSuccessorsPlace(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(30 * time.Second)
		slow := admit(t, b)
		time.Sleep(30 * time.Second)
		admit(t, b)
		admit(t, b)
		slow.Ignore()
		_ = wantRefusal(t, b)
	})
}

func TestAProbeOfAnEarlierTimeDoesNotFreeAPlace(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(30 * time.Second)
		early := admit(t, b)
		b.Trip()
		time.Sleep(30 * time.Second)
		admit(t, b)
		early.Ignore()
		_ = wantRefusal(t, b)
	})
}

func TestLateOutcomesDoNotCount(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		late := []*breaker.Permit{admit(t, b), admit(t, b), admit(t, b), admit(t, b), admit(t, b), admit(t, b)}
		failApart(t, b, 5)
		late[0].Success()
		wantState(t, b, breaker.Open)
		time.Sleep(5 * time.Second)
		probe := admit(t, b)
		late[1].Failure()
		wantState(t, b, breaker.HalfOpen)
		late[2].Success()
		wantState(t, b, breaker.HalfOpen)
		probe.Success()
		wantState(t, b, breaker.Closed)
		failApart(t, b, 1)
		time.Sleep(apart)
		late[3].Failure()
		late[4].Success()
		wantState(t, b, breaker.Closed)
		fail(t, b, 1)
		wantState(t, b, breaker.Open)
		if got, want := b.Snapshot().Totals, (breaker.Totals{Success: 1, Failure: 7, Stale: 5}); got != want {
			t.Errorf("totals %+v, want %+v", got, want)
		}
	})
}

func TestAPermitSettlesOnce(t *testing.T) {
	virtual(t, breaker.Config{FailureThreshold: 2}, func(t *testing.T, b *breaker.Breaker) {
		p := admit(t, b)
		p.Settle(breaker.Undecided, 0)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(p.Failure)
			wg.Go(p.Ignore)
			wg.Go(p.Success)
		}
		wg.Wait()
		if s := b.Snapshot().Totals; s.Success+s.Failure+s.Ignored != 1 {
			t.Errorf("settled more than once: %+v", s)
		}
		wantState(t, b, breaker.Closed)
		var none breaker.Permit
		none.Success()
		none.Failure()
		none.Ignore()
	})
}

func TestOpensUntilTheHintOfTheFailure(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hint time.Duration
		want time.Duration
	}{
		"no hint":    {0, 5 * time.Second},
		"negative":   {-time.Hour, 5 * time.Second},
		"shorter":    {time.Millisecond, 5 * time.Second},
		"longer":     {90 * time.Second, 90 * time.Second},
		"far longer": {time.Hour, 120 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
				failApart(t, b, 4)
				time.Sleep(apart)
				admit(t, b).Settle(breaker.Failure, test.hint)
				if r := wantRefusal(t, b); r.RetryAfter != test.want {
					t.Errorf("open for %v, want %v", r.RetryAfter, test.want)
				}
				if s := b.Snapshot(); s.ProbeAt.Sub(s.Since) != test.want {
					t.Errorf("probes at %v, open since %v", s.ProbeAt, s.Since)
				}
			})
		})
	}
}

func TestStateWithinOnStateChangeReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		var seqs []uint64
		b = newBreaker(t, breaker.Config{OnStateChange: func(c breaker.StateChange) {
			seqs = append(seqs, c.Seq)
			wantState(t, b, c.To)
			if b.Snapshot().State != c.To {
				t.Errorf("snapshot differs from %v", c.To)
			}
			if c.To == breaker.Open {
				b.Reset() // told after this call
			}
		}})
		failApart(t, b, 5)
		wantState(t, b, breaker.Closed)
		if !slices.Equal(seqs, []uint64{1, 2}) {
			t.Errorf("told of %v", seqs)
		}
	})
}

func TestChangesAreToldInOrder(t *testing.T) {
	t.Parallel()
	var last atomic.Uint64
	b := newBreaker(t, breaker.Config{OnStateChange: func(c breaker.StateChange) {
		if !last.CompareAndSwap(c.Seq-1, c.Seq) {
			t.Errorf("told of %d after %d", c.Seq, last.Load())
		}
	}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				b.Trip()
				b.Reset()
			}
		})
	}
	wg.Wait()
	if s := b.Snapshot(); s.Seq != last.Load() {
		t.Errorf("told up to %d of %d", last.Load(), s.Seq)
	}
}

func TestAStateKnowsNothingOfTheOneBefore(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		succeed(t, b, 30)
		failApart(t, b, 4)
		b.Reset()
		failApart(t, b, 4)
		wantState(t, b, breaker.Closed)
		if s := b.Snapshot(); s.Successes != 0 || s.Failures != 4 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTripAndReset(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(20 * time.Second)
		b.Trip()
		time.Sleep(20 * time.Second)
		wantState(t, b, breaker.Open)
		b.Reset()
		wantState(t, b, breaker.Closed)
	})
}

func TestSnapshotAsJSON(t *testing.T) {
	virtual(t, breaker.Config{Name: "x"}, func(t *testing.T, b *breaker.Breaker) {
		succeed(t, b, 3)
		fail(t, b, 2)
		admit(t, b).Ignore()
		const want = `{"key":"x","state":"closed","since":"2000-01-01T00:00:00Z","seq":0,"successes":3,"failures":2,` +
			`"consecutive_failures":1,"probes":0,` +
			`"totals":{"success":3,"failure":2,"ignored":1,"stale":0,"rejected":0}}`
		s := b.Snapshot()
		s.Since = s.Since.UTC()
		if got, err := json.Marshal(s); err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]fmt.Stringer{
		"closed": breaker.Closed, "open": breaker.Open, "half_open": breaker.HalfOpen, "invalid": breaker.State(9),
		"undecided": breaker.Undecided, "success": breaker.Success, "failure": breaker.Failure, "ignored": breaker.Ignored,
	} {
		if got.String() != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
