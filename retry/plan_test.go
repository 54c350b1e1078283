package retry

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

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
