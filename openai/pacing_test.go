package openai_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// asking returns a chat request with these headers.
func asking(t *testing.T, ctx context.Context, url string, header ...string) *http.Request { //nolint:revive // t goes first in tests
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// limitedFor answers with a 429 until a time has passed, then well.
func limitedFor(d time.Duration, header ...string) *stub.Base {
	start := time.Now()
	return answers(func(*http.Request) (*http.Response, error) {
		if time.Since(start) < d {
			return stub.Response(429, `{"error":{"code":"rate_limit_exceeded"}}`, header...), nil
		}
		return stub.Response(200, `{"choices":[]}`), nil
	})
}

func TestALoneCallerWaitsTheHintAndATenthMoreAtMost(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			tr := newChain(t, answers(reply(429, "slow", "Retry-After-Ms", "700"), reply(200, `{"choices":[]}`)), openai.Config{})
			start := time.Now()
			var report retry.Report
			got := do(t, tr, ask(t, retry.WithReport(t.Context(), &report), "m"))
			took := time.Since(start)
			if got.status != 200 || took < 700*time.Millisecond || took > 800*time.Millisecond {
				t.Errorf("got %+v after %v", got, took)
			}
			if report.Attempts != 2 || report.Waited < 700*time.Millisecond || report.Waited > took {
				t.Errorf("report %+v", report)
			}
		})
	}
}

// The cost of a call is estimated by the tokens that its answer may have.
func TestTheTokensOfAnAnswerAreThoseThatThePayloadAllows(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]int64{
		`{"model":"m"}`:                                              0,
		`{"model":"m","max_tokens":1000}`:                            1000,
		`{"model":"m","max_completion_tokens":1000}`:                 1000,
		`{"model":"m","max_output_tokens":1000}`:                     1000,
		`{"model":"m","max_completion_tokens":1000,"max_tokens":10}`: 1000, // whichever counts
		`{"model":"m","metadata":{"max_tokens":1000}}`:               0,
		`{"model":"m","max_tokens":null}`:                            0,
		`{"model":"m","max_tokens":-1000}`:                           0,
		`{"model":"m","max_tokens":1000000000}`:                      1 << 24,
		`{"model":"m","max_tokens":9223372036854775807}`:             0, // no count of anything
	} {
		got := int64(-1)
		tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
			got = call.From(req.Context()).MaxTokens
			return stub.Response(200, `{"choices":[]}`), nil
		}), openai.Config{})
		if do(t, tr, request(t, t.Context(), http.MethodPost, chatURL, payload)); got != want {
			t.Errorf("%s: %d, want %d", payload, got, want)
		}
	}
}

