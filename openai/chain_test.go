package openai_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

const (
	origin  = "https://api.example.com"
	chatURL = origin + "/v1/chat/completions"
	hello   = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
)

var (
	answers = stub.Answers
	reply   = stub.Reply
	lost    = stub.Error
)

// replyWith is reply with a body that is made for each response.
func replyWith(code int, body func() io.Reader, length int64, header ...string) stub.Func {
	return func(*http.Request) (*http.Response, error) {
		resp := stub.Response(code, "", header...)
		resp.Body, resp.ContentLength = io.NopCloser(body()), length
		return resp, nil
	}
}

// neverOpen leaves the breaker out of a test that is about something else.
var neverOpen = breaker.Config{FailureThreshold: -1, FailureRatio: -1}

// newChain returns a Transport that is closed with the test.
func newChain(t testing.TB, base http.RoundTripper, cfg openai.Config) *openai.Transport {
	tr := openai.NewTransport(base, cfg)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		tr.CloseIdleConnections()
	})
	return tr
}

// overNetwork returns a Transport whose connections nobody else uses.
func overNetwork(t testing.TB, cfg openai.Config) *openai.Transport {
	return newChain(t, openai.BaseTransport(), cfg)
}

func newServer(t testing.TB) *openaitest.Server {
	srv := openaitest.NewServer()
	t.Cleanup(srv.Close)
	return srv
}

// at waits d before every attempt.
func at(d time.Duration) func() backoff.BackOff {
	return func() backoff.BackOff { return backoff.NewConstantBackOff(d) }
}

func request(t testing.TB, ctx context.Context, method, url, body string) *http.Request { //nolint:revive // t goes first in tests
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func ask(t testing.TB, ctx context.Context, model string) *http.Request { //nolint:revive // t goes first in tests
	t.Helper()
	return request(t, ctx, http.MethodPost, chatURL, `{"messages":[],"model":"`+model+`"}`)
}

// apart is the time between two failures that both count in a row: what fails
// together is one failure.
const apart = 250 * time.Millisecond

// A result is what a caller gets.
type result struct {
	status int
	body   string
	err    error // of RoundTrip, or of the body
}

// do makes a call and reads its answer to the end.
func do(t testing.TB, tr http.RoundTripper, req *http.Request) result {
	t.Helper()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if resp != nil {
			t.Error("a response beside an error")
		}
		return result{err: err}
	}
	body, err := io.ReadAll(resp.Body)
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return result{resp.StatusCode, string(body), err}
}

func wantOpen(t testing.TB, err error) {
	t.Helper()
	var open *breaker.OpenError
	if !errors.Is(err, breaker.ErrOpen) || !errors.As(err, &open) {
		t.Errorf("error %v, want that of an open breaker", err)
	}
}

func TestEachAttemptPassesTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(503, "busy"), lost(io.EOF), reply(200, `{"ok":true}`))
		tr := newChain(t, base, openai.Config{})
		if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil || got.status != 200 || base.Calls() != 3 {
			t.Fatalf("got %+v after %d requests", got, base.Calls())
		}
		all := tr.Snapshot().Breakers
		if len(all) != 1 || all[0].Totals.Failure != 2 || all[0].Totals.Success != 1 {
			t.Errorf("the breaker saw %+v, want two failures and a success", all)
		}
	})
}

func TestABreakersRejectionIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		base := answers(reply(503, "busy"))
		tr := newChain(t, base, openai.Config{Breaker: breaker.Config{FailureThreshold: 1}, MeterProvider: provider})
		do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))

		var report retry.Report
		got := do(t, tr, ask(t, retry.WithReport(t.Context(), &report), "m"))
		wantOpen(t, got.err)
		if base.Calls() != 1 || report.Attempts != 0 {
			t.Errorf("%d requests sent, %d reported; want one, and none of the rejected call", base.Calls(), report.Attempts)
		}
		data := collect(t, reader)
		if n := data.count("retrip.client.attempt.duration"); n != 1 {
			t.Errorf("%d attempts recorded, want 1", n)
		}
		if n := data.count(inferenceDuration, "error.type", "circuit_open"); n != 1 {
			t.Errorf("%d rejected operations recorded, want 1", n)
		}
		if n := data.count("retrip.retry.attempts"); n != 1 {
			t.Errorf("%d calls with attempts recorded, want 1", n)
		}
		if n := data.sum("retrip.breaker.calls", "retrip.breaker.outcome", "rejected"); n != 1 {
			t.Errorf("%v rejections recorded, want 1", n)
		}
	})
}

