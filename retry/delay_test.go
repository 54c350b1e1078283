package retry

import (
	"context"
	"math"
	"testing"
	"time"
)

func TestAWaitBeyondAllBoundsDoesNotOverflow(t *testing.T) {
	t.Parallel()
	for _, d := range []Decision{After(math.MaxInt64, ""), After(math.MaxInt64, "").Below()} {
		base := answers(status(503))
		transport := NewTransport(base, Config{
			Policy: func(*Attempt) Decision { return d }, MaxRetryAfter: math.MaxInt64, MaxAttempts: 2,
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		resp, err := transport.RoundTrip(keyed(ctx, t, nil))
		if err != nil {
			t.Fatal(err)
		}
		if readAll(t, resp); base.Calls() != 1 {
			t.Errorf("%d requests", base.Calls())
		}
	}
}

func TestWithoutAResponseThereIsNoHint(t *testing.T) {
	t.Parallel()
	if wait, ok := (&Attempt{}).Hint(); wait != 0 || ok {
		t.Errorf("%v, %v", wait, ok)
	}
}

// Chance adds a quarter to a hint, and to a long one 10 s: nobody waits for minutes longer
// than the server has asked for.
func TestChanceAddsNoMoreThan10sToAHint(t *testing.T) {
	t.Parallel()
	for hint, most := range map[time.Duration]time.Duration{
		0:                0,
		8 * time.Second:  2 * time.Second,
		40 * time.Second: 10 * time.Second,
		time.Hour:        10 * time.Second,
	} {
		if got := spread(hint, func() float64 { return 1 }) - hint; got != most {
			t.Errorf("%v are added to %v, want %v", got, hint, most)
		}
	}
}
