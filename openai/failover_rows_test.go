package openai_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

func TestAUsersSafeWidensRetriesAndNeverRouting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy)
		cfg := openai.Config{Targets: homeAndEU(), Breaker: neverOpen}
		cfg.Retry.Safe = func(*http.Request) bool { return true }
		for _, path := range []string{"/v1/responses", "/v1/files", "/v1/anything"} {
			w.visits = nil
			if got := do(t, newChain(t, w, cfg), request(t, t.Context(), http.MethodPost, origin+path, hello)); got.status != 503 || w.way() != "home home home home" {
				t.Errorf("%s: got %d, went %q", path, got.status, w.way())
			}
		}
	})
}

func TestEachCodeOfAContextThatIsTooLongMovesOnce(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"} {
		synctest.Test(t, func(t *testing.T) {
			targets := homeAndEU()
			targets[1].Models = map[string]string{"gpt-4o": "long"}
			w := newWorld().at(atHome, apiError(400, code))
			if got := do(t, newChain(t, w, openai.Config{Targets: targets}), asks(t, t.Context())); got.status != 200 || w.way() != "home eu" {
				t.Errorf("%s: got %d, went %q", code, got.status, w.way())
			}
		})
	}
}

func TestATargetWithoutTheModelOfAMessageRestsForThatModel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := homeAndEU()
		targets[1].Tier = -1
		w := newWorld().at(atEU, reply(404, `{"type":"error","error":{"type":"not_found_error","message":"model: m"}}`)).
			at(atHome, reply(200, `{"type":"message","role":"assistant","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}`))
		tr := newChain(t, w, openai.Config{Targets: targets})
		for range 3 {
			req := request(t, t.Context(), http.MethodPost, origin+"/v1/messages", hello)
			req.Header.Set("Anthropic-Version", "2023-06-01")
			if got := do(t, tr, req); got.status != 200 || got.err != nil {
				t.Errorf("got %d, %v", got.status, got.err)
			}
		}
		if rests := tr.Snapshot().Targets[1].Rests; w.way() != "eu home eu home home" || len(rests) != 1 || rests[0].Model != "m" {
			t.Errorf("went %q, rests %+v", w.way(), rests)
		}
	})
}

// A later home's word on the caller's credential is the last: another target's would
// stand in for it. What the caller gets is what the first met has said.
func TestARefusalOfTheCallersCredentialIsNeverMovedOnAlsoByALaterHome(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403} {
		synctest.Test(t, func(t *testing.T) {
			targets := append(homeAndEU(), openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us-key"), Tier: 2})
			targets[1].Tier = -1
			w := newWorld().at(atEU, busy).at(atHome, apiError(status, "invalid_api_key"))
			tr := newChain(t, w, openai.Config{Targets: targets})
			if got := do(t, tr, asks(t, t.Context())); got.status != 503 || w.way() != "eu home" {
				t.Errorf("%d: got %d, went %q", status, got.status, w.way())
			}
			for _, target := range tr.Snapshot().Targets {
				if len(target.Rests) > 0 {
					t.Errorf("%s rests", target.Name)
				}
			}
		})
	}
}

func TestNothingGoesOnAfterRoundTripHasReturned(t *testing.T) {
	t.Parallel()
	for _, delivery := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate} {
		synctest.Test(t, func(t *testing.T) {
			cut := stub.Func(func(*http.Request) (*http.Response, error) {
				resp := stub.Response(200, "", "Content-Type", "text/event-stream")
				resp.Body, resp.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(tokenEvent), errReader{io.ErrUnexpectedEOF})), -1
				return resp, nil
			})
			w := newWorld().at(atHome, cut)
			tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Delivery: delivery})
			if got := do(t, tr, request(t, t.Context(), http.MethodPost, chatURL, streamed)); got.status != 200 || got.err == nil || w.way() != "home" {
				t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
			}
		})
	}
}

func TestAFirstAttemptAtATargetIsFreeWhileItIsWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy)
		cfg := openai.Config{Targets: homeAndEU(), Breaker: neverOpen}
		cfg.Retry.Budget = retry.NewBudget(5, 0)
		tr := newChain(t, w, cfg)
		for range 200 {
			if got := do(t, tr, asks(t, t.Context())); got.status != 200 {
				t.Fatalf("got %d, went %q", got.status, w.way())
			}
		}
		w.at(atEU, busy)
		for range 200 {
			do(t, tr, asks(t, t.Context()))
		}
		w.visits = nil
		for range 200 {
			do(t, tr, asks(t, t.Context()))
		}
		if toEU := strings.Count(w.way(), "eu"); toEU > 0 {
			t.Errorf("with no budget left a target that fails got %d attempts", toEU)
		}
	})
}