func TestAnOpenBreakerIsNotRetriedAgainst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		retries := 0
		tr := newChain(t, answers(reply(503, "busy")), openai.Config{
			Breaker: breaker.Config{FailureThreshold: 1},
			Retry:   retry.Config{OnRetry: func(retry.Event) { retries++ }},
		})
		do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
		start := time.Now()
		for range 10 {
			body := &stub.Body{Reader: strings.NewReader(hello)}
			req := request(t, t.Context(), http.MethodPost, chatURL, "")
			req.Body = body
			wantOpen(t, do(t, tr, request(t, t.Context(), http.MethodPost, chatURL, hello)).err)
			wantOpen(t, do(t, tr, req).err)
			if body.Closed() != 1 {
				t.Errorf("the body was closed %d times", body.Closed())
			}
		}
		if retries != 0 || time.Since(start) != 0 {
			t.Errorf("%d retries in %v, want none at once", retries, time.Since(start))
		}
		if got := tr.Snapshot().Breakers[0].Totals.Rejected; got != 20 {
			t.Errorf("%d rejections for 20 calls", got)
		}
	})
}

func TestThe503IsReturnedIfTheBreakerOpensDuringTheWait(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("all of it ", 1000)
	check := func(t *testing.T, got result, report retry.Report) {
		t.Helper()
		if got.err != nil || got.status != 503 || got.body != long {
			t.Errorf("got %d with %d bytes, %v; want the 503 with %d", got.status, len(got.body), got.err, len(long))
		}
		if report.Attempts != 1 || report.Stopped != retry.StopRejected {
			t.Errorf("report %+v", report)
		}
	}
	t.Run("by the failures of others", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			base := answers(reply(503, long), reply(500, "others"))
			tr := newChain(t, base, openai.Config{Retry: retry.Config{Backoff: at(4 * time.Second)}})
			var report retry.Report
			var got result
			var wg sync.WaitGroup
			wg.Go(func() { got = do(t, tr, ask(t, retry.WithReport(t.Context(), &report), "m")) })
			time.Sleep(time.Second)
			for range breaker.DefaultFailureThreshold {
				do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
				time.Sleep(apart)
			}
			if s := tr.Snapshot().Breakers[0]; s.State != breaker.Open {
				t.Fatalf("the breaker is %v", s.State)
			}
			sent := base.Calls()
			wg.Wait()
			check(t, got, report)
			if base.Calls() != sent {
				t.Error("it was sent again")
			}
		})
	})
	t.Run("by its own failure", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			base := answers(reply(503, long))
			tr := newChain(t, base, openai.Config{Breaker: breaker.Config{FailureThreshold: 1}})
			var report retry.Report
			check(t, do(t, tr, ask(t, retry.WithReport(t.Context(), &report), "m")), report)
			if base.Calls() != 1 {
				t.Errorf("%d requests", base.Calls())
			}
		})
	})
}

func TestARateLimitIsWaitedOutByEveryCallOfItsKey(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/chat/completions", "/v1/responses"} { // nothing was sent: it need not be repeatable
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(reply(429, "slow down", "Retry-After", "4"), reply(200, `{"ok":true}`))
				tr := newChain(t, base, openai.Config{})
				do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
				start := time.Now()
				var report retry.Report
				got := do(t, tr, request(t, retry.WithReport(t.Context(), &report), http.MethodPost, origin+path, hello))
				took := time.Since(start)
				if got.err != nil || got.status != 200 || base.Calls() != 2 || report.Attempts != 1 {
					t.Errorf("got %+v, %d requests, report %+v", got, base.Calls(), report)
				}
				if took < 4*time.Second || took > 5*time.Second {
					t.Errorf("waited %v, want 4 s and its spread", took)
				}
			})
		})
	}
}

