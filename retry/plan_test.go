package retry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/internal/call"
)

func TestABoundedBackoffWaitsNoLonger(t *testing.T) {
	t.Parallel()
	for most, want := range map[time.Duration]time.Duration{0: 10 * time.Second, -1: 10 * time.Second, time.Second: time.Second, time.Minute: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			resp, err := NewTransport(answers(status(503), status(200)), Config{
				Backoff: steady(10 * time.Second),
				Policy: func(a *Attempt) Decision {
					if a.Response.StatusCode == 200 {
						return Stop(NotRetryable)
					}
					return AfterBackoff(ReasonOverloaded).AtMost(most)
				},
			}).RoundTrip(keyed(t.Context(), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			if readAll(t, resp); time.Since(start) != want {
				t.Errorf("at most %v: waited %v, want %v", most, time.Since(start), want)
			}
		})
	}
}

func TestANegativeHintIsNone(t *testing.T) {
	t.Parallel()
	if After(-time.Hour, ReasonOverloaded) != After(0, ReasonOverloaded) {
		t.Error("it is not as one of 0")
	}
}

// The connection itself is asked for, and whoever got it may have used it.
func TestWhatTakesTheConnectionOverIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, change := range map[string]func(*http.Request){
			"CONNECT": func(req *http.Request) { req.Method = http.MethodConnect },
			"Upgrade": func(req *http.Request) {
				req.Header.Set("Connection", "Upgrade")
				req.Header.Set("Upgrade", "websocket")
			},
		} {
			base, req := answers(status(503)), keyed(t.Context(), t, nil)
			change(req)
			resp, err := NewTransport(base, Config{}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if readAll(t, resp); base.Calls() != 1 {
				t.Errorf("%s: %d requests", name, base.Calls())
			}
		}
	})
}

func TestARefusalThatRacesWithTheTimerStaysOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(func(*http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			return nil, rejection{}
		})
		var report Report
		_, err := NewTransport(base, Config{AttemptTimeout: time.Second}).RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
		if !errors.Is(err, rejection{}) || report.Attempts != 0 {
			t.Errorf("error %v, report %+v", err, report)
		}
	})
}

// A call that ends while the layer below holds it back has ended in a wait. One that was
// refused at once has not waited, whatever became of its context at the same moment.
func TestOnlyARefusalThatWasHeldBackEndsInAWait(t *testing.T) {
	t.Parallel()
	for held, wants := range map[time.Duration]error{0: rejection{}, time.Second: context.Canceled} {
		ctx, cancel := context.WithCancel(t.Context())
		base := answers(func(req *http.Request) (*http.Response, error) {
			call.From(req.Context()).Held = held
			cancel()
			return nil, rejection{}
		})
		_, err := NewTransport(base, Config{}).RoundTrip(keyed(ctx, t, nil))
		if !errors.Is(err, wants) || held == 0 && errors.Is(err, context.Canceled) {
			t.Errorf("held for %v: %v, want %v", held, err, wants)
		}
	}
}

// An SDK that retries too is to be stopped where another attempt of its own
// would be in vain, or do harm, and nowhere else.
func TestACallThatWasGivenUpSaysSo(t *testing.T) {
	t.Parallel()
	unsafe := func(*http.Request) bool { return false }
	for name, row := range map[string]struct {
		cfg  Config
		code int
		want bool
	}{
		"repeated":                 {Config{}, 503, true},
		"no budget":                {Config{Budget: NewBudget(0, 0)}, 503, true},
		"no time":                  {Config{MaxElapsed: time.Millisecond}, 503, true},
		"not retryable":            {Config{}, 400, false},
		"not Safe":                 {Config{Safe: unsafe}, 503, false},
		"MaxAttempts 1":            {Config{MaxAttempts: 1}, 503, false},
		"MaxAttempts 1, no budget": {Config{MaxAttempts: 1, Budget: NewBudget(0, 0)}, 503, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var c call.Call
				resp, err := NewTransport(answers(status(row.code)), row.cfg).RoundTrip(keyed(c.Init(t.Context()), t, nil))
				if err != nil {
					t.Fatal(err)
				}
				if readAll(t, resp); c.GaveUp != row.want {
					t.Errorf("given up: %v", c.GaveUp)
				}
			})
		})
	}
}

func TestWhatIsNotSafeIsSentOnce(t *testing.T) {
	t.Parallel()
	base := answers(status(503))
	body := opaque([]byte("payload"))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, body)
	resp, err := NewTransport(base, Config{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, resp); base.Calls() != 1 || got != "body of Service Unavailable" || body.Closed() != 1 {
		t.Errorf("%d requests, body %q, closed %d times", base.Calls(), got, body.Closed())
	}
}

