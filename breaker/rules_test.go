package breaker_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

// openIt lets so many failures open the breaker.
func openIt(t testing.TB, b *breaker.Breaker) {
	t.Helper()
	failApart(t, b, 5)
	wantState(t, b, breaker.Open)
}

// reclose opens the breaker and lets a probe close it.
func reclose(t testing.TB, b *breaker.Breaker) {
	t.Helper()
	openIt(t, b)
	time.Sleep(5 * time.Second)
	succeed(t, b, 1)
	wantState(t, b, breaker.Closed)
}

func wantOpenFor(t testing.TB, b *breaker.Breaker, want time.Duration) {
	t.Helper()
	if r := wantRefusal(t, b); r.RetryAfter != want {
		t.Fatalf("open for %v, want %v", r.RetryAfter, want)
	}
}

func TestFailuresThatComeTogetherAreOne(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"on a cold key": 0, "on a warm key": 100} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
				succeed(t, b, before)
				for range 4 {
					time.Sleep(apart)
					fail(t, b, 64)
				}
				if s := b.Snapshot(); s.State != breaker.Closed || s.ConsecutiveFailures != 4 || s.Failures != 256 {
					t.Errorf("%+v", s)
				}
				time.Sleep(apart)
				fail(t, b, 1)
				wantState(t, b, breaker.Open)
			})
		})
	}
}

// Ten calls fail together, and again together, one after the other.
func TestTheRetriesOfCallsThatFailedTogetherAreNoRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, answer(http.StatusInternalServerError, ""), breaker.Config{})
		calls := make([]call.Call, 10)
		send := func(i int) { use(calls[i].Init(t.Context()), t, tr, key) }
		for i := range calls {
			send(i)
		}
		for i := range calls {
			time.Sleep(apart)
			send(i)
		}
		if s := tr.Breaker(key).Snapshot(); s.State != breaker.Closed || s.ConsecutiveFailures != 1 || s.Failures != 20 {
			t.Fatalf("%+v", s)
		}
		for range 4 {
			use(t.Context(), t, tr, key)
			time.Sleep(apart)
		}
		wantState(t, tr.Breaker(key), breaker.Open)
	})
}

func TestASuccessEndsARowOnlyIfItWasAdmittedInIt(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		before := admit(t, b)
		failApart(t, b, 3)
		inIt := admit(t, b)
		before.Success()
		if n := b.Snapshot().ConsecutiveFailures; n != 3 {
			t.Errorf("%d failures in a row after a success from before it", n)
		}
		inIt.Success()
		if n := b.Snapshot().ConsecutiveFailures; n != 0 {
			t.Errorf("%d failures in a row after a success", n)
		}
		// A success of one row is none of the next.
		failApart(t, b, 1)
		late := admit(t, b)
		succeed(t, b, 1)
		failApart(t, b, 4)
		late.Success()
		failApart(t, b, 1)
		wantState(t, b, breaker.Open)
	})
}

func TestTheRatioOpensWhenItHoldsForTwoSeconds(t *testing.T) {
	virtual(t, breaker.Config{FailureThreshold: -1}, func(t *testing.T, b *breaker.Breaker) {
		var at time.Duration
		for start := time.Now(); b.State() == breaker.Closed; at = time.Since(start) {
			time.Sleep(10 * time.Millisecond)
			succeed(t, b, 1)
			fail(t, b, 1)
		}
		if at < 2*time.Second || at > 2500*time.Millisecond {
			t.Errorf("opened after %v", at)
		}
	})
}

// The first step makes the ratio high. Successes keep that of the last two seconds
// low until they are older.
func TestTheRatioMustStayHighAtFiveFailuresHalfASecondApart(t *testing.T) {
	t.Parallel()
	const half = 500 * time.Millisecond
	type step struct {
		successes, failures int
		every               time.Duration // before each failure
	}
	for name, test := range map[string]struct {
		steps []step
		want  breaker.State
	}{
		"five":                   {[]step{{0, 20, 0}, {0, 4, half}}, breaker.Open},
		"four":                   {[]step{{0, 20, 0}, {0, 3, half}}, breaker.Closed},
		"five, less apart":       {[]step{{0, 20, 0}, {0, 4, half - 1}}, breaker.Closed},
		"many, less apart":       {[]step{{0, 20, 0}, {0, 19, half / 5}}, breaker.Closed},
		"many, for two seconds":  {[]step{{0, 20, 0}, {0, 20, half / 5}}, breaker.Open},
		"too few outcomes":       {[]step{{0, 19, half}}, breaker.Closed},
		"enough from the 20th":   {[]step{{0, 20, half}, {0, 4, half}}, breaker.Open},
		"successes in between":   {[]step{{0, 20, 0}, {2, 4, half}}, breaker.Open},
		"a failure at a low one": {[]step{{0, 20, 0}, {0, 3, half}, {25, 1, 0}, {0, 7, half}}, breaker.Closed},
		"and five after it":      {[]step{{0, 20, 0}, {0, 3, half}, {25, 1, 0}, {0, 8, half}}, breaker.Open},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{FailureThreshold: -1}, func(t *testing.T, b *breaker.Breaker) {
				for _, step := range test.steps {
					succeed(t, b, step.successes)
					for range step.failures {
						time.Sleep(step.every)
						fail(t, b, 1)
					}
				}
				wantState(t, b, test.want)
			})
		})
	}
}

