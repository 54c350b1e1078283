//go:build !race

package breaker_test

import (
	"net/http"
	"testing"

	"github.com/retrip-go/retrip/breaker"
)

func TestAllocations(t *testing.T) {
	b := newBreaker(t, breaker.Config{FailureThreshold: -1, FailureRatio: -1})
	var p breaker.Permit
	for name, settle := range map[string]func(){"Success": p.Success, "Failure": p.Failure, "Ignore": p.Ignore} {
		if n := testing.AllocsPerRun(1000, func() {
			if b.Allow(&p) == nil {
				settle()
			}
		}); n != 0 {
			t.Errorf("Allow and %s: %v allocations, want 0", name, n)
		}
	}

	tr := newTransport(t, newNothing(), breaker.Config{})
	req := request(t.Context(), http.MethodPost)
	buf := make([]byte, 2048)
	if n := testing.AllocsPerRun(1000, func() { roundTrip(t, tr, req, buf) }); n > 1 {
		t.Errorf("RoundTrip: %v allocations, want 1", n)
	}
}