// target is a pair of URL and payload that another breaker watches over.
type target struct{ url, payload string }

var targets = map[string][2]target{
	"models of one host": {
		{chatURL, `{"model":"a"}`},
		{chatURL, `{"model":"b"}`},
	},
	"Azure deployments": {
		{origin + "/openai/deployments/a/chat/completions?api-version=1", `{"messages":[]}`},
		{origin + "/openai/deployments/b/chat/completions?api-version=1", `{"messages":[]}`},
	},
	"Azure deployments of one model": {
		{origin + "/openai/deployments/a/chat/completions", `{"model":"same"}`},
		{origin + "/openai/deployments/b/chat/completions", `{"model":"same"}`},
	},
	"hosts": {
		{"https://a.example.com/v1/chat/completions", hello},
		{"https://b.example.com/v1/chat/completions", hello},
	},
}

func TestOneOverloadedModelLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	for name, pair := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sick, well := pair[0], pair[1]
				tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(req.Body)
					_ = req.Body.Close()
					if req.URL.String() == sick.url && string(body) == sick.payload {
						return reply(503, "overloaded")(req)
					}
					return reply(200, `{"ok":true}`)(req)
				}), openai.Config{})
				call := func(to target) result {
					return do(t, tr, request(t, retry.WithMaxAttempts(t.Context(), 1), http.MethodPost, to.url, to.payload))
				}
				for range breaker.DefaultFailureThreshold {
					call(sick)
					time.Sleep(apart)
				}
				wantOpen(t, call(sick).err)
				if got := call(well); got.err != nil || got.status != 200 {
					t.Errorf("the healthy one: %+v", got)
				}
				states := map[breaker.State]int{}
				for _, s := range tr.Snapshot().Breakers {
					states[s.State]++
				}
				if states[breaker.Open] != 1 || states[breaker.Closed] != 1 {
					t.Errorf("states %v", states)
				}
			})
		})
	}
}

func TestARateLimitOfOneModelHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	for name, pair := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newChain(t, answers(reply(429, "slow down", "Retry-After", "30"), reply(200, `{"ok":true}`)), openai.Config{})
				once := retry.WithMaxAttempts(t.Context(), 1)
				do(t, tr, request(t, once, http.MethodPost, pair[0].url, pair[0].payload))
				start := time.Now()
				got := do(t, tr, request(t, once, http.MethodPost, pair[1].url, pair[1].payload))
				if got.status != 200 || time.Since(start) != 0 {
					t.Errorf("got %+v after %v, want an answer at once", got, time.Since(start))
				}
			})
		})
	}
}

func TestEachModelHasABudgetOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, pair := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(reply(503, "overloaded"))
				tr := newChain(t, base, openai.Config{DisableBreaker: true, Retry: retry.Config{
					Budget: retry.NewBudget(10, 0), MaxAttempts: 3, Backoff: at(time.Second),
				}})
				call := func(to target) int {
					before := base.Calls()
					do(t, tr, request(t, t.Context(), http.MethodPost, to.url, to.payload))
					return base.Calls() - before
				}
				if n := call(pair[0]); n != 3 {
					t.Fatalf("%d requests with a full budget, want 3", n)
				}
				if n := call(pair[0]); n != 1 {
					t.Errorf("%d requests with an empty budget, want 1", n)
				}
				if n := call(pair[1]); n != 3 {
					t.Errorf("%d requests of the other one, want 3", n)
				}
			})
		})
	}
}

// calls notes the Call that each hook sees.
type calls struct {
	mu   sync.Mutex
	seen map[string][]openai.Call
}

