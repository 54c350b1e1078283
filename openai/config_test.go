package openai_test

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

func TestABadFieldIsNamedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, row := range []struct {
		part, field string
		cfg         openai.Config
	}{
		{"Retry", "MaxAttempts", openai.Config{Retry: retry.Config{MaxAttempts: -1}}},
		{"Retry", "MaxAttempts", openai.Config{Retry: retry.Config{MaxAttempts: math.MinInt}}},
		{"Retry", "MaxRetryAfter", openai.Config{Retry: retry.Config{MaxRetryAfter: -1}}},
		{"Retry", "AttemptTimeout", openai.Config{Retry: retry.Config{AttemptTimeout: -1}}},
		{"Retry", "MaxReplayBytes", openai.Config{Retry: retry.Config{MaxReplayBytes: -1}}},
		{"Breaker", "FailureRatio", openai.Config{Breaker: breaker.Config{FailureRatio: 1.01}}},
		{"Breaker", "FailureRatio", openai.Config{Breaker: breaker.Config{FailureRatio: math.NaN()}}},
		{"Breaker", "FailureRatio", openai.Config{Breaker: breaker.Config{FailureRatio: math.Inf(1)}}},
		{"Breaker", "MinRequests", openai.Config{Breaker: breaker.Config{MinRequests: -1}}},
		{"Breaker", "MinRequests", openai.Config{Breaker: breaker.Config{MinRequests: 10_001}}},
		{"Breaker", "Window", openai.Config{Breaker: breaker.Config{Window: -1}}},
		{"Breaker", "Window", openai.Config{Breaker: breaker.Config{Window: day + 1}}},
		{"Breaker", "OpenDuration", openai.Config{Breaker: breaker.Config{OpenDuration: -1}}},
		{"Breaker", "OpenDuration", openai.Config{Breaker: breaker.Config{OpenDuration: day + 1}}},
		{"Breaker", "ProbeTimeout", openai.Config{Breaker: breaker.Config{ProbeTimeout: -1}}},
		{"Breaker", "ProbeTimeout", openai.Config{Breaker: breaker.Config{ProbeTimeout: day + 1}}},
		{"Breaker", "SuccessThreshold", openai.Config{Breaker: breaker.Config{SuccessThreshold: -1}}},
		{"Breaker", "MaxProbes", openai.Config{Breaker: breaker.Config{MaxProbes: -1}}},
		{"Breaker", "MaxProbes", openai.Config{Breaker: breaker.Config{MaxProbes: 1001}}},
		{"Breaker", "MaxKeys", openai.Config{Breaker: breaker.Config{MaxKeys: -1}}},
		{"Breaker", "MaxKeys", openai.Config{Breaker: breaker.Config{MaxKeys: 65_537}}},
		{"Breaker", "MaxKeys", openai.Config{DisableBreaker: true, Breaker: breaker.Config{MaxKeys: -1}}},
	} {
		t.Run(row.part+"."+row.field, func(t *testing.T) {
			t.Parallel()
			want := func(err error) {
				t.Helper()
				field := ""
				switch row.part {
				case "Retry":
					var bad *retry.ConfigError
					if errors.As(err, &bad) {
						field = bad.Field
					}
				case "Breaker":
					var bad *breaker.ConfigError
					if errors.As(err, &bad) {
						field = bad.Field
					}
				}
				if field != row.field || !strings.Contains(err.Error(), "Config."+row.part) || !strings.Contains(err.Error(), row.field) {
					t.Errorf("got %v, want an error that names %s.%s", err, row.part, row.field)
				}
			}
			want(row.cfg.Validate())
			base := answers(reply(200, `{"ok":true}`))
			tr := newChain(t, base, row.cfg)
			for _, path := range []string{"/v1/chat/completions", "/v1/files"} {
				body := &stub.Body{Reader: strings.NewReader(hello)}
				req := request(t, t.Context(), http.MethodPost, origin+path, "")
				req.Body = body
				want(do(t, tr, req).err)
				if body.Closed() != 1 {
					t.Errorf("the body was closed %d times", body.Closed())
				}
			}
			want(do(t, tr, request(t, t.Context(), http.MethodGet, origin, "")).err)
			if n := base.Calls(); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
			// None of these may panic.
			tr.CloseIdleConnections()
			if s := tr.Snapshot().Breakers; len(s) != 0 {
				t.Errorf("breakers %+v", s)
			}
		})
	}
}

func TestGoodConfigsAreValid(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]openai.Config{
		"the zero value": {},
		"retries off":    {Retry: retry.Config{MaxAttempts: 1}},
		"everything off": {
			Retry:          retry.Config{MaxAttempts: 1, MaxElapsed: -1, Budget: retry.Unlimited},
			DisableBreaker: true, Breaker: breaker.Config{FailureThreshold: -1, FailureRatio: -1},
		},
		"large values": {Retry: retry.Config{
			MaxAttempts: math.MaxInt, MaxRetryAfter: math.MaxInt64, MaxElapsed: math.MaxInt64, AttemptTimeout: math.MaxInt64, MaxReplayBytes: math.MaxInt64,
		}},
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tr := newChain(t, answers(reply(200, `{"ok":true}`)), cfg)
		if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil || got.status != 200 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTheConfigIsCopied(t *testing.T) {
	t.Parallel()
	cfg := openai.Config{Retry: retry.Config{MaxAttempts: 2, Backoff: at(0)}, Backend: "before"}
	base := answers(reply(503, "busy"))
	tr := newChain(t, base, cfg)
	cfg.Retry.MaxAttempts = -1
	if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 503 || base.Calls() != 2 {
		t.Errorf("got %+v after %d requests", got, base.Calls())
	}
	before := openai.Config{}
	newChain(t, base, before)
	if before.Retry.Safe != nil || before.Breaker.Key != nil {
		t.Error("the caller's Config was changed")
	}
}

func TestARequestWithoutAURLIsAnErrorThatClosesTheBody(t *testing.T) {
	t.Parallel()
	base := answers(reply(200, ""))
	body := &stub.Body{Reader: strings.NewReader("x")}
	req := (&http.Request{Method: http.MethodPost, Body: body}).WithContext(t.Context())
	if got := do(t, newChain(t, base, openai.Config{}), req); got.err == nil || body.Closed() != 1 || base.Calls() != 0 {
		t.Errorf("got %+v, body closed %d times, %d requests", got, body.Closed(), base.Calls())
	}
}

func TestABadFieldOfTheChainIsNamed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		field string
		cfg   openai.Config
	}{
		{"Delivery", openai.Config{Delivery: -1}},
		{"Delivery", openai.Config{Delivery: openai.Whole + 1}},
		{"SDKRetries", openai.Config{SDKRetries: -1}},
		{"SDKRetries", openai.Config{SDKRetries: openai.IgnoreSDKRetries + 1}},
		{"InBandErrors", openai.Config{InBandErrors: -1}},
		{"InBandErrors", openai.Config{InBandErrors: openai.PassThrough + 1}},
	} {
		base := answers(reply(200, `{"ok":true}`))
		got := do(t, newChain(t, base, row.cfg), ask(t, t.Context(), "m"))
		var bad *openai.ConfigError
		if !errors.As(got.err, &bad) || bad.Field != row.field || !strings.Contains(got.err.Error(), "Config."+row.field) {
			t.Errorf("%s: got %v", row.field, got.err)
		}
		if base.Calls() != 0 {
			t.Errorf("%s: something was sent", row.field)
		}
	}
}
