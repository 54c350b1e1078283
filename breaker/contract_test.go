package breaker_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/contract"
)

func TestRoundTripperContract(t *testing.T) {
	wrap := func(cfg breaker.Config) func(http.RoundTripper) http.RoundTripper {
		return func(base http.RoundTripper) http.RoundTripper { return breaker.NewTransport(base, cfg) }
	}
	t.Run("default", func(t *testing.T) {
		t.Parallel()
		contract.Test(t, wrap(breaker.Config{}))
	})
	t.Run("observed", func(t *testing.T) {
		t.Parallel()
		contract.Test(t, wrap(breaker.Config{Observe: func(resp *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
			outcome, _, hint := breaker.DefaultObserve(resp, err)
			return outcome, new(ear), hint
		}}))
	})
}