func TestNeitherABurstThatIsOverNorASingleLateFailureOpens(t *testing.T) {
	for name, test := range map[string]struct{ burst, then int }{
		"a burst on a cold key":                 {64, 0},
		"a burst, then successes":               {64, 32},
		"a burst, then many successes":          {64, 64},
		"a burst, and nothing for a long while": {20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{FailureThreshold: -1}, func(t *testing.T, b *breaker.Breaker) {
				fail(t, b, test.burst)
				for range test.then {
					time.Sleep(50 * time.Millisecond)
					succeed(t, b, 1)
				}
				time.Sleep(3 * time.Second)
				fail(t, b, 1)
				wantState(t, b, breaker.Closed)
			})
		})
	}
}

func TestTheRatioMustHoldForTheLatestOutcomesAlone(t *testing.T) {
	virtual(t, breaker.Config{FailureThreshold: -1}, func(t *testing.T, b *breaker.Breaker) {
		fail(t, b, 200)
		for range 90 { // a third of the latest fail, and most of the window
			time.Sleep(100 * time.Millisecond)
			succeed(t, b, 2)
			fail(t, b, 1)
		}
		if s := b.Snapshot(); s.State != breaker.Closed || s.Failures < s.Successes {
			t.Errorf("%+v", s)
		}
	})
}

func TestASlowKeyIsJudgedByItsLastFiveOutcomes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		round string // one outcome each second
		want  breaker.State
	}{
		"two of five fail":   {"sfsfs", breaker.Closed},
		"three of five fail": {"sfsff", breaker.Open},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{FailureThreshold: -1}, func(t *testing.T, b *breaker.Breaker) {
				for _, outcome := range strings.Repeat(test.round, 8) {
					time.Sleep(time.Second)
					var p breaker.Permit
					if b.Allow(&p) != nil {
						break
					}
					if outcome == 'f' {
						p.Failure()
					} else {
						p.Success()
					}
				}
				wantState(t, b, test.want)
			})
		})
	}
}

func TestAHintOfAMillisecondDoesNotSwitchTheBreakerOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			sent++
			return response(http.StatusServiceUnavailable, http.NoBody, "Retry-After-Ms", "1"), nil
		}), breaker.Config{})
		for range 6_000 {
			time.Sleep(10 * time.Millisecond)
			if resp, err := tr.RoundTrip(request(t.Context(), "")); err == nil {
				_ = resp.Body.Close()
			}
		}
		if sent > 110 { // in the first second, and four probes
			t.Errorf("%d requests in an outage of a minute", sent)
		}
	})
}

func TestTheStepDoublesWithEachFailedProbe(t *testing.T) {
	for name, test := range map[string]struct {
		longest time.Duration
		want    []int // seconds
	}{
		"by default":              {0, []int{5, 10, 20, 30, 30}},
		"below the first step":    {2 * time.Second, []int{2, 2, 2}},
		"above all":               {10 * time.Minute, []int{5, 10, 20, 40, 80, 120, 120}},
		"as long as the first is": {5 * time.Second, []int{5, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{OpenDuration: test.longest}, func(t *testing.T, b *breaker.Breaker) {
				failApart(t, b, 4)
				time.Sleep(apart)
				for _, seconds := range test.want {
					step := time.Duration(seconds) * time.Second
					fail(t, b, 1)
					wantOpenFor(t, b, step)
					time.Sleep(step)
				}
			})
		})
	}
}

func TestAHintLengthensAStep(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		openIt(t, b)
		time.Sleep(5 * time.Second)
		admit(t, b).Settle(breaker.Failure, 15*time.Second)
		wantOpenFor(t, b, 15*time.Second)
		time.Sleep(15 * time.Second)
		fail(t, b, 1)
		wantOpenFor(t, b, 20*time.Second)
	})
}

