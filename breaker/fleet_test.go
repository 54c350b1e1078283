package breaker_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

var origins = []string{"a", "b", "c"}

// A puppetFleet keeps what is published, and says what it is told to.
type puppetFleet struct {
	mu      sync.Mutex
	advice  []breaker.Advice
	hearers []func(breaker.Advice) // nil when stopped
	names   []string               // asked for
}

func fleetName(key string) string { return "name of " + key }

func (f *puppetFleet) Name(key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = append(f.names, key)
	return fleetName(key)
}

func (f *puppetFleet) Publish(a breaker.Advice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advice = append(f.advice, a)
}

func (f *puppetFleet) Subscribe(hear func(breaker.Advice)) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := len(f.hearers)
	f.hearers = append(f.hearers, hear)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.hearers[i] = nil
	}
}

// hear has everybody hear advice.
func (f *puppetFleet) hear(a breaker.Advice) {
	f.mu.Lock()
	hearers := slices.Clone(f.hearers)
	f.mu.Unlock()
	for _, hear := range hearers {
		if hear != nil {
			hear(a)
		}
	}
}

// published returns until when what was published lasts.
func (f *puppetFleet) published(since time.Time) (until []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.advice {
		until = append(until, a.Until.Sub(since))
	}
	return until
}

// inFleet runs f in virtual time with a breaker that is part of a fleet.
func inFleet(t *testing.T, cfg breaker.Config, f func(*testing.T, *breaker.Breaker, *puppetFleet)) {
	t.Helper()
	fleet := new(puppetFleet)
	cfg.Name, cfg.Fleet = key, fleet
	synctest.Test(t, func(t *testing.T) { f(t, newBreaker(t, cfg), fleet) })
}

// advise has others say that a breaker named key is open.
func (f *puppetFleet) advise(lasts time.Duration, from ...string) {
	for _, origin := range from {
		f.hear(breaker.Advice{Name: fleetName(key), Origin: origin, Until: time.Now().Add(lasts)})
	}
}

func TestAfterAdviceTheNextOutcomeDecides(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		others.advise(30*time.Second, "a")
		wantState(t, b, breaker.Closed)
		fail(t, b, 1)
		wantState(t, b, breaker.Open)

		b.Reset()
		others.advise(30*time.Second, "a")
		admit(t, b).Ignore()
		succeed(t, b, 1)
		fail(t, b, 1)
		wantState(t, b, breaker.Closed)

		others.advise(30*time.Second, "a")
		fail(t, b, 1)
		wantState(t, b, breaker.Open)
	})
}

func TestAdviceThatIsOverChangesNothing(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		others.advise(0, "a", "b")
		others.advise(-time.Hour, "a", "b")
		fail(t, b, 1)
		others.advise(2*time.Second, "a")
		time.Sleep(2 * time.Second)
		fail(t, b, 1)
		wantState(t, b, breaker.Closed)
	})
}

func TestShorterAdviceUndoesNoLongerOne(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		others.advise(30*time.Second, "a")
		others.advise(5*time.Second, "a")
		time.Sleep(10 * time.Second)
		fail(t, b, 1)
		wantState(t, b, breaker.Open)
	})
}

func TestLongerAdviceReplacesTheShorterOneOfItsOrigin(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		others.advise(5*time.Second, "a")
		others.advise(30*time.Second, "a")
		time.Sleep(10 * time.Second)
		fail(t, b, 1)
		wantState(t, b, breaker.Open)
	})
}

func TestAdviceIsNeverForLongerThan120s(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		ever := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
		for _, origin := range origins {
			others.hear(breaker.Advice{Name: fleetName(key), Origin: origin, Until: ever})
		}
		wantState(t, b, breaker.Open)
		if wait := wantRefusal(t, b).RetryAfter; wait > 150*time.Second {
			t.Errorf("open for %v, want 120 s and a quarter at most", wait)
		}
	})
}

