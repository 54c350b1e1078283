package retry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestTheEndOfAnOuterAttemptEndsTheInnerCall(t *testing.T) {
	t.Parallel()
	silent := func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, context.Cause(req.Context())
	}
	for name, row := range map[string]struct {
		base  *stub.Base
		cfg   Config
		calls int
	}{
		"in a backoff":         {answers(status(503)), Config{Backoff: steady(4 * time.Second)}, 3},
		"in a wait for a hint": {answers(status(503, "Retry-After", "30")), Config{}, 1},
		"in its first attempt": {answers(silent), Config{}, 1},
		"in a later one":       {answers(status(503), silent), Config{Backoff: steady(4 * time.Second)}, 2},
		"in a watched attempt": {answers(silent), Config{Repeatable: func(*Attempt) bool { return true }}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				outer := NewTransport(NewTransport(row.base, row.cfg), Config{AttemptTimeout: 10 * time.Second, Repeatable: row.cfg.Repeatable})
				start := time.Now()
				_, err := outer.RoundTrip(keyed(t.Context(), t, nil))
				var limit *fault.TimeLimitError
				if !errors.As(err, &limit) || time.Since(start) != 10*time.Second || row.base.Calls() != row.calls {
					t.Errorf("error %v after %v and %d requests, want the limit's after 10 s and %d", err, time.Since(start), row.base.Calls(), row.calls)
				}
			})
		})
	}
}

func TestAnInnerCallThatSentSomethingIsNeitherARejectionNorNotSent(t *testing.T) {
	t.Parallel()
	unreachable := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, last := range map[string]func(*http.Request) (*http.Response, error){
		"refused by an open breaker": reject(),
		"not connected":              unconnected(unreachable),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(disconnected(syscall.ECONNRESET), last)
				inner := NewTransport(base, Config{MaxAttempts: 2, MaxRetryAfter: time.Second})
				var report Report
				outer := NewTransport(inner, Config{
					Safe:       func(*http.Request) bool { return false },
					Repeatable: func(a *Attempt) bool { return a.NotSent },
				})
				_, err := outer.RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
				if !fault.IsRejection(err) && !errors.Is(err, unreachable) || base.Calls() != 2 || report.Attempts != 1 {
					t.Errorf("error %v after %d requests, report %+v", err, base.Calls(), report)
				}
			})
		})
	}
}

func TestWhatAnInnerCallWasRefusedIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(failure(syscall.ECONNRESET), reject())
		_, err := NewTransport(NewTransport(base, Config{}), Config{}).RoundTrip(keyed(t.Context(), t, nil))
		if !fault.IsRejection(err) || base.Calls() != 2 {
			t.Errorf("error %v after %d requests", err, base.Calls())
		}
	})
}

// A layer below may hold an attempt back until the context is over.
func TestAnInnerCallThatWasHeldBackToItsEndIsNoRejection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var report Report
		base := answers(failure(&Error{Err: rejection{}, Cause: context.DeadlineExceeded}))
		_, err := NewTransport(base, Config{}).RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
		if !errors.Is(err, rejection{}) || base.Calls() != 1 || report.Attempts != 1 {
			t.Errorf("error %v after %d requests, report %+v", err, base.Calls(), report)
		}
	})
}
