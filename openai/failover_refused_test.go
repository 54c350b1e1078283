package openai_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// until has a host fail for some time, and then be well.
func until(d time.Duration, failure stub.Func) stub.Func {
	begin := time.Now()
	return func(req *http.Request) (*http.Response, error) {
		if time.Since(begin) < d {
			return failure(req)
		}
		return reply(200, fine)(req)
	}
}

func TestATargetThatHasFailedTheCallIsAskedAgainWithBackoffWhenTheOthersRefuse(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(*world, *openai.Config) func(*openai.Transport){
		"by its breaker": func(_ *world, _ *openai.Config) func(*openai.Transport) {
			return func(tr *openai.Transport) { tr.Breaker("https://eu.example.com chat gpt-4o eu").Trip() }
		},
		"by its rate limit": func(w *world, _ *openai.Config) func(*openai.Transport) {
			w.at(atEU, rateLimitedFor("30"))
			return func(*openai.Transport) {}
		},
		"by its Authorize": func(_ *world, cfg *openai.Config) func(*openai.Transport) {
			cfg.Targets[1].Authorize = func(*http.Request) error { return io.ErrUnexpectedEOF }
			return func(*openai.Transport) {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				cfg := openai.Config{Targets: homeAndEU(), Breaker: breaker.Config{FailureThreshold: 100}}
				then := refuse(w, &cfg)
				tr := newChain(t, w, cfg)
				w.at(atHome, busy, reply(200, fine))
				do(t, tr, asks(t, t.Context())) // so that eu has a breaker
				then(tr)
				w.at(atHome, until(300*time.Millisecond, busy))
				w.visits = nil
				if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home home" {
					t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
				}
			})
		})
	}
}

func TestATargetThatIsPaidForAndCantBeDoesNotHideTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy).at(atEU, busy)
		us := openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us-key"), Tier: 2}
		tr := newChain(t, w, openai.Config{Targets: append(homeAndEU(), us), Breaker: neverOpen})
		for i := range 300 {
			if got := do(t, tr, asks(t, t.Context())); got.status != 200 {
				t.Fatalf("call %d: got %d, %v", i, got.status, got.err)
			}
		}
	})
}

func TestAnSDKsRepetitionMeetsItsOnlyTargetOnce(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ method, path, payload string }{
		"bound to home":   {"POST", "/v1/chat/completions", `{"model":"gpt-4o","messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}`},
		"a GET":           {"GET", "/v1/chat/completions", ""},
		"one target":      {"POST", "/v1/chat/completions", `{"model":"alone","messages":[]}`},
		"WithoutFailover": {"POST", "/v1/chat/completions", `{"model":"gpt-4o","messages":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, busy)
				targets := homeAndEU()
				targets[1].Models = map[string]string{"gpt-4o": ""}
				tr := newChain(t, w, openai.Config{Targets: targets, Breaker: neverOpen})
				ctx := t.Context()
				if name == "WithoutFailover" {
					ctx = openai.WithoutFailover(ctx)
				}
				req := request(t, ctx, row.method, origin+row.path, row.payload)
				req.Header.Set("X-Stainless-Retry-Count", "1")
				if got := do(t, tr, req); got.status != 503 || w.way() != "home" {
					t.Errorf("got %d, went %q", got.status, w.way())
				}
			})
		})
	}
}

func TestAnAuthorizeThatHangsCostsTheCallNoOtherTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := homeAndEU()
		targets[1].Tier = -1
		targets[1].Authorize = func(req *http.Request) error {
			<-req.Context().Done()
			return context.Cause(req.Context())
		}
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: targets, Retry: retry.Config{AttemptTimeout: 5 * time.Second}})
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home" || w.took() > 6*time.Second {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

func TestWithoutFailoverACallGoesToTheFirstThatTakesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := append(homeAndEU(), openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us-key"), Tier: 2})
		targets = targets[1:]
		targets[0].Models = map[string]string{"another": ""}
		w := newWorld().at(atUS, busy)
		tr := newChain(t, w, openai.Config{Targets: targets, Breaker: neverOpen})
		if got := do(t, tr, asks(t, openai.WithoutFailover(t.Context()))); got.status != 503 || w.way() != "us us us us" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

// inBandError returns a whole JSON answer, or a stream's first event, that is an error.
func inBandError(stream bool, object string) stub.Func {
	if stream {
		return reply(200, `data: {"error":`+object+"}\n\n", "Content-Type", "text/event-stream")
	}
	return reply(200, `{"error":`+object+`}`)
}

func TestAnErrorInA200DecidesAsItsStatusWouldWhereTheCallGoes(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		object string
		own    bool // by a first target with credentials of its own
		way    string
		rests  int
	}{
		{"a context that is too long", `{"code":400,"type":"exceed_context_size_error"}`, false, "home eu", 0},
		{"a context that is too long, as a code", `{"code":"context_length_exceeded"}`, false, "home eu", 0},
		{"content policy", `{"code":"content_policy_violation"}`, false, "home", 0},
		{"home's credential", `{"code":"invalid_api_key","type":"authentication_error"}`, false, "home", 0},
		{"a target's own credential", `{"code":401,"type":"authentication_error"}`, true, "home eu", 1},
		{"a target's own credential is forbidden", `{"code":403,"type":"permission_error"}`, true, "home eu", 1},
		{"a target's quota", `{"code":"insufficient_quota"}`, true, "home eu", 1},
		{"a target lacks the model", `{"code":"model_not_found"}`, true, "home eu", 1},
		{"the provider's", `{"code":"server_error"}`, true, "home eu", 0},
		{"a limit", `{"code":"rate_limit_exceeded"}`, true, "home eu", 0},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(row.name+map[bool]string{true: "/stream"}[stream], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld().at(atHome, inBandError(stream, row.object))
					targets := homeAndEU()
					targets[1].Models = map[string]string{"gpt-4o": "long"}
					if row.own {
						targets[0].Header = bearer("home-key")
					}
					tr := newChain(t, w, openai.Config{Targets: targets, Breaker: neverOpen})
					do(t, tr, asks(t, t.Context()))
					if w.way() != row.way {
						t.Errorf("went %q, want %q", w.way(), row.way)
					}
					time.Sleep(40 * time.Second)
					do(t, tr, asks(t, t.Context()))
					if rests := tr.Snapshot().Targets[0].Rests; len(rests) != row.rests {
						t.Errorf("rests %+v", rests)
					}
				})
			})
		}
	}
}