func TestCallsWaitForTheLongestHintThatIsObeyed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := limitedFor(time.Minute, "Retry-After", "60")
		tr := newChain(t, base, openai.Config{})
		do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
		time.Sleep(time.Second)
		var mu sync.Mutex
		answered := 0
		var wait sync.WaitGroup
		for range 200 {
			wait.Go(func() {
				if got := do(t, tr, ask(t, t.Context(), "m")); got.err == nil && got.status == 200 {
					mu.Lock()
					answered++
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		if answered != 200 || base.Calls() > 202 {
			t.Errorf("%d answered, after %d requests", answered, base.Calls())
		}
	})
}

func TestARateLimitIsThatOfOneAccount(t *testing.T) {
	t.Parallel()
	const sigv4 = "AWS4-HMAC-SHA256 Credential=%s/20260102/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=%s"
	for name, row := range map[string]struct {
		first, second *http.Request
		same          bool
	}{
		"a customer's key":   {asking(t, t.Context(), chatURL, "Authorization", "Bearer a"), asking(t, t.Context(), chatURL, "Authorization", "Bearer b"), false},
		"the same key":       {asking(t, t.Context(), chatURL, "Authorization", "Bearer a"), asking(t, t.Context(), chatURL, "Authorization", "Bearer a"), true},
		"Azure's key":        {asking(t, t.Context(), chatURL, "Api-Key", "a"), asking(t, t.Context(), chatURL, "Api-Key", "b"), false},
		"Anthropic's key":    {asking(t, t.Context(), chatURL, "X-Api-Key", "a"), asking(t, t.Context(), chatURL, "X-Api-Key", "b"), false},
		"Google's key":       {asking(t, t.Context(), chatURL, "X-Goog-Api-Key", "a"), asking(t, t.Context(), chatURL, "X-Goog-Api-Key", "b"), false},
		"a subscription":     {asking(t, t.Context(), chatURL, "Ocp-Apim-Subscription-Key", "a"), asking(t, t.Context(), chatURL, "Ocp-Apim-Subscription-Key", "b"), false},
		"an organization":    {asking(t, t.Context(), chatURL, "OpenAI-Organization", "a"), asking(t, t.Context(), chatURL, "OpenAI-Organization", "b"), false},
		"a project":          {asking(t, t.Context(), chatURL, "OpenAI-Project", "a"), asking(t, t.Context(), chatURL, "OpenAI-Project", "b"), false},
		"a key in the query": {asking(t, t.Context(), chatURL+"?v=1&key=a"), asking(t, t.Context(), chatURL+"?v=1&key=b"), false},
		"another query":      {asking(t, t.Context(), chatURL+"?v=1&key=a"), asking(t, t.Context(), chatURL+"?v=2&key=a"), true},
		"Azure's in a query": {asking(t, t.Context(), chatURL+"?api-key=a"), asking(t, t.Context(), chatURL+"?api-key=b"), false},
		"one in a query":     {asking(t, t.Context(), chatURL+"?subscription-key=a"), asking(t, t.Context(), chatURL+"?subscription-key=b"), false},
		"one in two headers": {asking(t, t.Context(), chatURL, "Api-Key", "a"), asking(t, t.Context(), chatURL, "X-Api-Key", "a"), false},
		"an access key": {
			asking(t, t.Context(), chatURL, "Authorization", fmt.Sprintf(sigv4, "AKIA1", "1")),
			asking(t, t.Context(), chatURL, "Authorization", fmt.Sprintf(sigv4, "AKIA2", "1")), false,
		},
		"another signature": {
			asking(t, t.Context(), chatURL, "Authorization", fmt.Sprintf(sigv4, "AKIA1", "1")),
			asking(t, t.Context(), chatURL, "Authorization", fmt.Sprintf(sigv4, "AKIA1", "2")), true,
		},
		"the host's case": {asking(t, t.Context(), chatURL), asking(t, t.Context(), "https://API.example.com/v1/chat/completions"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newChain(t, answers(reply(429, "slow", "Retry-After", "30"), reply(200, `{"choices":[]}`)), openai.Config{})
				once := retry.WithMaxAttempts(t.Context(), 1)
				do(t, tr, row.first.Clone(once))
				start := time.Now()
				got := do(t, tr, row.second.Clone(once))
				if waited := time.Since(start) > 0; got.status != 200 || waited != row.same {
					t.Errorf("%+v, waited %v", got, time.Since(start))
				}
			})
		})
	}
}

func TestAHintTooLongIsALimitErrorAtOnceAndShowsNoCredential(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := limitedFor(2*time.Hour, "Retry-After", "7200")
		tr := newChain(t, base, openai.Config{})
		ask := func() (*http.Response, error) {
			return tr.RoundTrip(asking(t, t.Context(), chatURL, "Authorization", "Bearer planted"))
		}
		start := time.Now()
		resp, err := ask()
		if err != nil || resp.StatusCode != 429 || time.Since(start) != 0 {
			t.Fatalf("%v, %v after %v", resp, err, time.Since(start))
		}
		_, err = ask()
		var limit *openai.LimitError
		if !errors.As(err, &limit) || limit.RetryAfter != 2*time.Hour || time.Since(start) != 0 {
			t.Fatalf("error %v after %v", err, time.Since(start))
		}
		if strings.Contains(fmt.Sprintf("%+v %v", limit, tr.Snapshot()), "planted") || limit.Key != "https://api.example.com m" {
			t.Errorf("it shows %+v", limit)
		}
		for range 60 {
			time.Sleep(time.Second)
			if resp, err := ask(); err == nil {
				_ = resp.Body.Close()
			}
		}
		if n := base.Calls(); n > 4 {
			t.Errorf("%d requests in a minute, want a trial every 30 s", n)
		}
	})
}

