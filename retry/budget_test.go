package retry

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestARetryThatIsRejectedGetsItsTokensBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(10, 0)
		resp, err := NewTransport(answers(status(503), reject()), Config{Budget: budget}).RoundTrip(keyed(t.Context(), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if got := budget.buckets["api.example.com"].tokens; got != 10 {
			t.Errorf("%v tokens are left of 10", got)
		}
	})
}

func TestTheZeroBudgetAllowsNoRetries(t *testing.T) {
	t.Parallel()
	base := answers(status(503))
	resp, err := NewTransport(base, Config{Budget: new(Budget)}).RoundTrip(keyed(t.Context(), t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); base.Calls() != 1 {
		t.Errorf("%d requests", base.Calls())
	}
}

func TestWhatARetryCosts(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		failed func(*http.Request) (*http.Response, error)
		cost   float64
	}{
		"a 429 with a hint":    {status(429, "Retry-After", "1"), hintedCost},
		"a 429 without one":    {status(429), retryCost},
		"a 503 with a hint":    {status(503, "Retry-After", "1"), retryCost},
		"a 503":                {status(503), retryCost},
		"a lost connection":    {failure(io.EOF), retryCost},
		"success at first try": {status(200), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				budget := NewBudget(10, 0)
				budget.reserve("api.example.com", 0, time.Now())
				resp, err := NewTransport(answers(row.failed), Config{Budget: budget, MaxAttempts: 2}).RoundTrip(keyed(t.Context(), t, nil))
				if err == nil {
					readAll(t, resp)
				}
				if got := 10 - budget.buckets["api.example.com"].tokens; got != row.cost {
					t.Errorf("%v tokens were spent, want %v", got, row.cost)
				}
			})
		})
	}
}

func TestNumbersThatAreNoneMakeNoBudget(t *testing.T) {
	t.Parallel()
	for name, budget := range map[string]*Budget{
		"NaN tokens":      NewBudget(math.NaN(), 0),
		"negative tokens": NewBudget(-1, 0),
		"NaN refill":      NewBudget(0, math.NaN()),
		"negative refill": NewBudget(0, -1),
	} {
		now := time.Now()
		if budget.reserve("k", 1, now) || budget.reserve("k", 1, now.Add(time.Hour)) {
			t.Errorf("%s: a retry is paid for", name)
		}
	}
	if b := NewBudget(math.Inf(1), 0); !b.reserve("k", 1e9, time.Now()) {
		t.Error("an infinite budget ran out")
	}
}

func TestABucketHoldsNoMoreThanItsTokensHoweverLongItFills(t *testing.T) {
	t.Parallel()
	b, now := NewBudget(10, 1), time.Now()
	if !b.reserve("a", 10, now) || !b.reserve("a", 10, now.Add(time.Hour)) || b.reserve("a", 1, now.Add(time.Hour)) {
		t.Error("after an hour it holds another number than 10")
	}
}

func TestAClockThatGoesBackTakesNoTokensAway(t *testing.T) {
	t.Parallel()
	budget, now := NewBudget(10, 1), time.Now()
	if !budget.reserve("k", 5, now) || !budget.reserve("k", 5, now.Add(-time.Hour)) {
		t.Error("10 tokens do not pay for two retries")
	}
}

func TestOfTooManyBucketsTheFullestIsForgotten(t *testing.T) {
	t.Parallel()
	b, now := NewBudget(10, 0), time.Now()
	for n := range maxBuckets {
		cost := 5.0
		if n == maxBuckets/2 {
			cost = 1
		}
		b.reserve(strconv.Itoa(n), cost, now)
	}
	b.reserve("new", 1, now)
	if len(b.buckets) != maxBuckets || b.buckets[strconv.Itoa(maxBuckets/2)] != nil {
		t.Errorf("%d buckets, and the fullest is still one of them", len(b.buckets))
	}
}

func TestOfTheNameOfABucket1024BytesCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget, name := NewBudget(10, 0), strings.Repeat("x", 1024)
		calls := 0
		transport := NewTransport(answers(status(503)), Config{Budget: budget, MaxAttempts: 2, BudgetKey: func(*http.Request) string {
			calls++
			return name + strconv.Itoa(calls)
		}})
		for range 2 {
			resp, err := transport.RoundTrip(keyed(t.Context(), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
		}
		if len(budget.buckets) != 1 || budget.buckets[name] == nil {
			t.Errorf("%d buckets", len(budget.buckets))
		}
	})
}

// elsewhere is a Router that has one more target.
type elsewhere struct{ to call.Detour }