func TestAQuorumOpensWhoeverIsNotServedForAsLongAsItAgrees(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		succeeds time.Duration // before, 0 for never
		from     []string
		open     bool
	}{
		"never served":         {from: []string{"a", "b"}, open: true},
		"served long ago":      {succeeds: 6 * time.Second, from: []string{"a", "b"}, open: true},
		"served lately":        {succeeds: 4 * time.Second, from: []string{"a", "b", "c"}},
		"one that says it all": {from: []string{"a", "a"}},
		"one without a name":   {from: []string{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
				if c.succeeds > 0 {
					succeed(t, b, 1) // the first has its time
					time.Sleep(c.succeeds)
				}
				others.advise(40*time.Second, c.from[0])
				others.advise(20*time.Second, c.from[1:]...)
				if !c.open {
					wantState(t, b, breaker.Closed)
					return
				}
				wantState(t, b, breaker.Open)
				if wait := wantRefusal(t, b).RetryAfter; wait < 20*time.Second || wait > 25*time.Second {
					t.Errorf("open for %v, want 20 s and at most a quarter more", wait)
				}
			})
		})
	}
}

// The quorum agrees for as long as the second longest advice lasts, whoever says more.
func TestAThirdOriginShortensNoQuorum(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		succeed(t, b, 1) // so that none opens it yet
		others.advise(60*time.Second, "a")
		others.advise(40*time.Second, "b")
		others.advise(10*time.Second, "c")
		wantState(t, b, breaker.Closed)
		time.Sleep(10 * time.Second)
		others.advise(60*time.Second, "a")
		wantState(t, b, breaker.Open)
		if wait := wantRefusal(t, b).RetryAfter; wait < 30*time.Second || wait > 30*time.Second*5/4 {
			t.Errorf("open for %v, want 30 s and at most a quarter more", wait)
		}
	})
}

func TestOnlyWhatOwnFailuresOpenedIsPublished(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens func(*testing.T, *breaker.Breaker, *puppetFleet)
		want    []time.Duration
	}{
		"its own failures and a failed probe": {func(t *testing.T, b *breaker.Breaker, _ *puppetFleet) {
			failApart(t, b, 5)
			time.Sleep(7 * time.Second)
			fail(t, b, 1)
		}, []time.Duration{5 * time.Second, 10 * time.Second}},
		"the share of failures": {func(t *testing.T, b *breaker.Breaker, _ *puppetFleet) {
			for n := 0; b.State() == breaker.Closed && n < 1000; n++ {
				time.Sleep(10 * time.Millisecond)
				succeed(t, b, 1) // which ends the row
				fail(t, b, 1)
			}
			wantState(t, b, breaker.Open)
		}, []time.Duration{5 * time.Second}},
		"a failure after advice, and a failed probe": {func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
			others.advise(30*time.Second, "a")
			fail(t, b, 1)
			time.Sleep(7 * time.Second)
			fail(t, b, 1)
			wantState(t, b, breaker.Open)
		}, nil},
		"a quorum": {func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
			others.advise(30*time.Second, "a", "b")
			wantState(t, b, breaker.Open)
		}, nil},
		"a Trip, and a failed probe": {func(t *testing.T, b *breaker.Breaker, _ *puppetFleet) {
			b.Trip()
			time.Sleep(30 * time.Second)
			fail(t, b, 1)
			wantState(t, b, breaker.Open)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
				c.happens(t, b, others)
				if len(others.advice) != len(c.want) {
					t.Fatalf("published %v, want %d", others.advice, len(c.want))
				}
				at := []time.Time{}
				for _, s := range others.advice {
					if s.Name != fleetName(key) || s.Origin != "" {
						t.Errorf("published %+v", s)
					}
					at = append(at, s.Until)
				}
				for i := range at {
					if i > 0 && at[i].Sub(at[i-1]) != 7*time.Second+c.want[i]-c.want[i-1] {
						t.Errorf("published until %v", at)
					}
				}
			})
		})
	}
}

func TestABreakerThatOthersOpenedIsOnNoLeash(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		others.advise(10*time.Second, "a", "b")
		time.Sleep(13 * time.Second)
		succeed(t, b, 1)
		wantState(t, b, breaker.Closed)
		failApart(t, b, 4)
		wantState(t, b, breaker.Closed)
	})
}

func TestWarinessEndsNoRow(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{FailureThreshold: 3}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		failApart(t, b, 2)
		p := admit(t, b) // in the row
		others.advise(time.Second, "a")
		p.Success()
		time.Sleep(time.Second)
		fail(t, b, 1)
		wantState(t, b, breaker.Closed)
	})
}

