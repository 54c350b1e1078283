//go:build !race

package breaker_test

import (
	"fmt"
	"net/http"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestAllocations(t *testing.T) {
	provider := sdk.NewMeterProvider(sdk.WithReader(sdk.NewManualReader()))
	b := newBreaker(t, breaker.Config{FailureThreshold: -1, FailureRatio: -1, MeterProvider: provider})
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

// Whoever calls the API behind a gateway may send any model's name.
func TestAFloodOfNamesAllocatesLittleForEach(t *testing.T) {
	for _, code := range []int{http.StatusNotFound, http.StatusServiceUnavailable} {
		resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody}
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) { return resp, nil }), breaker.Config{})
		c := new(call.Call)
		req := request(c.Init(t.Context()), http.MethodPost)
		n := 0
		flood := func() {
			n++
			c.Model = fmt.Sprint("invented-", n)
			if _, err := tr.RoundTrip(req); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * breaker.DefaultMaxKeys {
			flood()
		}
		if got := testing.AllocsPerRun(1000, flood); got > 20 {
			t.Errorf("%d: %v allocations a name, want at most 20", code, got)
		}
	}
}