func (c *calls) note(t *testing.T, hook string, ctx context.Context) { //nolint:revive // t goes first in tests
	t.Helper()
	call, ok := openai.CallFrom(ctx)
	if !ok {
		t.Errorf("%s does not see the call", hook)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[string][]openai.Call)
	}
	c.seen[hook] = append(c.seen[hook], call)
}

func TestTheCallIsSeenByEveryHook(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		path, payload string
		want          openai.Call
	}{
		{"/v1/chat/completions", `{"messages":[{"model":"not me"}],"model":"gpt-5","stream":false}`, openai.Call{Endpoint: "chat", Model: "gpt-5"}},
		{"/v1/chat/completions", `{"stream":true,"model":"gpt-5"}`, openai.Call{Endpoint: "chat", Model: "gpt-5", Stream: true}},
		{"/v1/chat/completions", `{"model":"first","model":"last"}`, openai.Call{Endpoint: "chat", Model: "last"}},
		{"/v1/embeddings", `{"model":"e","input":"x"}`, openai.Call{Endpoint: "embeddings", Model: "e"}},
		{"/openai/deployments/d/completions?api-version=1", `{"prompt":"x","model":"m"}`, openai.Call{Endpoint: "completions", Model: "d"}},
		{"/v1/chat/completions", `not JSON`, openai.Call{Endpoint: "chat"}},
	} {
		t.Run(row.path+" "+row.payload, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var c calls
				failed := false
				base := stub.Func(func(req *http.Request) (*http.Response, error) {
					c.note(t, "base", req.Context())
					_, _ = io.Copy(io.Discard, req.Body)
					_ = req.Body.Close()
					if failed = !failed; failed {
						return reply(503, "busy")(req)
					}
					return reply(200, `{"ok":true}`)(req)
				})
				tr := newChain(t, base, openai.Config{
					Retry: retry.Config{
						Policy: func(a *retry.Attempt) retry.Decision {
							c.note(t, "Policy", a.Request.Context())
							return retry.DefaultPolicy(a)
						},
						Safe: func(req *http.Request) bool {
							c.note(t, "Safe", req.Context())
							return true
						},
						BudgetKey: func(req *http.Request) string {
							c.note(t, "BudgetKey", req.Context())
							return ""
						},
						Inspect: func(a *retry.Attempt) error {
							c.note(t, "Inspect", a.Request.Context())
							return nil
						},
						OnRetry: func(e retry.Event) {
							c.note(t, "OnRetry", e.Context)
							if e.Endpoint != row.want.Endpoint || e.Model != row.want.Model {
								t.Errorf("the event names %q and %q", e.Endpoint, e.Model)
							}
						},
					},
					Breaker: breaker.Config{
						Key: func(req *http.Request) string {
							c.note(t, "Key", req.Context())
							return ""
						},
						Observe: func(resp *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
							c.note(t, "Observe", resp.Request.Context())
							return breaker.DefaultObserve(resp, err)
						},
					},
				})
				caller := request(t, t.Context(), http.MethodPost, origin+row.path, row.payload)
				if got := do(t, tr, caller); got.err != nil {
					t.Fatal(got.err)
				}
				for _, hook := range []string{"base", "Policy", "Safe", "BudgetKey", "Inspect", "OnRetry", "Key", "Observe"} {
					if len(c.seen[hook]) == 0 {
						t.Errorf("%s was not asked", hook)
					}
					for _, got := range c.seen[hook] {
						if got.Attempt = 0; got != row.want {
							t.Errorf("%s sees %+v, want %+v", hook, got, row.want)
						}
					}
				}
				if _, ok := openai.CallFrom(caller.Context()); ok {
					t.Error("the caller's own context knows of the call")
				}
			})
		})
	}
}