func TestSafeIsNotOverriddenByAPolicy(t *testing.T) {
	t.Parallel()
	base := answers(status(503))
	transport := NewTransport(base, Config{
		Safe:   func(*http.Request) bool { return false },
		Policy: func(*Attempt) Decision { return After(0, ReasonServerSaysYes) },
	})
	resp, err := transport.RoundTrip(keyed(t.Context(), t, strings.NewReader("x")))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); base.Calls() != 1 {
		t.Errorf("%d requests, want 1", base.Calls())
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, row := range []struct {
		name       string
		header     func() []string
		min, max   time.Duration
		wantStatus int
	}{
		{"seconds", func() []string { return []string{"Retry-After", "7"} }, 7 * time.Second, 8750 * time.Millisecond, 200},
		{"date", func() []string { return []string{"Retry-After", in(20 * time.Second)} }, 20 * time.Second, 25 * time.Second, 200},
		{"milliseconds", func() []string { return []string{"retry-after-ms", "100"} }, 100 * time.Millisecond, 125 * time.Millisecond, 200},
		{"the spread is at most 10 s", func() []string { return []string{"Retry-After", "60"} }, 60 * time.Second, 70 * time.Second, 200},
		{"0 is at once", func() []string { return []string{"Retry-After", "0"} }, 0, 0, 200},
		{"junk is a backoff", func() []string { return []string{"Retry-After", "soon"} }, 375 * time.Millisecond, 625 * time.Millisecond, 200},
		{"too long returns the response at once", func() []string { return []string{"Retry-After", "600"} }, 0, 0, 429},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(status(429, row.header()...), status(200))
				start := time.Now()
				resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < row.min || took > row.max {
					t.Errorf("waited %v, want %v to %v", took, row.min, row.max)
				}
				if body := readAll(t, resp); resp.StatusCode != row.wantStatus || !strings.HasPrefix(body, "body of") {
					t.Errorf("got %d with %q, want %d", resp.StatusCode, body, row.wantStatus)
				}
			})
		})
	}
}

func TestNoWaitPassesADeadline(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		timeout time.Duration
		cfg     Config
		answer  func(*http.Request) (*http.Response, error)
	}{
		"the context's":             {10 * time.Second, Config{}, status(503, "Retry-After", "30")},
		"the context's, by backoff": {10 * time.Second, Config{Backoff: steady(11 * time.Second)}, status(503)},
		"the context's, just so":    {10 * time.Second, Config{Backoff: steady(10 * time.Second)}, status(503)},
		"MaxElapsed":                {time.Hour, Config{MaxElapsed: 20 * time.Second}, status(503, "Retry-After", "30")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), row.timeout)
				defer cancel()
				start := time.Now()
				resp, err := NewTransport(answers(row.answer), row.cfg).RoundTrip(keyed(ctx, t, nil))
				if err != nil || time.Since(start) != 0 {
					t.Fatalf("error %v after %v; want the response at once", err, time.Since(start))
				}
				if body := readAll(t, resp); body != "body of Service Unavailable" {
					t.Errorf("body %q", body)
				}
			})
		})
	}
}

func TestWhatWouldBeRefusedIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answer   func(*http.Request) (*http.Response, error)
		refuses  time.Duration
		attempts int
	}{
		"a response, refused for longer than the backoff": {status(503), 2*time.Second + 1, 1},
		"a response, refused until the attempt":           {status(503), 2 * time.Second, 2},
		"a response, not refused":                         {status(503), 0, 2},
		"a hint, refused for longer":                      {status(503, "Retry-After", "1"), 3 * time.Second, 1},
		"a hint that outlasts it":                         {status(503, "Retry-After", "3"), 3 * time.Second, 2},
		"an error, refused for longer than the backoff":   {failure(io.EOF), 3 * time.Second, 1},
		"an error, not refused":                           {failure(io.EOF), time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(func(req *http.Request) (*http.Response, error) {
					call.From(req.Context()).Gate = gate(row.refuses)
					return row.answer(req)
				})
				var report Report
				start := time.Now()
				resp, err := NewTransport(base, Config{Backoff: steady(2 * time.Second), MaxAttempts: 2}).RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
				if err == nil {
					readAll(t, resp)
				}
				if base.Calls() != row.attempts {
					t.Fatalf("%d attempts, want %d", base.Calls(), row.attempts)
				}
				if row.attempts == 2 {
					return
				}
				if report.Stopped != StopRejected || time.Since(start) != 0 {
					t.Errorf("stopped for %q after %v", report.Stopped, time.Since(start))
				}
				if err != nil && err != io.EOF { //nolint:errorlint // the same value
					t.Errorf("error %#v", err)
				}
			})
		})
	}
}

func TestWithMaxAttempts(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{-1: 4, 0: 4, 1: 1, 2: 2, 6: 6} {
		synctest.Test(t, func(t *testing.T) {
			base := answers(status(503))
			resp, err := NewTransport(base, Config{}).RoundTrip(keyed(WithMaxAttempts(t.Context(), n), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			if readAll(t, resp); base.Calls() != want {
				t.Errorf("%d: %d requests, want %d", n, base.Calls(), want)
			}
		})
	}
}

func TestBackoffStopEndsTheCall(t *testing.T) {
	t.Parallel()
	var report Report
	base := answers(status(503))
	transport := NewTransport(base, Config{Backoff: func() backoff.BackOff { return &backoff.StopBackOff{} }})
	resp, err := transport.RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); base.Calls() != 1 || report.Stopped != StopPolicy {
		t.Errorf("%d requests, stopped by %q", base.Calls(), report.Stopped)
	}
}

// What a dead target has used up is not the next one's to lack.
func TestATargetThatWasNotTriedYetIsTriedAfterMaxElapsedToo(t *testing.T) {
	t.Parallel()
	for fresh, want := range map[bool]int{true: 2, false: 1} {
		synctest.Test(t, func(t *testing.T) {
			base := answers(func(*http.Request) (*http.Response, error) {
				time.Sleep(2 * time.Second)
				return response(503, ""), nil
			}, status(200))
			var c call.Call
			c.Router = elsewhere{call.Detour{Fresh: fresh}}
			resp, err := NewTransport(base, Config{MaxElapsed: time.Second}).RoundTrip(keyed(c.Init(t.Context()), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			if readAll(t, resp); base.Calls() != want {
				t.Errorf("fresh %v: %d requests, want %d", fresh, base.Calls(), want)
			}
		})
	}
}