func TestATargetWithAStandInOpensForAQuarterOfAMinuteAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, reply(503, "", "Retry-After", "90"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: breaker.Config{FailureThreshold: 1}})
		do(t, tr, asks(t, t.Context()))
		w.at(atHome, reply(200, fine))
		time.Sleep(14 * time.Second)
		do(t, tr, asks(t, t.Context()))
		time.Sleep(2 * time.Second)
		do(t, tr, asks(t, t.Context()))
		if w.way() != "home eu eu home" {
			t.Errorf("went %q", w.way())
		}
	})
}

// A call that stays with its target has no other place to go: a probe that fails would
// fail a call.
func TestACallThatStaysHasNoStandIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, reply(503, "", "Retry-After", "90"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: breaker.Config{FailureThreshold: 1}})
		stays := func() result { return do(t, tr, asks(t, openai.WithoutFailover(t.Context()))) }
		stays()
		w.at(atHome, reply(200, fine))
		time.Sleep(80 * time.Second)
		if got := stays(); got.err == nil || w.way() != "home" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
		time.Sleep(12 * time.Second)
		if got := stays(); got.status != 200 || w.way() != "home home" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

func TestAllFailedReturnsTheFirstMetsResponseWithItsBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, reply(503, `{"error":{"message":"of home"}}`, "X-From", "home")).at(atEU, reply(529, `{"error":{"message":"of eu"}}`))
		var report retry.Report
		got := do(t, newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: neverOpen}), asks(t, retry.WithReport(t.Context(), &report)))
		if got.status != 503 || !strings.Contains(got.body, "of home") || len(report.Tried) != 4 || report.Tried[3].Status != 529 {
			t.Errorf("got %d, %q, tried %+v", got.status, got.body, report.Tried)
		}
	})
}

// The server's word is about itself alone: the call goes to the next, and not back.
func TestATargetThatWantsNoRetryIsNotAskedAgainInPlace(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]stub.Func{
		"500": reply(500, "", "X-Should-Retry", "false"),
		"429": reply(429, "", "X-Should-Retry", "false", "Retry-After", "1"),
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld().at(atHome, answer, reply(200, fine))
			if got := do(t, newChain(t, w, openai.Config{Targets: homeAndEU()}), asks(t, t.Context())); got.status != 200 || w.way() != "home eu" {
				t.Errorf("%s: got %d, %v, went %q", name, got.status, got.err, w.way())
			}
		})
	}
}

func TestAWaitThatOneTargetAsksForIsNotAnothers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy, reply(200, fine)).at(atEU, reply(503, "", "Retry-After", "20"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu home" || w.took() > time.Second {
			t.Errorf("got %d, went %q in %v", got.status, w.way(), w.took())
		}
	})
}

func TestTheCallersDeadlineSaysNothingOfATarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, speechless)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), FirstEventTimeout: 30 * time.Second})
		for range 8 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if got := do(t, tr, asks(t, ctx)); !errors.Is(got.err, context.DeadlineExceeded) {
				t.Errorf("got %+v", got)
			}
			cancel()
		}
		s := tr.Snapshot()
		if strings.Contains(w.way(), "eu") || s.Breakers[0].State != breaker.Closed || !s.Targets[0].LastFailed.IsZero() {
			t.Errorf("went %q, %+v", w.way(), s)
		}
	})
}

// Its first attempts stay free: nothing is known against it.
func TestWhatIsNoFailureOfATargetDoesNotHaveItPaidFor(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]stub.Func{"the caller's deadline": speechless, "a parameter that it lacks": apiError(400, "unsupported_parameter")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, busy).at(atEU, answer)
				cfg := openai.Config{Targets: homeAndEU(), Breaker: neverOpen}
				cfg.Retry.Budget = retry.NewBudget(1, 0)
				tr := newChain(t, w, cfg)
				for range 60 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					do(t, tr, asks(t, ctx))
					cancel()
				}
				w.at(atEU, reply(200, fine))
				for range 5 {
					if got := do(t, tr, asks(t, t.Context())); got.status != 200 {
						t.Errorf("got %d, %v", got.status, got.err)
					}
				}
			})
		})
	}
}

func TestAModelThatHomeLacksWaitsForTheOthersLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := homeAndEU()
		targets[0].Header = bearer("home-key")
		w := newWorld().at(atHome, apiError(404, "model_not_found")).at(atEU, rateLimitedFor("20"), reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: targets})
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu eu" || w.took() < 20*time.Second {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
		w.at(atEU, rateLimitedFor("90")) // longer than anybody waits
		if got := do(t, tr, asks(t, t.Context())); got.status != 404 {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

func TestASessionGoesElsewhereWhileItsTargetRestsAndThenComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := append(homeAndEU(), openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us-key")})
		targets[0].Header, targets[1].Tier = bearer("home-key"), 0
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: targets})
		ctx := openai.WithSession(t.Context(), "a conversation")
		last := func() string {
			do(t, tr, asks(t, ctx))
			return w.visits[len(w.visits)-1].host
		}
		its := last()
		w.at(its, apiError(401, "invalid_api_key"))
		other := last()
		for range 5 {
			if got := last(); got != other || got == its {
				t.Errorf("went %q", w.way())
			}
		}
		w.at(its, reply(200, fine))
		time.Sleep(firstRest)
		for range 3 {
			if last() != its {
				t.Errorf("went %q", w.way())
			}
		}
		if n := len(w.visits); n != 1+2*2+4+3 { // the first two calls elsewhere had asked it, too
			t.Errorf("went %q", w.way())
		}
	})
}