func TestOutsideOfTheChainThereIsNoCall(t *testing.T) {
	t.Parallel()
	if c, ok := openai.CallFrom(t.Context()); ok || c != (openai.Call{}) {
		t.Errorf("CallFrom = %+v, %v", c, ok)
	}
	// Package retry has a value of its own for a call, which names no endpoint.
	over := func(layer func(http.RoundTripper) http.RoundTripper) {
		tr := layer(stub.Func(func(req *http.Request) (*http.Response, error) {
			if c, ok := openai.CallFrom(req.Context()); ok || c != (openai.Call{}) {
				t.Errorf("CallFrom = %+v, %v", c, ok)
			}
			return reply(200, "")(req)
		}))
		do(t, tr, request(t, t.Context(), http.MethodGet, chatURL, ""))
	}
	over(func(base http.RoundTripper) http.RoundTripper { return retry.NewTransport(base, retry.Config{}) })
	over(func(base http.RoundTripper) http.RoundTripper { return breaker.NewTransport(base, breaker.Config{}) })
	over(func(base http.RoundTripper) http.RoundTripper {
		return openai.NewMetricsTransport(base, openai.MetricsConfig{})
	})
}

func TestPayloadsThatAreNotReadNameNoModel(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*http.Request){
		"another media type": func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") },
		"trailers":           func(r *http.Request) { r.Trailer = http.Header{"X-A": {"b"}} },
		"files":              func(r *http.Request) { r.URL.Path = "/v1/files" },
	} {
		var got openai.Call
		tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
			got, _ = openai.CallFrom(req.Context())
			_, _ = io.Copy(io.Discard, req.Body)
			_ = req.Body.Close()
			return reply(200, `{"ok":true}`)(req)
		}), openai.Config{})
		req := ask(t, t.Context(), "m")
		change(req)
		if res := do(t, tr, req); res.err != nil || got.Endpoint == "" || got.Model != "" {
			t.Errorf("%s: %+v, %+v", name, res, got)
		}
	}
}

func TestALongModelNameIsBounded(t *testing.T) {
	t.Parallel()
	var got openai.Call
	tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
		got, _ = openai.CallFrom(req.Context())
		return answers(reply(200, `{"ok":true}`)).RoundTrip(req)
	}), openai.Config{})
	do(t, tr, ask(t, t.Context(), strings.Repeat("ä", 10_000)))
	if len(got.Model) == 0 || len(got.Model) > 256 || strings.Trim(got.Model, "ä") != "" {
		t.Errorf("%d bytes: %.20q…", len(got.Model), got.Model)
	}
}

func TestEveryAttemptSendsTheSameBytesToARealServer(t *testing.T) {
	t.Parallel()
	payload := `{"messages":[{"role":"user","content":"` + strings.Repeat("0123456789", 30_000) + `"}],"model":"m"}`
	for name, newRequest := range map[string]func(t *testing.T, url string) *http.Request{
		"in memory": func(t *testing.T, url string) *http.Request {
			return request(t, t.Context(), http.MethodPost, url, payload)
		},
		"an opaque reader": func(t *testing.T, url string) *http.Request {
			req := request(t, t.Context(), http.MethodPost, url, "")
			req.Body = io.NopCloser(io.MultiReader(strings.NewReader(payload)))
			return req
		},
		"an opaque reader of known length": func(t *testing.T, url string) *http.Request {
			req := request(t, t.Context(), http.MethodPost, url, "")
			req.Body, req.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(payload))), int64(len(payload))
			return req
		},
		"shared by retry.NewRequest": func(t *testing.T, url string) *http.Request {
			req, err := retry.NewRequest(t.Context(), http.MethodPost, url, []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			return req
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t)
			srv.Script(openaitest.Chat, openaitest.Status(503), openaitest.ResetBeforeHeaders(), openaitest.Status(500))
			tr := overNetwork(t, openai.Config{Retry: retry.Config{Backoff: at(time.Millisecond)}})
			if got := do(t, tr, newRequest(t, srv.URL+"/chat/completions")); got.err != nil || got.status != 200 {
				t.Fatalf("got %+v", got)
			}
			seen := srv.Requests()
			if len(seen) != 4 {
				t.Fatalf("the server saw %d requests, want 4", len(seen))
			}
			for _, r := range seen {
				if r.Err != nil || !bytes.Equal(r.Body, []byte(payload)) {
					t.Errorf("request %d: %d bytes (%v), want the %d sent", r.Number, len(r.Body), r.Err, len(payload))
				}
				if got := r.Header.Get("Content-Length"); got != "" && got != strconv.Itoa(len(payload)) {
					t.Errorf("request %d: Content-Length %s", r.Number, got)
				}
			}
		})
	}
}