func TestAnAnswerToATrialEndsAPauseOfHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newChain(t, limitedFor(10*time.Second, "Retry-After", "7200"), openai.Config{})
		do(t, tr, ask(t, t.Context(), "m"))
		time.Sleep(31 * time.Second)
		for i := range 2 {
			if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil || got.status != 200 {
				t.Errorf("call %d: %+v", i, got)
			}
		}
	})
}

func TestARetryThatWouldWaitTooLongReturnsThe429(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(429, "the first", "Retry-After", "5"), reply(429, "another's", "Retry-After", "3600"), reply(200, `{"choices":[]}`))
		tr := newChain(t, base, openai.Config{})
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil && !isLimit(got.err) || got.err == nil && got.status != 429 {
					t.Errorf("%+v", got)
				}
			})
			synctest.Wait()
		}
		wait.Wait()
		if n := base.Calls(); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

func isLimit(err error) bool {
	var limit *openai.LimitError
	return errors.As(err, &limit)
}

func TestTheDeadlineBoundsTheWaitForARateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newChain(t, limitedFor(20*time.Second, "Retry-After", "20"), openai.Config{})
		do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if got := do(t, tr, ask(t, ctx, "m")); !isLimit(got.err) || time.Since(start) != 0 {
			t.Errorf("%+v after %v", got, time.Since(start))
		}
	})
}

func TestWhoLeavesAWaitEndsWithTheCauseOfHisContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("planned")
		for name, first := range map[string]bool{"a first attempt": true, "a retry": false} {
			tr := newChain(t, limitedFor(20*time.Second, "Retry-After", "20"), openai.Config{})
			if first {
				do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(3*time.Second, func() { cancel(cause) })
			start := time.Now()
			var report retry.Report
			got := do(t, tr, ask(t, retry.WithReport(ctx, &report), "m"))
			if !errors.Is(got.err, cause) || !errors.Is(got.err, context.Canceled) || time.Since(start) != 3*time.Second {
				t.Errorf("%s: %+v after %v", name, got, time.Since(start))
			}
			if want := 1; first && report.Attempts != 0 || !first && report.Attempts != want || report.Waited != 3*time.Second {
				t.Errorf("%s: %+v", name, report)
			}
		}
	})
}

func TestWhoWaitsForARateLimitUsesUpNoAttemptTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(429, "slow", "Retry-After", "20"), func(*http.Request) (*http.Response, error) {
			time.Sleep(4 * time.Second)
			return stub.Response(200, `{"choices":[]}`), nil
		}, func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		})
		tr := newChain(t, base, openai.Config{Retry: retry.Config{AttemptTimeout: 5 * time.Second}})
		if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil || got.status != 200 {
			t.Errorf("%+v", got)
		}
		start := time.Now()
		if got := do(t, tr, ask(t, t.Context(), "m")); got.err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("the limit is lost: %+v after %v", got, time.Since(start))
		}
	})
}

func TestWhoseBreakerIsOpenDoesNotQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newChain(t, answers(reply(429, "slow", "Retry-After", "20")), openai.Config{})
		do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
		for _, s := range tr.Snapshot().Breakers {
			tr.Breaker(s.Key).Trip()
		}
		start := time.Now()
		got := do(t, tr, ask(t, t.Context(), "m"))
		if !errors.Is(got.err, breaker.ErrOpen) || time.Since(start) != 0 {
			t.Errorf("%+v after %v", got, time.Since(start))
		}
	})
}

// A half-open breaker may let a call through, so that calls ask the rate limit first. Those
// that it refuses then have used up nothing of it.
func TestWhatTheBreakerRefusesUsesUpNoRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(429, "slow", "Retry-After", "1"), reply(200, `{"choices":[]}`), func(*http.Request) (*http.Response, error) {
			time.Sleep(20 * time.Second)
			return stub.Response(200, `{"choices":[]}`), nil
		})
		tr := newChain(t, base, openai.Config{})
		do(t, tr, ask(t, t.Context(), "m"))
		for _, s := range tr.Snapshot().Breakers {
			tr.Breaker(s.Key).Trip()
		}
		time.Sleep(30 * time.Second)
		var wait sync.WaitGroup
		wait.Go(func() { do(t, tr, ask(t, t.Context(), "m")) }) // the probe, beside which no call is alone
		time.Sleep(10 * time.Second)
		start := time.Now()
		for range 20 {
			if got := do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m")); !errors.Is(got.err, breaker.ErrOpen) {
				t.Fatalf("%+v, want it refused", got)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("20 calls that were refused waited %v for each other", waited)
		}
		wait.Wait()
	})
}

