package breaker_test

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		field string
		cfg   breaker.Config
	}{
		{"FailureRatio", breaker.Config{FailureRatio: 1.01}},
		{"FailureRatio", breaker.Config{FailureRatio: math.Inf(1)}},
		{"FailureRatio", breaker.Config{FailureRatio: math.NaN()}},
		{"MinRequests", breaker.Config{MinRequests: -1}},
		{"MinRequests", breaker.Config{MinRequests: 10_001}},
		{"Window", breaker.Config{Window: -1}},
		{"Window", breaker.Config{Window: 25 * time.Hour}},
		{"OpenDuration", breaker.Config{OpenDuration: -1}},
		{"OpenDuration", breaker.Config{OpenDuration: math.MaxInt64}},
		{"ProbeTimeout", breaker.Config{ProbeTimeout: -1}},
		{"ProbeTimeout", breaker.Config{ProbeTimeout: 25 * time.Hour}},
		{"SuccessThreshold", breaker.Config{SuccessThreshold: -1}},
		{"MaxProbes", breaker.Config{MaxProbes: -1}},
		{"MaxProbes", breaker.Config{MaxProbes: 1001}},
		{"MaxKeys", breaker.Config{MaxKeys: -1}},
		{"MaxKeys", breaker.Config{MaxKeys: 65_537}},
	} {
		t.Run(test.field, func(t *testing.T) {
			t.Parallel()
			want := func(err error) {
				t.Helper()
				var bad *breaker.ConfigError
				if !errors.As(err, &bad) || bad.Field != test.field || !strings.Contains(err.Error(), "Config."+test.field+" is ") {
					t.Errorf("got %v, want a ConfigError for %s", err, test.field)
				}
			}
			want(test.cfg.Validate())
			want(newBreaker(t, test.cfg).Allow(new(breaker.Permit)))

			tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
				t.Error("sent")
				return nil, errors.ErrUnsupported
			}), test.cfg)
			body := &stub.Body{Reader: strings.NewReader("x")}
			req := request(t.Context(), http.MethodPost)
			req.Body = body
			_, err := tr.RoundTrip(req)
			want(err)
			if n := body.Closed(); n != 1 {
				t.Errorf("body closed %d times", n)
			}
		})
	}
}

func TestGoodConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []breaker.Config{
		{},
		{FailureThreshold: -1, FailureRatio: -1},
		{FailureThreshold: math.MaxInt, FailureRatio: 1, MinRequests: 1, SuccessThreshold: math.MaxInt, MaxProbes: 1, MaxKeys: 1},
		{Window: 1, OpenDuration: 1, ProbeTimeout: 1},
		{Window: 24 * time.Hour, OpenDuration: 24 * time.Hour, ProbeTimeout: 24 * time.Hour, MinRequests: 10_000, MaxProbes: 1000, MaxKeys: 65_536},
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
		b := newBreaker(t, cfg)
		succeed(t, b, 20)
		fail(t, b, 1)
	}
}

func TestConfigIsCopied(t *testing.T) {
	t.Parallel()
	cfg := breaker.Config{FailureThreshold: 1}
	b := newBreaker(t, cfg)
	cfg.FailureThreshold = 100
	fail(t, b, 1)
	wantState(t, b, breaker.Open)
}