func TestTheReportTellsOfTheWholeChain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newChain(t, answers(reply(503, "busy"), reply(429, "slow down", "Retry-After", "0"), reply(200, `{"ok":true}`)), openai.Config{
			Retry: retry.Config{Backoff: at(2 * time.Second)},
		})
		var report retry.Report
		if got := do(t, tr, ask(t, retry.WithReport(t.Context(), &report), "m")); got.status != 200 {
			t.Fatalf("got %+v", got)
		}
		want := []retry.Try{{Status: 503}, {Status: 429}, {Status: 200}}
		if report.Attempts != 3 || report.Waited != 2*time.Second || report.Reason != retry.ReasonRateLimited || report.Stopped != retry.NotRetryable ||
			report.Err != nil || !slices.Equal(report.Tried, want) {
			t.Errorf("report %+v, tried %+v", report, want)
		}
	})
}

func TestWithoutABreakerNothingIsRejected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(503, "busy"))
		tr := newChain(t, base, openai.Config{DisableBreaker: true, Breaker: breaker.Config{FailureThreshold: 1}})
		for range 20 {
			if got := do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m")); got.status != 503 {
				t.Fatalf("got %+v", got)
			}
		}
		if s := tr.Snapshot().Breakers; len(s) != 0 || len(base.Payloads()) != 20 {
			t.Errorf("%d requests, breakers %+v", len(base.Payloads()), s)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSnapshotListsTheBreakersByKey(t *testing.T) {
	t.Parallel()
	tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{})
	for _, model := range []string{"b", "a", "b"} {
		do(t, tr, ask(t, t.Context(), model))
	}
	do(t, tr, request(t, t.Context(), http.MethodPost, "HTTPS://API.example.com/openai/deployments/d/chat/completions", hello))
	do(t, tr, request(t, t.Context(), http.MethodGet, origin+"/v1/models", ""))
	var keys []string
	for _, s := range tr.Snapshot().Breakers {
		keys = append(keys, s.Key)
	}
	if want := []string{origin + " chat a", origin + " chat b", origin + " chat d", origin + " models"}; !slices.Equal(keys, want) {
		t.Errorf("keys %q, want %q", keys, want)
	}
}

func TestNewClientHasNoTimeout(t *testing.T) {
	t.Parallel()
	client := openai.NewClient(openai.Config{})
	tr, ok := client.Transport.(*openai.Transport)
	if !ok || client.Timeout != 0 {
		t.Fatalf("%T with a timeout of %v", client.Transport, client.Timeout)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

func TestNewClientMakesCalls(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.Script(openaitest.Chat, openaitest.Status(500))
	client := openai.NewClient(openai.Config{Retry: retry.Config{Backoff: at(time.Millisecond)}})
	defer client.CloseIdleConnections()
	resp, err := client.Do(request(t, t.Context(), http.MethodPost, srv.URL+"/chat/completions", hello))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), openaitest.DefaultText) || srv.Count(openaitest.Chat) != 2 {
		t.Errorf("%s, %v after %d requests", body, err, srv.Count(openaitest.Chat))
	}
}

