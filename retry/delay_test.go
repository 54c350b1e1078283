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
