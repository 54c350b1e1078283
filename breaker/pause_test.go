package breaker_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
)

var rateLimited = breaker.Hint{RateLimited: true}

func limited(wait time.Duration) breaker.Hint {
	return breaker.Hint{RateLimited: true, Known: true, RetryAfter: wait}
}

// paused returns how long b is paused from now on; 0 if it is not.
func paused(b *breaker.Breaker) time.Duration {
	if until := b.Snapshot().PausedUntil; !until.IsZero() {
		return time.Until(until)
	}
	return 0
}

func wantPause(t *testing.T, b *breaker.Breaker, want time.Duration) {
	t.Helper()
	if got := paused(b); got != want {
		t.Fatalf("paused for %v, want %v", got, want)
	}
}

func TestA429PausesUntilItsHint(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hint         time.Duration
		want, spread time.Duration
	}{
		"at once":    {0, 0, 0},
		"short":      {time.Second, time.Second, time.Second},
		"long":       {40 * time.Second, 40 * time.Second, 10 * time.Second},
		"far longer": {time.Hour, 120 * time.Second, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
				admit(t, b).Settle(breaker.Ignored, limited(test.hint))
				wantPause(t, b, test.want)
				if test.want == 0 {
					succeed(t, b, 1)
					return
				}
				shortest, longest := time.Hour, time.Duration(0)
				for range 1000 {
					r := wantRefusal(t, b)
					if wait, ok := r.Paused(); !ok || wait != r.RetryAfter {
						t.Fatalf("Paused returned %v, %v", wait, ok)
					}
					shortest, longest = min(shortest, r.RetryAfter), max(longest, r.RetryAfter)
				}
				if shortest < test.want || longest >= test.want+test.spread {
					t.Errorf("callers told to wait %v to %v", shortest, longest)
				}
				if longest-shortest < test.spread*9/10 {
					t.Errorf("callers spread over %v only", longest-shortest)
				}
				time.Sleep(test.want)
				succeed(t, b, 1)
				wantState(t, b, breaker.Closed)
			})
		})
	}
}

func TestPausesWithoutAHintDouble(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
			want := time.Duration(seconds) * time.Second
			admit(t, b).Settle(breaker.Ignored, rateLimited)
			wantPause(t, b, want)
			time.Sleep(want)
		}
		succeed(t, b, 1)
		admit(t, b).Settle(breaker.Ignored, rateLimited)
		wantPause(t, b, time.Second)
	})
}

func TestAPauseWithAHintDoesNotHideASuccess(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		for _, want := range []time.Duration{time.Second, 2 * time.Second} {
			admit(t, b).Settle(breaker.Ignored, rateLimited)
			wantPause(t, b, want)
			time.Sleep(want)
		}
		succeed(t, b, 1)
		admit(t, b).Settle(breaker.Ignored, limited(10*time.Second))
		time.Sleep(10 * time.Second)
		admit(t, b).Settle(breaker.Ignored, rateLimited)
		wantPause(t, b, time.Second)
	})
}

func TestOnePauseForAllRequestsThatMetTheSameLimit(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		crowd := make([]*breaker.Permit, 200)
		for i := range crowd {
			crowd[i] = admit(t, b)
		}
		for _, p := range crowd {
			p.Settle(breaker.Ignored, rateLimited)
		}
		wantPause(t, b, time.Second)
		time.Sleep(time.Second)
		admit(t, b).Settle(breaker.Ignored, rateLimited)
		wantPause(t, b, 2*time.Second)
	})
}

func TestAHintThatIsTooShortForSoManyIsASecond(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		short := limited(20 * time.Millisecond)
		admit(t, b).Settle(breaker.Ignored, short)
		wantPause(t, b, 20*time.Millisecond)
		time.Sleep(20 * time.Millisecond)
		succeed(t, b, 1)
		admit(t, b).Settle(breaker.Ignored, short)
		wantPause(t, b, time.Second)
		time.Sleep(2 * time.Second)
		admit(t, b).Settle(breaker.Ignored, short)
		wantPause(t, b, 20*time.Millisecond)
	})
}

func TestAPausePrecedesOthersOnlyIfItIsLonger(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		p, q := admit(t, b), admit(t, b)
		p.Settle(breaker.Ignored, limited(10*time.Second))
		q.Settle(breaker.Ignored, limited(2*time.Second))
		wantPause(t, b, 10*time.Second)
	})
}

func TestAPausedKeyMakesNoProbes(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		b.Trip()
		time.Sleep(30 * time.Second)
		admit(t, b).Settle(breaker.Ignored, limited(50*time.Second))
		if r := wantRefusal(t, b); !r.RateLimited {
			t.Errorf("refused with %+v", r)
		}
		time.Sleep(50 * time.Second)
		fail(t, b, 1)
		wantState(t, b, breaker.Open)
	})
}

func TestAnOpenBreakerOutlivedByAPause(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		p := admit(t, b)
		b.Trip()
		p.Settle(breaker.Ignored, limited(50*time.Second))
		if r := wantRefusal(t, b); r.RateLimited || r.RetryAfter != 50*time.Second {
			t.Errorf("refused with %+v", r)
		}
		time.Sleep(40 * time.Second)
		wantState(t, b, breaker.Open)
		if r := wantRefusal(t, b); !r.RateLimited || r.RetryAfter < 10*time.Second {
			t.Errorf("refused with %+v", r)
		}
		time.Sleep(10 * time.Second)
		wantState(t, b, breaker.HalfOpen)
		succeed(t, b, 2)
		wantState(t, b, breaker.Closed)
	})
}

// A batch of workers behind a limit of requests a second must get its work
// done: a rate limit paces, it does not fail.
func TestARateLimitedBatchFinishes(t *testing.T) {
	virtual(t, breaker.Config{}, func(t *testing.T, b *breaker.Breaker) {
		const workers, each, perSecond = 200, 10, 50
		var mu sync.Mutex
		second, used := int64(-1), 0
		limit := func() (ok bool) {
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now().Unix(); now != second {
				second, used = now, 0
			}
			used++
			return used <= perSecond
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for done := 0; done < each; {
					var p breaker.Permit
					var refused *breaker.OpenError
					if errors.As(b.Allow(&p), &refused) {
						time.Sleep(refused.RetryAfter)
						continue
					}
					time.Sleep(100 * time.Millisecond)
					if limit() {
						p.Success()
						done++
					} else {
						p.Settle(breaker.Ignored, limited(time.Second))
					}
				}
			})
		}
		wg.Wait()
		if took, least := time.Since(start), workers*each/perSecond*time.Second; took > 3*least {
			t.Errorf("took %v, at least %v are needed", took, least)
		}
		if s := b.Snapshot(); s.Seq != 0 {
			t.Errorf("the breaker opened: %+v", s)
		}
	})
}