func TestOnTheLeashTwoFailuresInARowOpenForTheSameStep(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		openIt(t, b)
		time.Sleep(5 * time.Second)
		fail(t, b, 1)
		time.Sleep(10 * time.Second)
		succeed(t, b, 1)
		fail(t, b, 64)
		wantState(t, b, breaker.Closed)
		failApart(t, b, 1)
		wantOpenFor(t, b, 10*time.Second)
	})
}

func TestTheLeashIsNoLongerThanTheRow(t *testing.T) {
	virtual(t, breaker.Config{FailureThreshold: 1}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(30 * time.Second)
		succeed(t, b, 1)
		fail(t, b, 1)
		wantOpenFor(t, b, 5*time.Second)
	})
}

func TestWithoutARowThereIsNoLeash(t *testing.T) {
	virtual(t, breaker.Config{FailureThreshold: -1}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(30 * time.Second)
		succeed(t, b, 1)
		failApart(t, b, 8)
		wantState(t, b, breaker.Closed)
	})
}

func TestTheLeashAndTheStepEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		meanwhile func(*testing.T, *breaker.Breaker)
		ended     bool
	}{
		"after MinRequests successes": {func(t *testing.T, b *breaker.Breaker) { succeed(t, b, 20) }, true},
		"not after fewer":             {func(t *testing.T, b *breaker.Breaker) { succeed(t, b, 19) }, false},
		"after a Window without a failure": {func(*testing.T, *breaker.Breaker) {
			time.Sleep(time.Minute - apart)
		}, true},
		"not after less": {func(*testing.T, *breaker.Breaker) {
			time.Sleep(time.Minute - apart - 1)
		}, false},
		"after a Window since the last failure": {func(t *testing.T, b *breaker.Breaker) {
			time.Sleep(30 * time.Second)
			fail(t, b, 1)
			succeed(t, b, 1)
			time.Sleep(time.Minute - apart)
		}, true},
		"not while there are failures": {func(t *testing.T, b *breaker.Breaker) {
			time.Sleep(30 * time.Second)
			fail(t, b, 1)
			succeed(t, b, 1)
			time.Sleep(31 * time.Second)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
				openIt(t, b)
				time.Sleep(5 * time.Second)
				fail(t, b, 1)
				time.Sleep(10 * time.Second)
				succeed(t, b, 1)
				test.meanwhile(t, b)
				failApart(t, b, 2)
				if !test.ended {
					wantOpenFor(t, b, 10*time.Second)
					return
				}
				wantState(t, b, breaker.Closed)
				failApart(t, b, 3)
				wantOpenFor(t, b, 5*time.Second)
			})
		})
	}
}

func TestAStreamCutOffDoesNotEndTheLeash(t *testing.T) {
	t.Parallel()
	for name, wellEnded := range map[string]bool{"closed early": false, "read to its end": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTransport(t, answer(http.StatusOK, event+event, "Content-Type", "text/event-stream"), breaker.Config{})
				stream := func() {
					resp, err := tr.RoundTrip(request(t.Context(), ""))
					if err != nil {
						t.Fatal(err)
					}
					if wellEnded {
						_, _ = io.ReadAll(resp.Body)
					} else {
						_, _ = resp.Body.Read(make([]byte, len(event)))
					}
					_ = resp.Body.Close()
				}
				stream()
				b := tr.Breaker(key)
				reclose(t, b)
				for range 20 {
					stream()
				}
				failApart(t, b, 2)
				wantState(t, b, map[bool]breaker.State{true: breaker.Closed, false: breaker.Open}[wellEnded])
			})
		})
	}
}

func TestAPlaceLastsAsLongAsTheBreakerWasOpen(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		openIt(t, b)
		time.Sleep(time.Minute) // nobody came
		admit(t, b)
		wantOpenFor(t, b, 5*time.Second)
		b.Trip()
		time.Sleep(30 * time.Second)
		admit(t, b)
		wantOpenFor(t, b, 30*time.Second)
		time.Sleep(time.Second)
		wantOpenFor(t, b, 29*time.Second)
	})
}

