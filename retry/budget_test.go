package retry

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestARetryThatAPauseHeldBackIsStillPaidFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(10, 0)
		base := answers(status(503), reject(time.Second, true), status(503))
		resp, err := NewTransport(base, Config{Budget: budget, MaxAttempts: 2}).RoundTrip(keyed(t.Context(), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if got := budget.buckets["api.example.com"].tokens; got != 5 {
			t.Errorf("%v tokens are left of 10, want 5", got)
		}
	})
}

func TestARetryThatIsRejectedGetsItsTokensBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(10, 0)
		resp, err := NewTransport(answers(status(503), reject(0, false)), Config{Budget: budget}).RoundTrip(keyed(t.Context(), t, nil))
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
	if readAll(t, resp); base.calls != 1 {
		t.Errorf("%d requests", base.calls)
	}
}