func TestARateLimitInsideA2xxPaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(200, `{"error":{"code":"rate_limit_exceeded"}}`), reply(200, `{"choices":[]}`))
		tr := newChain(t, base, openai.Config{})
		start := time.Now()
		got := do(t, tr, ask(t, t.Context(), "m"))
		took := time.Since(start)
		if got.err != nil || base.Calls() != 2 || took < 250*time.Millisecond || took > 275*time.Millisecond || len(tr.Snapshot().Pacing) != 1 {
			t.Errorf("%+v after %v and %d requests, pacing %+v", got, took, base.Calls(), tr.Snapshot().Pacing)
		}
	})
}

func TestAUsedUpQuotaPacesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newChain(t, answers(reply(429, `{"error":{"code":"insufficient_quota"}}`, "Retry-After", "30"), reply(200, `{"choices":[]}`)), openai.Config{})
		do(t, tr, ask(t, t.Context(), "m"))
		start := time.Now()
		if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 200 || time.Since(start) != 0 {
			t.Errorf("%+v after %v", got, time.Since(start))
		}
	})
}

func TestHeadersBeforeA429(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		header []string
		waits  time.Duration
	}{
		"a window that is used up":            {[]string{"RateLimit-Remaining", "0", "RateLimit-Reset", "7"}, 7 * time.Second},
		"one that is not":                     {[]string{"RateLimit-Remaining", "1", "RateLimit-Reset", "7"}, 0},
		"one without an end":                  {[]string{"RateLimit-Remaining", "0"}, 0},
		"one that ends after hours":           {[]string{"RateLimit-Remaining", "0", "RateLimit-Reset", "7200"}, 30 * time.Second}, // then a trial goes
		"a bucket that is empty, not full":    {[]string{"X-RateLimit-Remaining-Requests", "0", "X-RateLimit-Reset-Requests", "6m0s"}, 0},
		"Azure's, which mean nothing":         {[]string{"X-RateLimit-Remaining-Tokens", "-1", "X-RateLimit-Limit-Tokens", "0"}, 0},
		"a Retry-After beside an answer is 0": {[]string{"Retry-After", "30"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newChain(t, answers(reply(200, `{"choices":[]}`, row.header...)), openai.Config{})
				do(t, tr, ask(t, t.Context(), "m"))
				start := time.Now()
				do(t, tr, ask(t, t.Context(), "m"))
				if took := time.Since(start); took < row.waits || took > row.waits*11/10 {
					t.Errorf("waited %v, want %v", took, row.waits)
				}
			})
		})
	}
}

