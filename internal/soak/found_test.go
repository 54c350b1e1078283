package soak

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/retry"
)

// What TestSoak has found, in small.

func TestARejectionThatRacesWithTheTimeLimitIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := stub.Func(func(*http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second) // a busy machine
			return nil, &breaker.OpenError{Key: "k"}
		})
		var report retry.Report
		req, err := retry.NewRequest(retry.WithReport(context.Background(), &report), http.MethodGet, "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = retry.NewTransport(base, retry.Config{AttemptTimeout: time.Second}).RoundTrip(req)
		if !errors.Is(err, breaker.ErrOpen) || report.Attempts != 0 {
			t.Errorf("%v after %d attempts", err, report.Attempts)
		}
	})
}