func TestReplicasProbeAtTheirOwnMoments(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		opens func(*testing.T, *breaker.Breaker, *puppetFleet)
		least time.Duration
	}{
		"by failures of their own": {func(t *testing.T, b *breaker.Breaker, _ *puppetFleet) { failApart(t, b, 5) }, 5 * time.Second},
		"by a quorum": {func(_ *testing.T, _ *breaker.Breaker, others *puppetFleet) {
			others.advise(40*time.Second, "a", "b")
		}, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moments := map[time.Duration]bool{}
			for range 20 {
				inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
					row.opens(t, b, others)
					wait := b.Snapshot().ProbeAt.Sub(b.Snapshot().Since)
					if wait < row.least || wait > row.least*5/4 {
						t.Errorf("open for %v, want %v and at most a quarter more", wait, row.least)
					}
					moments[wait] = true
				})
			}
			if len(moments) < 5 {
				t.Errorf("20 replicas wait for %v", moments)
			}
		})
	}
}

// What its own failures ran into says how long a probe may take, also where others have
// opened the breaker.
func TestAPlaceLastsAsLongAsTheTimeLimitAlsoAfterAQuorum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		others := new(puppetFleet)
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return nil, &fault.TimeLimitError{After: 50 * time.Second}
		}), breaker.Config{Fleet: others})
		_, _ = tr.RoundTrip(request(t.Context(), ""))
		others.advise(8*time.Second, "a", "b")
		b := tr.Breaker(key)
		wantState(t, b, breaker.Open)
		time.Sleep(10 * time.Second)
		admit(t, b)
		wantOpenFor(t, b, 50*time.Second)
	})
}

func TestAdviceTakesNoBreakerOffItsLeash(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		failApart(t, b, 5)
		time.Sleep(7 * time.Second)
		succeed(t, b, 1)
		others.advise(30*time.Second, "a")
		fail(t, b, 1)
		wantState(t, b, breaker.Open)
		time.Sleep(7 * time.Second)
		succeed(t, b, 1)
		wantState(t, b, breaker.Closed)
		failApart(t, b, 2)
		wantState(t, b, breaker.Open)
	})
}

func TestAdviceAboutAKeyThatIsNotKnownIsKeptForIt(t *testing.T) {
	t.Parallel()
	others := new(puppetFleet)
	tr := newTransport(t, answer(http.StatusServiceUnavailable, ""), breaker.Config{Fleet: others})
	other := func(i int) breaker.Advice {
		return breaker.Advice{Name: fmt.Sprint("flood ", i), Origin: "c", Until: time.Now().Add(time.Minute)}
	}
	others.advise(time.Minute, "a", "b")
	for i := range 5000 {
		others.hear(other(i))
	}
	if s := tr.Snapshot(); len(s) != 0 {
		t.Fatalf("advice made breakers: %+v", s)
	}
	if _, err := tr.RoundTrip(request(t.Context(), http.MethodPost)); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("got %v, want the first request refused", err)
	}
	if names := others.names; len(names) != 1 || names[0] != key {
		t.Errorf("asked for the names of %q", names)
	}
}

func TestAdviceIsKeptFor1024KeysThatAreNotKnown(t *testing.T) {
	t.Parallel()
	for before, want := range map[int]bool{1023: true, 1024: false} {
		others := new(puppetFleet)
		tr := newTransport(t, answer(http.StatusServiceUnavailable, ""), breaker.Config{Fleet: others})
		for i := range before {
			others.hear(breaker.Advice{Name: fmt.Sprint("flood ", i), Origin: "c", Until: time.Now().Add(time.Minute)})
		}
		others.advise(time.Minute, "a", "b")
		resp, err := tr.RoundTrip(request(t.Context(), http.MethodPost))
		if err == nil {
			_ = resp.Body.Close()
		}
		if kept := errors.Is(err, breaker.ErrOpen); kept != want {
			t.Errorf("after %d others: got %v, want refused %v", before, err, want)
		}
	}
}