func TestTheHintsOfA429(t *testing.T) {
	t.Parallel()
	const backoff = 250 * time.Millisecond
	for name, row := range map[string]struct {
		header func(now time.Time) []string
		waits  time.Duration
	}{
		"none": {func(time.Time) []string { return nil }, backoff},
		"a date, by a clock that is an hour slow": {func(now time.Time) []string {
			now = now.Add(-time.Hour)
			return []string{"Date", now.Format(http.TimeFormat), "Retry-After", now.Add(9 * time.Second).Format(http.TimeFormat)}
		}, 9 * time.Second},
		"a date without a Date": {func(now time.Time) []string {
			return []string{"Retry-After", now.Add(9 * time.Second).Format(http.TimeFormat)}
		}, 9 * time.Second},
		"a window": {func(time.Time) []string { return []string{"RateLimit-Remaining", "0", "RateLimit-Reset", "9"} }, 9 * time.Second},
		"full again soon": {func(time.Time) []string {
			return []string{"X-RateLimit-Remaining-Requests", "0", "X-RateLimit-Reset-Requests", "100ms"}
		}, 100 * time.Millisecond},
		"full again in an hour": {func(time.Time) []string {
			return []string{"X-RateLimit-Remaining-Requests", "0", "X-RateLimit-Reset-Requests", "1h0m0s"}
		}, backoff},
		"Anthropic's time of day": {func(now time.Time) []string {
			return []string{"Anthropic-RateLimit-Requests-Remaining", "0", "Anthropic-RateLimit-Requests-Reset", now.Add(100 * time.Millisecond).Format(time.RFC3339Nano)}
		}, 100 * time.Millisecond},
		"a gateway's milliseconds since 1970": {func(now time.Time) []string {
			return []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", strconv.FormatInt(now.Add(100*time.Millisecond).UnixMilli(), 10)}
		}, 100 * time.Millisecond},
		"a gateway's seconds since 1970, past": {func(now time.Time) []string {
			return []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", strconv.FormatInt(now.Add(-time.Hour).Unix(), 10)}
		}, backoff},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(20 * 365 * 24 * time.Hour) // virtual time begins before seconds since 1970 look like any
				start := time.Now()
				tr := newChain(t, answers(reply(429, "slow", row.header(start)...), reply(200, `{"choices":[]}`)), openai.Config{})
				got := do(t, tr, ask(t, t.Context(), "m"))
				// No wait is shorter than a millisecond, so that its last part may take that.
				if took := time.Since(start); got.status != 200 || took < row.waits || took > row.waits*11/10+time.Millisecond {
					t.Errorf("%+v: waited %v, want %v", got, took, row.waits)
				}
			})
		})
	}
}

func TestWithoutPacingEachCallWaitsForItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(429, "slow", "Retry-After", "8"), reply(200, `{"choices":[]}`))
		tr := newChain(t, base, openai.Config{Pacing: openai.Off})
		start := time.Now()
		var wait sync.WaitGroup
		wait.Go(func() { do(t, tr, ask(t, t.Context(), "m")) })
		synctest.Wait()
		if do(t, tr, ask(t, t.Context(), "m")); time.Since(start) != 0 {
			t.Errorf("another call waited %v", time.Since(start))
		}
		if wait.Wait(); time.Since(start) < 8*time.Second || len(tr.Snapshot().Pacing) != 0 {
			t.Errorf("the call itself waited %v", time.Since(start))
		}
	})
}

func TestAccountsAreBoundedAndTheIdleGoFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n int
		tr := newChain(t, stub.Func(func(*http.Request) (*http.Response, error) {
			if n++; n == 1 {
				return stub.Response(429, "slow", "Retry-After", "30"), nil
			}
			return stub.Response(200, `{"choices":[]}`), nil
		}), openai.Config{Breaker: breaker.Config{MaxKeys: 8}})
		once := retry.WithMaxAttempts(t.Context(), 1)
		do(t, tr, asking(t, once, chatURL, "Authorization", "limited"))
		for i := range 1000 {
			do(t, tr, asking(t, once, chatURL, "Authorization", strconv.Itoa(i)))
		}
		start := time.Now()
		if do(t, tr, asking(t, once, chatURL, "Authorization", "limited")); time.Since(start) < 29*time.Second {
			t.Errorf("the account with a limit was forgotten: waited %v", time.Since(start))
		}
	})
}

func TestAnAccountThatIsForgottenKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(200, `{"choices":[]}`), reply(429, "slow", "Retry-After", "30"), reply(200, `{"choices":[]}`))
		tr := newChain(t, base, openai.Config{Breaker: breaker.Config{MaxKeys: 1}})
		once := retry.WithMaxAttempts(t.Context(), 1)
		start := time.Now()
		for _, key := range []string{"limited", "limited", "another", "limited"} {
			do(t, tr, asking(t, once, chatURL, "Authorization", key))
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v for an account that there was no room for", waited)
		}
	})
}