func TestAPlaceLastsAsLongAsTheTimeLimitThatFailuresRanInto(t *testing.T) {
	t.Parallel()
	limit := &fault.TimeLimitError{Limit: "retry: AttemptTimeout", After: 20 * time.Second}
	for name, test := range map[string]struct {
		cfg  breaker.Config
		base func(nth int, req *http.Request) (*http.Response, error)
		want time.Duration
	}{
		"of an attempt": {breaker.Config{FailureThreshold: 1}, func(_ int, req *http.Request) (*http.Response, error) {
			cancelOf(req)(limit)
			return nil, context.Cause(req.Context())
		}, 20 * time.Second},
		"of an error": {breaker.Config{FailureThreshold: 1}, func(int, *http.Request) (*http.Response, error) { return nil, limit }, 20 * time.Second},
		"of a body": {breaker.Config{FailureThreshold: 1}, func(_ int, req *http.Request) (*http.Response, error) {
			cancelOf(req)(limit)
			return response(http.StatusOK, untilDone{req.Context()}), nil
		}, 20 * time.Second},
		"of a stream": {breaker.Config{FailureThreshold: 1}, func(_ int, req *http.Request) (*http.Response, error) {
			cancelOf(req)(limit)
			return response(http.StatusOK, io.MultiReader(strings.NewReader(event), untilDone{req.Context()}), "Content-Type", "text/event-stream"), nil
		}, 20 * time.Second},
		"of another of the row": {breaker.Config{FailureThreshold: 2}, func(nth int, _ *http.Request) (*http.Response, error) {
			if nth == 1 {
				return nil, limit
			}
			return nil, io.EOF
		}, 20 * time.Second},
		"shorter than the step": {breaker.Config{FailureThreshold: 1}, func(int, *http.Request) (*http.Response, error) {
			return nil, &fault.TimeLimitError{After: time.Second}
		}, 5 * time.Second},
		"but for ProbeTimeout": {breaker.Config{FailureThreshold: 1, ProbeTimeout: 3 * time.Second}, func(int, *http.Request) (*http.Response, error) {
			return nil, limit
		}, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				tr := newTransport(t, stub.Func(func(req *http.Request) (*http.Response, error) {
					sent++
					return test.base(sent, req)
				}), test.cfg)
				for range test.cfg.FailureThreshold {
					ctx, cancel := context.WithCancelCause(t.Context())
					if resp, err := tr.RoundTrip(request(context.WithValue(ctx, cancelKey{}, cancel), "")); err == nil {
						_, _ = io.ReadAll(resp.Body)
						_ = resp.Body.Close()
					}
					time.Sleep(2 * time.Second)
				}
				b := tr.Breaker(key)
				wantState(t, b, breaker.Open)
				time.Sleep(5 * time.Second)
				admit(t, b)
				wantOpenFor(t, b, test.want)
			})
		})
	}
}

type cancelKey struct{}

// cancelOf returns what cancels the context of a request.
func cancelOf(req *http.Request) context.CancelCauseFunc {
	return req.Context().Value(cancelKey{}).(context.CancelCauseFunc)
}

func TestAFailedProbesTimeLimitLengthensThePlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return nil, &fault.TimeLimitError{After: 50 * time.Second}
		}), breaker.Config{FailureThreshold: -1})
		_, _ = tr.RoundTrip(request(t.Context(), ""))
		b := tr.Breaker(key)
		b.Reset() // forgets the row
		b.Trip()
		time.Sleep(30 * time.Second)
		_, _ = tr.RoundTrip(request(t.Context(), ""))
		time.Sleep(10 * time.Second)
		admit(t, b)
		wantOpenFor(t, b, 50*time.Second)
	})
}

// Trip forgets nothing of what the failures before it ran into, and the closed state
// everything: the time limit of an outage that is over must not slow down the next.
func TestATimeLimitIsRememberedUntilTheBreakerCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return nil, &fault.TimeLimitError{After: 50 * time.Second}
		}), breaker.Config{})
		_, _ = tr.RoundTrip(request(t.Context(), ""))
		b := tr.Breaker(key)
		b.Trip()
		time.Sleep(30 * time.Second)
		place := admit(t, b)
		wantOpenFor(t, b, 50*time.Second)
		place.Success()
		wantState(t, b, breaker.Closed)
		b.Trip()
		time.Sleep(30 * time.Second)
		admit(t, b)
		wantOpenFor(t, b, 30*time.Second)
	})
}

func TestPlacesThatRunOutDouble(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		openIt(t, b)
		for _, want := range []int{1, 2, 8, 1000} {
			time.Sleep(5 * time.Second)
			n := 0
			for ; b.Allow(new(breaker.Permit)) == nil && n < 2000; n++ {
			}
			if s := b.Snapshot(); n != want || s.Probes != want || s.State != breaker.HalfOpen {
				t.Fatalf("%d places, want %d: %+v", n, want, s)
			}
		}
	})
}