// Others may say that a key is down for ever. For a key that is not known nobody opens for
// longer than for others, and what is over makes room.
func TestAdviceIsKeptFor120sAtMost(t *testing.T) {
	t.Parallel()
	ever := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	for name, row := range map[string]struct {
		before, after func(*puppetFleet)
		refused       bool
	}{
		"about the key": {func(others *puppetFleet) {
			for _, origin := range origins {
				others.hear(breaker.Advice{Name: fleetName(key), Origin: origin, Until: ever})
			}
		}, func(*puppetFleet) {}, false},
		"about as many others as there is room for": {func(others *puppetFleet) {
			for i := range 1024 {
				others.hear(breaker.Advice{Name: fmt.Sprint("flood ", i), Origin: "c", Until: ever})
			}
		}, func(others *puppetFleet) { others.advise(time.Minute, "a", "b") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				others := new(puppetFleet)
				tr := newTransport(t, answer(http.StatusNoContent, ""), breaker.Config{Fleet: others})
				row.before(others)
				time.Sleep(120 * time.Second)
				row.after(others)
				resp, err := tr.RoundTrip(request(t.Context(), http.MethodPost))
				if err == nil {
					_ = resp.Body.Close()
				}
				if refused := errors.Is(err, breaker.ErrOpen); refused != row.refused {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// A success has ended the wariness. A breaker that is made anew for the key must not have
// it again.
func TestAdviceThatABreakerHasHeardIsNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		others, status := new(puppetFleet), http.StatusNoContent
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return response(status, http.NoBody), nil
		}), breaker.Config{Fleet: others, MaxKeys: 1})
		others.advise(time.Minute, "a")
		use(t.Context(), t, tr, key)
		use(t.Context(), t, tr, "http://another.example")
		if tr.Breaker(key) != nil {
			t.Fatal("it is not forgotten")
		}
		status = http.StatusInternalServerError
		use(t.Context(), t, tr, key)
		wantState(t, tr.Breaker(key), breaker.Closed)
	})
}

// A namelessFleet has no name for any key.
type namelessFleet struct{ puppetFleet }

func (*namelessFleet) Name(string) string { return "" }

func TestABreakerWithoutANameHasNoPartInTheFleet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		others := new(namelessFleet)
		b := newBreaker(t, breaker.Config{Name: key, Fleet: others})
		for _, origin := range origins {
			others.hear(breaker.Advice{Origin: origin, Until: time.Now().Add(time.Minute)})
		}
		wantState(t, b, breaker.Closed)
		openIt(t, b)
		if len(others.advice) > 0 {
			t.Errorf("published %+v", others.advice)
		}
	})
}

func TestCloseEndsTheSubscription(t *testing.T) {
	t.Parallel()
	others := new(puppetFleet)
	tr := breaker.NewTransport(answer(http.StatusServiceUnavailable, ""), breaker.Config{Fleet: others})
	hear := others.hearers[0]
	others.advise(time.Minute, origins...) // which is kept
	for range 2 {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
	if others.hearers[0] != nil {
		t.Error("still subscribed")
	}
	for _, origin := range origins { // says somebody who does not stop
		hear(breaker.Advice{Name: fleetName(key), Origin: origin, Until: time.Now().Add(time.Minute)})
	}
	if _, err := tr.RoundTrip(request(t.Context(), http.MethodPost)); err != nil {
		t.Errorf("got %v, want no advice heard after Close", err)
	}
}

// A brokenFleet panics wherever it can.
type brokenFleet struct{ named bool }

func (f brokenFleet) Name(key string) string {
	if f.named {
		return key
	}
	panic("no name")
}
func (brokenFleet) Publish(breaker.Advice) { panic("nothing published") }
func (f brokenFleet) Subscribe(func(breaker.Advice)) func() {
	if f.named {
		return func() { panic("no end") }
	}
	panic("nobody subscribed")
}

func TestAFleetThatPanicsCostsNothingButItself(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		var log bytes.Buffer
		synctest.Test(t, func(t *testing.T) {
			b := breaker.New(breaker.Config{Fleet: brokenFleet{named}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			failApart(t, b, 5)
			wantState(t, b, breaker.Open)
			time.Sleep(7 * time.Second)
			succeed(t, b, 1)
			wantState(t, b, breaker.Closed)
			_ = b.Close()
		})
		if got := strings.Count(log.String(), "fleet panicked"); got != 2 {
			t.Errorf("%d lines of two panics:\n%s", got, &log)
		}
	}
}

func TestACallbackThatPanicsOnAdviceCostsNothingButItself(t *testing.T) {
	t.Parallel()
	inFleet(t, breaker.Config{
		OnStateChange: func(breaker.StateChange) { panic("told") },
	}, func(t *testing.T, b *breaker.Breaker, others *puppetFleet) {
		others.advise(time.Minute, "a", "b")
		wantState(t, b, breaker.Open)
	})
}