// A call that came back is not under way, so that the next one is alone and waits for no
// rate. The same holds for one whose base has panicked.
func TestCallsOneAfterTheOtherWaitForNoRate(t *testing.T) {
	t.Parallel()
	well := reply(200, `{"choices":[]}`)
	for name, second := range map[string]stub.Func{
		"all come back":   well,
		"the base panics": func(*http.Request) (*http.Response, error) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newChain(t, answers(reply(429, "slow", "Retry-After", "1"), well, second, well), openai.Config{})
				do(t, tr, ask(t, t.Context(), "m"))
				func() {
					defer func() { _ = recover() }()
					do(t, tr, ask(t, t.Context(), "m"))
				}()
				start := time.Now()
				for range 50 {
					do(t, tr, ask(t, t.Context(), "m"))
				}
				if waited := time.Since(start); waited != 0 {
					t.Errorf("50 calls that were alone waited %v", waited)
				}
			})
		})
	}
}

func TestALimitThatNobodyHasFeltForAMinuteIsNotShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newChain(t, answers(reply(429, "slow", "Retry-After", "1"), reply(200, `{"choices":[]}`)), openai.Config{})
		do(t, tr, ask(t, t.Context(), "m"))
		for after, want := range []int{1, 0} {
			if got := tr.Snapshot().Pacing; len(got) != want {
				t.Errorf("after %d minutes: %+v", 2*after, got)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

func TestGaugesOfTransportsOnOneMeterProviderAddUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		waiting := func() float64 {
			return collect(t, reader).sum("retrip.pacing.waiting")
		}
		var wait sync.WaitGroup
		var all []*openai.Transport
		for range 2 {
			tr := newChain(t, limitedFor(10*time.Second, "Retry-After", "10"), openai.Config{MeterProvider: provider})
			all = append(all, tr)
			do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
			for range 3 {
				wait.Go(func() { do(t, tr, ask(t, t.Context(), "m")) })
			}
		}
		synctest.Wait()
		if got := waiting(); got != 6 {
			t.Errorf("%v wait, want 6", got)
		}
		if got := collect(t, reader).sum("retrip.pacing.rate"); got != 2 {
			t.Errorf("a rate of %v, want twice 1", got)
		}
		if err := all[0].Close(); err != nil {
			t.Error(err)
		}
		if got := waiting(); got != 3 {
			t.Errorf("%v wait at the one that is left, want 3", got)
		}
		wait.Wait()
	})
}

func TestPacingCostsNoAllocationBeforeTheFirst429(t *testing.T) {
	base := newReplies()
	body := benchPayload(1 << 10)
	count := func(cfg openai.Config) float64 {
		chain := benchChain(t, base, cfg)
		return testing.AllocsPerRun(200, func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, benchURL, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := chain.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		})
	}
	if with, without := count(openai.Config{}), count(openai.Config{Pacing: openai.Off}); with > without {
		t.Errorf("%v allocations a call, without pacing %v", with, without)
	}
}

// BenchmarkPacing measures a call of the chain with pacing and without, in
// turns, before any 429.
func BenchmarkPacing(b *testing.B) {
	for _, row := range []struct {
		name string
		cfg  openai.Config
	}{{"off", openai.Config{Pacing: openai.Off}}, {"on", openai.Config{}}} {
		b.Run(row.name, func(b *testing.B) {
			base, body, buffer := newReplies(), benchPayload(1<<10), make([]byte, 4<<10)
			chain := benchChain(b, base, row.cfg)
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, benchURL, bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				req.Header["Authorization"] = []string{"Bearer sk-proj-0123456789012345678901234567890123456789"}
				req.Header["Content-Type"] = []string{"application/json"}
				readWhole(b, chain, req, buffer)
			}
		})
	}
}

// A shedder answers 503 at once, as a proxy does that has too much to do. Its zero
// value sheds nothing.
type shedder struct {
	sheds func(now time.Time) bool // is called under a lock
	takes time.Duration            // an answer

	mu   sync.Mutex
	sent int
	shed int
}

func (s *shedder) RoundTrip(*http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.sent++
	shed := s.sheds(time.Now())
	if shed {
		s.shed++
	}
	s.mu.Unlock()
	if shed {
		time.Sleep(time.Millisecond)
		return stub.Response(503, "<html>", "Content-Type", "text/html"), nil
	}
	time.Sleep(s.takes)
	return stub.Response(200, `{"choices":[]}`), nil
}

