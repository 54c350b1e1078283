package openai_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

func TestWhatTheProviderSaysDecides(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answer   openaitest.Answer
		requests int // to chat; the second one is answered well
		reason   retry.Reason
		stopped  retry.Reason
	}{
		"insufficient_quota":         {openaitest.Error(429, "insufficient_quota", "insufficient_quota", "m"), 1, "", retry.StopServerSaysNo},
		"spend limit":                {openaitest.Error(429, "rate_limit_error", "org_spend_limit_exceeded", "m"), 1, "", retry.StopServerSaysNo},
		"quota beats x-should-retry": {openaitest.Error(429, "insufficient_quota", "", "m").With("X-Should-Retry", "true"), 1, "", retry.StopServerSaysNo},
		"x-should-retry: false":      {openaitest.Status(503).With("X-Should-Retry", "false"), 1, "", retry.StopServerSaysNo},
		"x-should-retry: true":       {openaitest.Status(409).With("X-Should-Retry", "true"), 2, retry.ReasonServerSaysYes, ""},
		"409":                        {openaitest.Status(409), 1, "", ""},
		"413":                        {openaitest.Status(413), 1, "", ""},
		"521":                        {openaitest.Status(521), 2, retry.ReasonConnection, ""},
		"529":                        {openaitest.Status(529), 2, retry.ReasonOverloaded, ""},
		"an exhausted limit's reset": {openaitest.Status(429).With("X-Ratelimit-Remaining-Requests", "0").With("X-Ratelimit-Reset-Requests", "20ms"), 2, retry.ReasonRateLimited, ""},
		"a reset says when a limit is full, which is no hint": {
			openaitest.Status(429).With("X-Ratelimit-Remaining-Tokens", "0").With("X-Ratelimit-Reset-Tokens", "6m0s"), 2, retry.ReasonRateLimited, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, openai.Config{})
			s.srv.Script(openaitest.Chat, row.answer)
			var report retry.Report
			resp := s.post(retry.WithReport(t.Context(), &report), "/chat/completions", asked)
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || len(body) == 0 || s.srv.Count(openaitest.Chat) != row.requests {
				t.Errorf("%d requests, body of %d bytes, error %v", s.srv.Count(openaitest.Chat), len(body), err)
			}
			if report.Stopped != row.stopped || row.requests == 2 && report.Reason != row.reason {
				t.Errorf("%+v", report)
			}
		})
	}
}

func TestStatefulCallsAreRepeatedOnlyWhereNothingIsStored(t *testing.T) {
	t.Parallel()
	const plain, stateless = `{"model":"m","input":"hi"}`, `{"model":"m","input":"hi","store":false}`
	for name, row := range map[string]struct {
		optIn    bool
		payload  string
		answer   openaitest.Answer
		requests int
	}{
		"without opting in":           {false, stateless, openaitest.Status(503), 1},
		"503":                         {true, plain, openaitest.Status(503), 1},
		"503 with a hint":             {true, plain, openaitest.Status(503).With("Retry-After-Ms", "1"), 2},
		"429":                         {true, plain, openaitest.Status(429).With("Retry-After-Ms", "1"), 2},
		"500":                         {true, plain, openaitest.Status(500), 1},
		"reset":                       {true, plain, openaitest.ResetBeforeHeaders(), 1},
		"store:false":                 {true, stateless, openaitest.Status(500), 2},
		"store:false, reset":          {true, stateless, openaitest.ResetBeforeHeaders(), 2},
		"store:false, a conversation": {true, `{"model":"m","store":false,"previous_response_id":"r"}`, openaitest.Status(500), 1},
		"store:false, in background":  {true, `{"model":"m","store":false,"background":true}`, openaitest.Status(500), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, openai.Config{RetryStateful: row.optIn})
			s.srv.Script(openaitest.Responses, row.answer)
			if resp, err := s.try(t.Context(), "/responses", row.payload); err == nil {
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if got := s.srv.Count(openaitest.Responses); got != row.requests {
				t.Errorf("%d requests, want %d", got, row.requests)
			}
		})
	}
}

func TestFinalFailuresTellAnSDKNotToRetry(t *testing.T) {
	t.Parallel()
	for mode, want := range map[openai.SDKRetries]string{openai.StopSDKRetries: "false", openai.IgnoreSDKRetries: ""} {
		s := newScene(t, openai.Config{SDKRetries: mode})
		s.srv.Always(openaitest.Chat, openaitest.Status(503))
		resp := s.post(t.Context(), "/chat/completions", asked)
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := resp.Header.Get("X-Should-Retry"); got != want || s.srv.Count(openaitest.Chat) != 4 {
			t.Errorf("%v: x-should-retry %q after %d requests", mode, got, s.srv.Count(openaitest.Chat))
		}
	}
}