func (e elsewhere) First() (bool, error)      { return false, nil }
func (e elsewhere) Detour() call.Detour       { return e.to }
func (elsewhere) Onward() (call.Detour, bool) { return call.Detour{}, false }

func TestTheFirstAttemptAtATargetThatSucceedsPaysIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(10, 0)
		budget.reserve("api.example.com", 5, time.Now())
		var c call.Call
		c.Router = elsewhere{call.Detour{Fresh: true, Free: true}}
		resp, err := NewTransport(answers(status(503), status(200)), Config{Budget: budget}).RoundTrip(keyed(c.Init(t.Context()), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if got := budget.buckets["api.example.com"].tokens; got != 6 {
			t.Errorf("%v tokens are left, want 6", got)
		}
	})
}

func TestAFirstAttemptThatSucceedsPaysIntoTheBucketOfItsTarget(t *testing.T) {
	t.Parallel()
	budget := NewBudget(10, 0)
	for _, key := range []string{"", "b"} {
		budget.reserve(key, 5, time.Now())
	}
	cfg := Config{Budget: budget, BudgetKey: func(req *http.Request) string {
		if a := call.AttemptFrom(req.Context()); a != nil {
			return a.Subject.Target
		}
		return ""
	}}
	w := &itinerary{targets: []string{"b"}, answers: map[string]stub.Func{"b": says(200, "b")}}
	resp, err := NewTransport(w, cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(t.Context()), t, strings.NewReader("p")))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	if call, target := budget.buckets[""].tokens, budget.buckets["b"].tokens; call != 5 || target != 6 {
		t.Errorf("%v tokens are left to the call and %v to its target, want 5 and 6", call, target)
	}
}

func TestAnEmptyBudgetStopsRetriesNotFirstAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(status(503))
		transport := NewTransport(base, Config{Budget: NewBudget(12, 0), Backoff: steady(time.Millisecond)})
		var last Report
		for range 3 {
			last = Report{}
			resp, err := transport.RoundTrip(keyed(WithReport(t.Context(), &last), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
		}
		if base.Calls() != 3+2 || last.Stopped != StopBudget {
			t.Errorf("%d requests, stopped by %q; want 5 by the budget", base.Calls(), last.Stopped)
		}
	})
}

func TestBudgetBook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10, 1)
		tokens := func() float64 { return b.buckets["h"].tokens }
		if !b.idle() || !b.reserve("h", 5, time.Now()) || !b.reserve("h", 5, time.Now()) || b.reserve("h", 1, time.Now()) {
			t.Fatal("a full bucket holds 10 tokens")
		}
		time.Sleep(3 * time.Second)
		b.pay("h", 1, time.Now())
		if tokens() != 4 {
			t.Errorf("%v tokens after 3 s and a success, want 4", tokens())
		}
		time.Sleep(time.Hour)
		b.pay("h", 1, time.Now())
		if tokens() != 10 {
			t.Errorf("%v tokens, want no more than 10", tokens())
		}
		if !Unlimited.reserve("h", 1e9, time.Now()) || !Unlimited.idle() {
			t.Error("Unlimited has a limit")
		}
		for i := range 2 * maxBuckets {
			b.reserve(strconv.Itoa(i), 1, time.Now())
		}
		if len(b.buckets) > maxBuckets {
			t.Errorf("%d buckets are remembered", len(b.buckets))
		}
	})
}

func TestARetryThatSucceedsGetsItsTokensBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(100, 0)
		for range 50 {
			transport := NewTransport(answers(status(503), status(200)), Config{Budget: budget})
			resp, err := transport.RoundTrip(keyed(t.Context(), t, nil))
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			readAll(t, resp)
		}
		transport := NewTransport(answers(status(503)), Config{Budget: budget, Backoff: steady(time.Hour), MaxElapsed: -1})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Hour, errors.New("over"))
		time.AfterFunc(time.Minute, cancel)
		if _, err := transport.RoundTrip(keyed(ctx, t, nil)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if got := budget.buckets["api.example.com"].tokens; got != 100 {
			t.Errorf("%v tokens, want 100: nothing was spent in vain", got)
		}
	})
}

func TestABucketKeepsNothingOfTheTextThatItsNameIsPartOf(t *testing.T) {
	t.Parallel()
	b, name := NewBudget(10, 0), strings.Repeat("x", 1<<20)[:10]
	b.reserve(name, 1, time.Now())
	for kept := range b.buckets {
		if unsafe.StringData(kept) == unsafe.StringData(name) {
			t.Error("the name is a part of a text of 1 MiB")
		}
	}
}