// firstRest is how long a target rests first.
const firstRest = time.Minute

func TestATierOfWhichAllButOneRestIsThatOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := append(homeAndEU(), openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us-key")})
		targets[0].Header, targets[0].Weight = bearer("home-key"), 50
		targets[1].Tier, targets[1].Weight = 0, 50
		w := newWorld().at(atHome, apiError(401, "invalid_api_key")).at(atEU, apiError(403, "permission_denied"))
		tr := newChain(t, w, openai.Config{Targets: targets})
		for range 40 {
			if got := do(t, tr, asks(t, t.Context())); got.status != 200 {
				t.Errorf("got %+v", got)
			}
		}
		if strings.Count(w.way(), "us") != 40 || len(w.visits) != 44 {
			t.Errorf("went %q", w.way())
		}
	})
}

// Where the path alone names the model, a target can take the call only if it has a
// place for the name. Any other would be sent a call without a model.
func TestADeploymentThatAloneNamesTheModelIsNotLost(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/v1": "", "/openai/deployments/{model}": "/openai/deployments/dep/chat/completions"} {
		synctest.Test(t, func(t *testing.T) {
			targets := homeAndEU()
			targets[1].BaseURL = "https://" + atEU + path
			w := newWorld().at(atHome, busy)
			got := do(t, newChain(t, w, openai.Config{Targets: targets}), request(t, t.Context(), http.MethodPost, origin+"/openai/deployments/dep/chat/completions", `{"messages":[]}`))
			var sent string
			for _, v := range w.visits {
				if v.host == atEU {
					sent = v.req.URL.Path
				}
			}
			if sent != want || (got.status == 200) != (want != "") {
				t.Errorf("%s: got %d, went %q, eu was sent %q", path, got.status, w.way(), sent)
			}
		})
	}
}

// A deployment in the caller's path is of the caller's server alone.
func TestTheModelOfAnAttemptIsTheOneThatItsTargetIsSent(t *testing.T) {
	t.Parallel()
	for models, key := range map[string]string{"": "chat gpt-4o eu", "llama": "chat llama eu"} {
		synctest.Test(t, func(t *testing.T) {
			targets := homeAndEU()
			if models != "" {
				targets[1].Models = map[string]string{"gpt-4o": models}
			}
			w := newWorld().at(atHome, busy)
			tr := newChain(t, w, openai.Config{Targets: targets})
			req := request(t, t.Context(), http.MethodPost, origin+"/openai/deployments/dep/chat/completions?api-version=1", `{"model":"gpt-4o","messages":[]}`)
			if got := do(t, tr, req); got.status != 200 || tr.Breaker("https://api.example.com chat dep home") == nil || tr.Breaker("https://eu.example.com "+key) == nil {
				t.Errorf("got %d, %+v", got.status, tr.Snapshot().Breakers)
			}
		})
	}
}

func TestAStreamThatIsResumedStaysWithTheBaseOfHome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		event := func(name, status string, number int) string {
			return fmt.Sprintf(`data: {"type":"response.%s","sequence_number":%d,"response":{"id":"resp_1","status":"%s"}}`+"\n\n", name, number, status)
		}
		w, homes := newWorld(), newWorld()
		homes.at(atHome, sse(event("created", "in_progress", 0), io.ErrUnexpectedEOF), busy, sse(event("completed", "completed", 1), nil))
		targets := homeAndEU()
		targets[0].Base = homes
		tr := newChain(t, w, openai.Config{Targets: targets})
		got := do(t, tr, request(t, t.Context(), http.MethodPost, origin+"/v1/responses", `{"model":"m","input":"x","background":true,"stream":true}`))
		if got.err != nil || !strings.Contains(got.body, "completed") || len(w.visits) != 0 || homes.way() != "home home home" {
			t.Errorf("got %+v, went %q and %q", got, w.way(), homes.way())
		}
	})
}

func TestACallWithOneTargetIsRepeatedAsOftenAsItsServerAdvises(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, reply(409, "", "X-Should-Retry", "true"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		if got := do(t, tr, asks(t, openai.WithoutFailover(t.Context()))); got.status != 409 || w.way() != "home home home home" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}