func TestAnSDKsRepetitionGetsOneAttemptAndOneWarning(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newScene(t, openai.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.srv.Always(openaitest.Chat, openaitest.Status(500))
	for range 3 {
		req, err := retry.NewRequest(t.Context(), http.MethodPost, s.srv.URL+"/chat/completions", []byte(asked))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Stainless-Retry-Count", "1")
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if got := s.srv.Count(openaitest.Chat); got != 3 || strings.Count(log.String(), "sdk retries") != 1 {
		t.Errorf("%d requests; log:\n%s", got, log.String())
	}
}

func TestARateLimitIsWaitedOutByAllAndLeftBySpreadOutCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var requests int
		var second []time.Duration
		base := stub.Func(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			requests++
			if time.Since(start) < time.Second {
				return stub.Response(429, `{"error":{"code":"rate_limit_exceeded"}}`, "Retry-After", "1"), nil
			}
			second = append(second, time.Since(start))
			return stub.Response(200, `{"choices":[]}`), nil
		})
		chain := openai.NewTransport(base, openai.Config{})
		var failed atomic.Int32
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				resp, err := chain.RoundTrip(chatRequest(t.Context(), t))
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
					return
				}
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			})
		}
		wait.Wait()
		spread := second[len(second)-1] - second[0]
		if failed.Load() != 0 || requests > 150 || spread < 500*time.Millisecond {
			t.Errorf("%d failed, %d requests, the second wave within %v", failed.Load(), requests, spread)
		}
	})
}

// limited is a provider that serves 40 calls a second, in bursts of up to 40.
type limited struct {
	hints bool

	mu     sync.Mutex
	tokens float64
	at     time.Time
	served int
	asked  int
}

const (
	limitRate  = 40
	limitBurst = 40
)

func (l *limited) RoundTrip(*http.Request) (*http.Response, error) {
	l.mu.Lock()
	now := time.Now()
	l.asked++
	l.tokens = min(limitBurst, l.tokens+limitRate*now.Sub(l.at).Seconds())
	l.at = now
	if l.tokens >= 1 {
		l.tokens--
		l.served++
		l.mu.Unlock()
		time.Sleep(4 * time.Second)
		return stub.Response(200, `{"choices":[]}`), nil
	}
	missing := time.Duration((1 - l.tokens) / limitRate * float64(time.Second))
	l.mu.Unlock()
	if !l.hints {
		return stub.Response(429, `{}`), nil
	}
	return stub.Response(429, `{}`, "Retry-After-Ms", strconv.FormatInt(missing.Milliseconds()+1, 10)), nil
}

func TestARateLimitedBatchUsesWhatTheLimitAllows(t *testing.T) {
	t.Parallel()
	for hints, share := range map[bool]float64{true: 0.9, false: 0.8} {
		t.Run(fmt.Sprintf("hints %v", hints), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const length = 300 * time.Second
				provider := &limited{hints: hints, tokens: limitBurst, at: time.Now()}
				chain := openai.NewTransport(provider, openai.Config{})
				var done, failed atomic.Int32
				start := time.Now()
				var wait sync.WaitGroup
				for n := range 200 {
					wait.Go(func() {
						time.Sleep(time.Duration(n) * 20 * time.Millisecond)
						for time.Since(start) < length {
							resp, err := chain.RoundTrip(chatRequest(t.Context(), t))
							if err != nil || resp.StatusCode != 200 {
								failed.Add(1)
								continue
							}
							_, _ = io.ReadAll(resp.Body)
							_ = resp.Body.Close()
							if time.Since(start) < length {
								done.Add(1)
							}
						}
					})
				}
				wait.Wait()
				allowed := limitRate*length.Seconds() + limitBurst
				t.Logf("hints %v: %d of %.0f done (%.0f %%), %d failed, %d requests", hints, done.Load(), allowed, 100*float64(done.Load())/allowed, failed.Load(), provider.asked)
				if float64(done.Load()) < share*allowed || hints && failed.Load() > 0 {
					t.Errorf("%d of %.0f calls were done, %d failed", done.Load(), allowed, failed.Load())
				}
			})
		})
	}
}