func TestTheBreakerClosesWhen64PlacesHaveRunOut(t *testing.T) {
	var reasons []string
	virtual(t, breaker.Config{OnStateChange: func(c breaker.StateChange) { reasons = append(reasons, c.Reason) }}, func(t *testing.T, b *breaker.Breaker) {
		openIt(t, b)
		time.Sleep(5 * time.Second)
		var late *breaker.Permit
		for i := 0; b.State() != breaker.Closed; i++ {
			p := new(breaker.Permit)
			if b.Allow(p) == nil {
				late = p
			}
			if time.Sleep(time.Second); i > 100 {
				t.Fatal("it does not")
			}
		}
		if got := strings.Join(reasons, " "); got != "failures_in_a_row open_duration_over places_ran_out" {
			t.Errorf("reasons %s", got)
		}
		late.Success() // was admitted by the closed one
		if s := b.Snapshot(); s.Successes != 1 || s.Totals.Stale != 0 {
			t.Errorf("%+v", s)
		}
		failApart(t, b, 2)
		wantOpenFor(t, b, 5*time.Second)
	})
}

func TestALateFailureOfAProbeOpens(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		openIt(t, b)
		time.Sleep(5 * time.Second)
		slow := admit(t, b)
		for range 20 {
			time.Sleep(5 * time.Second)
			admit(t, b)
		}
		wantState(t, b, breaker.HalfOpen)
		slow.Failure()
		wantOpenFor(t, b, 10*time.Second)
	})
}

func TestOncePlacesHaveRunOutAFewProbesMayFail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg  breaker.Config
		runs int // out
		fail int
		want breaker.State
	}{
		"before any has run out":     {breaker.Config{MaxProbes: 10}, 0, 1, breaker.Open},
		"one as many as ran out":     {breaker.Config{}, 1, 1, breaker.Open},
		"a few of many":              {breaker.Config{}, 11, 10, breaker.HalfOpen},
		"half of all":                {breaker.Config{}, 11, 11, breaker.Open},
		"a higher share":             {breaker.Config{FailureRatio: 0.75}, 11, 32, breaker.HalfOpen},
		"all of a higher share":      {breaker.Config{FailureRatio: 0.75}, 11, 33, breaker.Open},
		"if there is a FailureRatio": {breaker.Config{FailureRatio: -1}, 11, 1, breaker.Open},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, test.cfg, func(t *testing.T, b *breaker.Breaker) {
				openIt(t, b)
				time.Sleep(5 * time.Second)
				for range test.runs {
					for b.Allow(new(breaker.Permit)) != nil {
						time.Sleep(time.Second)
					}
				}
				if test.runs > 0 {
					time.Sleep(5 * time.Second)
				}
				for range test.fail {
					wantState(t, b, breaker.HalfOpen)
					fail(t, b, 1)
				}
				wantState(t, b, test.want)
			})
		})
	}
}

func TestALongCallDoesNotKeepEverybodyWaiting(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute} {
		t.Run(takes.String(), func(t *testing.T) {
			virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
				refused := 0
				openIt(t, b)
				for range 600 {
					time.Sleep(time.Second)
					p := new(breaker.Permit)
					if b.Allow(p) != nil {
						refused++
						continue
					}
					time.AfterFunc(takes, p.Success)
				}
				if refused > 11 {
					t.Errorf("%d refused", refused)
				}
				time.Sleep(takes)
				wantState(t, b, breaker.Closed)
			})
		})
	}
}

// Calls of two minutes, one a second, to a provider that fails for five seconds.
func TestLongCallsOfAProviderThatIsWellAgainAreHardlyRefused(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		start, refusedOrFailed := time.Now(), 0
		for range 125 {
			p := new(breaker.Permit)
			switch err := b.Allow(p); {
			case err != nil:
				refusedOrFailed++
			case time.Since(start) < 5*time.Second:
				refusedOrFailed++
				p.Failure()
			default:
				time.AfterFunc(2*time.Minute, p.Success)
			}
			time.Sleep(time.Second)
		}
		if refusedOrFailed > 20 {
			t.Errorf("%d refused or failed", refusedOrFailed)
		}
		time.Sleep(2 * time.Minute)
		wantState(t, b, breaker.Closed)
	})
}

func TestTripLeavesTheStepAlone(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		wantOpenFor(t, b, 30*time.Second)
		time.Sleep(30 * time.Second)
		fail(t, b, 1)
		wantOpenFor(t, b, 10*time.Second)
		time.Sleep(10 * time.Second)
		succeed(t, b, 1)
		failApart(t, b, 2)
		wantOpenFor(t, b, 10*time.Second)
	})
}

func TestResetForgetsStepAndLeash(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		openIt(t, b)
		time.Sleep(5 * time.Second)
		fail(t, b, 1)
		b.Reset()
		failApart(t, b, 4)
		wantState(t, b, breaker.Closed)
		failApart(t, b, 1)
		wantOpenFor(t, b, 5*time.Second)
	})
}