// leaking returns what nginx's limit_req sheds at a rate.
func leaking(rate, burst float64) func(time.Time) bool {
	var excess float64
	at := time.Time{}
	return func(now time.Time) bool {
		more := max(excess-rate*now.Sub(at).Seconds()+1, 0)
		if more > burst {
			return true
		}
		excess, at = more, now
		return false
	}
}

// callsOf lets callers make calls one after the other, and returns how many failed.
func callsOf(t *testing.T, tr http.RoundTripper, callers, calls int) int {
	t.Helper()
	var failed atomic.Int64
	var wait sync.WaitGroup
	ctx := call.WithRandom(t.Context(), newChance(1).next)
	for range callers {
		wait.Go(func() {
			for range calls {
				if got := do(t, tr, ask(t, ctx, "m")); got.err != nil || got.status != 200 {
					failed.Add(1)
				}
			}
		})
	}
	wait.Wait()
	return int(failed.Load())
}

func TestAProxyThatShedsWhatIsTooMuchIsALimit(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		burst          float64
		callers, calls int
		mayFail        int
	}{
		"30 at a time":             {0, 30, 5, 0},
		"30 at a time, for long":   {0, 30, 100, 0},
		"150, which ends a budget": {10, 150, 1, 45}, // of 139 that are shed at once 100 are retried
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := &shedder{sheds: leaking(40, row.burst), takes: 20 * time.Millisecond}
				tr := newChain(t, base, openai.Config{Breaker: breaker.Config{OnStateChange: func(c breaker.StateChange) {
					t.Errorf("%v: %s", c.To, c.Reason)
				}}})
				failed := callsOf(t, tr, row.callers, row.calls)
				if failed > row.mayFail || base.shed > 2*row.callers*row.calls {
					t.Errorf("%d calls failed, %d requests were shed", failed, base.shed)
				}
			})
		})
	}
}

func TestWhoShedsAtRandomOrEverythingIsNotPaced(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		sheds func(r *rand.Rand) bool
		opens bool
	}{
		"a third":    {func(r *rand.Rand) bool { return r.Float64() < 0.3 }, false},
		"everything": {func(*rand.Rand) bool { return true }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 1))
				base := &shedder{sheds: func(time.Time) bool { return row.sheds(random) }, takes: 20 * time.Millisecond}
				var opened atomic.Bool
				tr := newChain(t, base, openai.Config{Breaker: breaker.Config{OnStateChange: func(breaker.StateChange) { opened.Store(true) }}})
				callsOf(t, tr, 32, 10)
				if paced := tr.Snapshot().Pacing; len(paced) != 0 || opened.Load() != row.opens {
					t.Errorf("opened: %v; paced: %+v", opened.Load(), paced)
				}
			})
		})
	}
}

// Who names a time has told each call how long to wait, and is no limiter of a rate.
func TestWhoShedsWithAHintIsNotPaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := &shedder{sheds: leaking(40, 0), takes: 20 * time.Millisecond}
		tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
			resp, err := limiter.RoundTrip(req)
			if err == nil && resp.StatusCode == 503 {
				resp.Header.Set("Retry-After", "1")
			}
			return resp, err
		}), openai.Config{DisableBreaker: true})
		callsOf(t, tr, 30, 5)
		if paced := tr.Snapshot().Pacing; limiter.shed < 30 || len(paced) != 0 {
			t.Errorf("of %d that were shed: %+v", limiter.shed, paced)
		}
	})
}

func TestWhoBeginsToShedEverythingIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const well = 10 * time.Second
		start, leak := time.Now(), leaking(40, 0)
		base := &shedder{takes: 20 * time.Millisecond, sheds: func(now time.Time) bool {
			return now.Sub(start) > well || leak(now)
		}}
		var opened time.Duration
		tr := newChain(t, base, openai.Config{Breaker: breaker.Config{OnStateChange: func(breaker.StateChange) {
			opened = time.Since(start)
		}}})
		for range 3 {
			callsOf(t, tr, 30, 5)
		}
		if opened < well || opened > 2*well {
			t.Errorf("opened after %v", opened)
		}
	})
}