func TestTheBaseTransportSpeaksHTTP2(t *testing.T) {
	t.Parallel()
	srv := openaitest.NewTLSServer()
	t.Cleanup(srv.Close)
	trusted, ok := srv.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatalf("the server's client has a %T", srv.Client().Transport)
	}
	base := openai.BaseTransport()
	base.TLSClientConfig.RootCAs = trusted.TLSClientConfig.RootCAs
	tr := newChain(t, base, openai.Config{Retry: retry.Config{Backoff: at(time.Millisecond)}})
	srv.Script(openaitest.Chat, openaitest.Status(503), openaitest.ResetBeforeHeaders())
	for _, payload := range []string{hello, `{"model":"m","stream":true}`} {
		if got := do(t, tr, request(t, t.Context(), http.MethodPost, srv.URL+"/chat/completions", payload)); got.err != nil || got.status != 200 {
			t.Errorf("got %+v", got)
		}
	}
	for _, r := range srv.Requests() {
		if r.Proto != "HTTP/2.0" {
			t.Errorf("request %d came by %s", r.Number, r.Proto)
		}
	}
	if n := srv.Count(openaitest.Chat); n != 4 || srv.Connections() != 1 {
		t.Errorf("%d requests over %d connections, want 4 over 1", n, srv.Connections())
	}
}

func TestEachBaseTransportBelongsToItsCaller(t *testing.T) {
	t.Parallel()
	a, b := openai.BaseTransport(), openai.BaseTransport()
	if a == b || a.TLSClientConfig == b.TLSClientConfig {
		t.Error("two callers share a transport")
	}
	if a.ResponseHeaderTimeout != 0 {
		t.Errorf("a model may think for longer than %v", a.ResponseHeaderTimeout)
	}
	if !a.ForceAttemptHTTP2 || a.MaxIdleConnsPerHost < 64 || a.TLSHandshakeTimeout == 0 || a.Proxy == nil {
		t.Errorf("%+v", a)
	}
}

func TestTwentyCallsWithFailuresUseOneConnection(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	tr := overNetwork(t, openai.Config{Breaker: neverOpen, Retry: retry.Config{Backoff: at(time.Millisecond)}})
	for range 20 {
		srv.Script(openaitest.Chat, openaitest.Status(503), openaitest.Status(429).With("Retry-After", "0"))
		if got := do(t, tr, request(t, t.Context(), http.MethodPost, srv.URL+"/chat/completions", hello)); got.status != 200 {
			t.Fatalf("got %+v", got)
		}
	}
	if n := srv.Connections(); n != 1 || srv.Count(openaitest.Chat) != 60 {
		t.Errorf("%d requests over %d connections, want 60 over 1", srv.Count(openaitest.Chat), n)
	}
}

func TestCallsGoOnAfterClose(t *testing.T) {
	t.Parallel()
	tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{})
	for range 3 {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 200 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestManyCallsAtOnceDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tries := map[string]int{}
		tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(req.Body)
			_ = req.Body.Close()
			mu.Lock()
			tries[string(body)]++
			n := tries[string(body)]
			mu.Unlock()
			if n < 3 {
				return reply(503, "busy")(req)
			}
			return reply(200, string(body))(req)
		}), openai.Config{Breaker: neverOpen, Retry: retry.Config{Budget: retry.NewBudget(math.MaxInt32, 0)}})
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				payload := `{"model":"m","n":` + strconv.Itoa(i) + `}`
				got := do(t, tr, request(t, t.Context(), http.MethodPost, chatURL, payload))
				if got.err != nil || got.body != payload {
					t.Errorf("call %d got %+v", i, got)
				}
			})
		}
		wg.Wait()
		for payload, n := range tries {
			if n != 3 {
				t.Errorf("%s took %d requests", payload, n)
			}
		}
	})
}

func TestABaseThatChangesItsRequestChangesNoBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		chain := openai.NewTransport(stub.Func(func(req *http.Request) (*http.Response, error) {
			req.URL = &url.URL{Scheme: "https", Host: "elsewhere.example"}
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
		}), openai.Config{Retry: retry.Config{BudgetKey: func(req *http.Request) string {
			c, _ := openai.CallFrom(req.Context())
			asked = append(asked, req.URL.Host+" "+c.Model)
			return asked[0]
		}}})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example.com/v1/chat/completions", strings.NewReader(`{"model":"m"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := chain.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if len(asked) == 0 || slices.ContainsFunc(asked, func(s string) bool { return s != "api.example.com m" }) {
			t.Errorf("asked about %q", asked)
		}
	})
}
