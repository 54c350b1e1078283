package openai_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A world is what a chain with targets has below it: servers by their host.
type world struct {
	start time.Time

	mu      sync.Mutex
	answers map[string][]stub.Func // the last one for ever
	visits  []visit
}

// A visit is one request that was sent.
type visit struct {
	host string
	at   time.Duration
	req  *http.Request
	body string
}

const (
	atHome = "api.example.com"
	atEU   = "eu.example.com"
	atUS   = "us.example.com"

	fine = `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"object":"chat.completion"}`
)

func newWorld() *world {
	return &world{start: time.Now(), answers: map[string][]stub.Func{}}
}

// at has a host give these answers.
func (w *world) at(host string, answers ...stub.Func) *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[host] = answers
	return w
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	w.mu.Lock()
	w.visits = append(w.visits, visit{req.URL.Host, time.Since(w.start), req, string(body)})
	answer := reply(200, fine)
	if list := w.answers[req.URL.Host]; len(list) > 0 {
		answer = list[0]
		if len(list) > 1 {
			w.answers[req.URL.Host] = list[1:]
		}
	}
	w.mu.Unlock()
	return answer(req)
}

// way returns where the requests went, by the first label of each host.
func (w *world) way() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var way []string
	for _, v := range w.visits {
		name, _, _ := strings.Cut(v.host, ".")
		way = append(way, strings.Replace(name, "api", "home", 1))
	}
	return strings.Join(way, " ")
}

// took returns when the last request was sent.
func (w *world) took() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.visits[len(w.visits)-1].at
}

// bearer returns the headers of a target with credentials of its own.
func bearer(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }

// homeAndEU are two targets, the second with its own credentials.
func homeAndEU() []openai.Target {
	return []openai.Target{{}, {Name: "eu", BaseURL: "https://" + atEU + "/v1", Header: bearer("eu-key"), Tier: 1}}
}

// asks returns a call with the caller's key.
func asks(t testing.TB, ctx context.Context) *http.Request { //nolint:revive // t goes first in tests
	t.Helper()
	req := ask(t, ctx, "gpt-4o")
	req.Header.Set("Authorization", "Bearer home-key")
	return req
}

var (
	busy       = reply(503, `{"error":{"message":"busy"}}`)
	internal   = reply(500, `{"error":{"message":"oops"}}`)
	truncated  = reply(200, `{"choices":[{"mess`)
	inBand     = reply(200, `{"error":{"code":"server_error","message":"oops"}}`)
	lostConn   = lost(io.ErrUnexpectedEOF)
	speechless = stub.Func(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
)

func apiError(status int, code string) stub.Func {
	return reply(status, `{"error":{"message":"m","type":"invalid_request_error","code":"`+code+`"}}`)
}

func rateLimitedFor(wait string) stub.Func {
	return reply(429, `{"error":{"code":"rate_limit_exceeded"}}`, "Retry-After", wait)
}

func TestWhereACallGoesAfterEachKindOfFailure(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		home, eu []stub.Func
		way      string
		status   int // of what the caller gets; 0 for an error
		within   time.Duration
	}{
		{"408 goes to the next at once", list(apiError(408, "")), nil, "home eu", 200, 0},
		{"502 goes to the next at once", list(apiError(502, "")), nil, "home eu", 200, 0},
		{"503 goes to the next at once", list(busy), nil, "home eu", 200, 0},
		{"503 with a hint goes to the next at once", list(reply(503, "", "Retry-After", "20")), nil, "home eu", 200, 0},
		{"504 goes to the next at once", list(apiError(504, "")), nil, "home eu", 200, 0},
		{"521 goes to the next at once", list(apiError(521, "")), nil, "home eu", 200, 0},
		{"529 goes to the next at once", list(apiError(529, "")), nil, "home eu", 200, 0},
		{"a lost connection goes to the next at once", list(lostConn), nil, "home eu", 200, 0},
		{"a broken answer goes to the next at once", list(truncated), nil, "home eu", 200, 0},
		{"an error in a 200 goes to the next at once", list(inBand), nil, "home eu", 200, 0},
		{"both met, the call begins again with backoff", list(busy, reply(200, fine)), list(busy), "home eu home", 200, time.Second},
		{"a target is met twice at most", list(busy), list(busy), "home eu home eu", 503, 3 * time.Second},
		{"500 is repeated once on the same target", list(internal, reply(200, fine)), nil, "home home", 200, time.Second},
		{"500 twice goes to the next", list(internal), nil, "home home eu", 200, time.Second},
		{"429 with a short hint is waited out once", list(rateLimitedFor("1"), reply(200, fine)), nil, "home home", 200, 2 * time.Second},
		{"429 with a short hint twice goes to the next", list(rateLimitedFor("1")), nil, "home home eu", 200, 2 * time.Second},
		{"429 with a long hint goes to the next now", list(rateLimitedFor("20")), nil, "home eu", 200, 0},
		{"429 without a hint goes to the next now", list(apiError(429, "rate_limit_exceeded")), nil, "home eu", 200, 0},
		{"home's quota goes to the next", list(apiError(429, "insufficient_quota")), nil, "home eu", 200, 0},
		{"home's 402 goes to the next", list(apiError(402, "")), nil, "home eu", 200, 0},
		{"home's 401 is the caller's own", list(apiError(401, "invalid_api_key")), nil, "home", 401, 0},
		{"home's 403 is the caller's own", list(apiError(403, "permission_denied")), nil, "home", 403, 0},
		{"content policy goes nowhere", list(apiError(400, "content_policy_violation")), nil, "home", 400, 0},
		{"400 goes nowhere", list(apiError(400, "invalid_value")), nil, "home", 400, 0},
		{"404 of home goes nowhere", list(apiError(404, "model_not_found")), nil, "home", 404, 0},
		{"409 goes nowhere", list(apiError(409, "")), nil, "home", 409, 0},
		{"413 goes nowhere", list(apiError(413, "")), nil, "home", 413, 0},
		{"422 goes nowhere", list(apiError(422, "")), nil, "home", 422, 0},
		{"context length goes to a target that renames only", list(apiError(400, "context_length_exceeded")), nil, "home", 400, 0},
		{"a later target's 400 is spent, home is met again", list(busy, reply(200, fine)), list(apiError(400, "unknown_parameter")), "home eu home", 200, time.Second},
		{"a later target's 401 never is what the caller gets", list(busy), list(apiError(401, "invalid_api_key")), "home eu home", 503, time.Second},
		{"a later target's 404 never is what the caller gets", list(busy), list(apiError(404, "model_not_found")), "home eu home", 503, time.Second},
		{"a later 503 stands in for an error without a response", list(lostConn), list(busy), "home eu home eu", 503, 3 * time.Second},
		{"a later 400 does not stand in for an error", list(lostConn), list(apiError(400, "x")), "home eu home", 0, time.Second},
		{"x-should-retry: false spends the target, the status says go on", list(reply(503, "", "X-Should-Retry", "false")), list(busy), "home eu eu", 503, time.Second},
		{"x-should-retry: false on a 409 goes nowhere", list(reply(409, "", "X-Should-Retry", "false")), nil, "home", 409, 0},
		{"x-should-retry: true repeats a 409 where it came from", list(reply(409, "", "X-Should-Retry", "true"), reply(200, fine)), nil, "home home", 200, time.Second},
		{"x-should-retry: true moves no refused credential on", list(reply(401, "", "X-Should-Retry", "true")), nil, "home home", 401, time.Second},
		{"a redirect of home is the caller's to follow", list(reply(307, "", "Location", "/v2")), nil, "home", 307, 0},
	} {
		for _, delivery := range []openai.Delivery{openai.FromFirstEvent, openai.Whole} {
			t.Run(row.name+"/"+delivery.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld().at(atHome, row.home...).at(atEU, row.eu...)
					tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Delivery: delivery, Breaker: neverOpen})
					got := do(t, tr, asks(t, t.Context()))
					if w.way() != row.way || got.status != row.status || row.status == 0 && got.err == nil {
						t.Errorf("went %q, got %d, %v; want %q, %d", w.way(), got.status, got.err, row.way, row.status)
					}
					if w.took() > row.within {
						t.Errorf("the last attempt was sent after %v", w.took())
					}
				})
			})
		}
	}
}

func list(answers ...stub.Func) []stub.Func { return answers }

func TestWhatATargetsOwnCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		eu     stub.Func
		status int
		way    string
		rests  bool
		model  bool
	}{
		{"401", apiError(401, "invalid_api_key"), 200, "eu home eu home home", true, false},
		{"402", apiError(402, ""), 200, "eu home eu home home", true, false},
		{"403 with an API error", apiError(403, "permission_denied"), 200, "eu home eu home home", true, false},
		{"a quota", apiError(429, "insufficient_quota"), 200, "eu home eu home home", true, false},
		{"404, model_not_found", apiError(404, "model_not_found"), 200, "eu home eu home home", true, true},
		{"404, DeploymentNotFound", apiError(404, "DeploymentNotFound"), 200, "eu home eu home home", true, true},
		{"404, model_decommissioned", apiError(404, "model_decommissioned"), 200, "eu home eu home home", true, true},
		{"404 of another kind", apiError(404, "unknown_url"), 404, "eu eu eu", false, false},
		{"a proxy's HTML 403", reply(403, "<html>no</html>", "Content-Type", "text/html"), 403, "eu eu eu", false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				targets := homeAndEU()
				targets[1].Tier = -1
				w := newWorld().at(atEU, row.eu)
				tr := newChain(t, w, openai.Config{Targets: targets})
				for range 3 {
					if got := do(t, tr, asks(t, t.Context())); got.status != row.status {
						t.Errorf("got %d, %v", got.status, got.err)
					}
				}
				rests := tr.Snapshot().Targets[1].Rests
				if w.way() != row.way || (len(rests) == 1) != row.rests || row.rests && (rests[0].Model != "") != row.model {
					t.Errorf("went %q, rests %+v", w.way(), rests)
				}
				if !row.rests {
					return
				}
				time.Sleep(time.Minute)
				do(t, tr, asks(t, t.Context())) // tries, and is refused again
				do(t, tr, asks(t, t.Context()))
				if got := strings.TrimPrefix(w.way(), row.way); got != " eu home home" {
					t.Errorf("after a minute it went%s", got)
				}
			})
		})
	}
}

func TestWhenAllRestTheFirstMetIsTriedAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atEU, apiError(401, "invalid_api_key")).at(atUS, apiError(401, "invalid_api_key"))
		tr := newChain(t, w, openai.Config{Targets: []openai.Target{
			{Name: "eu", BaseURL: "https://" + atEU + "/v1", Header: bearer("eu-key")},
			{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us-key"), Tier: 1},
		}})
		for range 3 {
			if got := do(t, tr, asks(t, t.Context())); got.status != 401 {
				t.Errorf("got %d, %v", got.status, got.err)
			}
		}
		if w.way() != "eu us eu us eu" {
			t.Errorf("went %q", w.way())
		}
	})
}

func TestOneCallersQuotaIsNobodyElses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, func(req *http.Request) (*http.Response, error) {
			if req.Header.Get("Authorization") == "Bearer used-up" {
				return stub.Response(429, `{"error":{"code":"insufficient_quota"}}`), nil
			}
			return stub.Response(200, fine), nil
		})
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		call := func(key string) {
			req := asks(t, t.Context())
			req.Header.Set("Authorization", "Bearer "+key)
			if got := do(t, tr, req); got.status != 200 {
				t.Errorf("got %d, %v", got.status, got.err)
			}
		}
		for range 3 {
			call("used-up")
		}
		call("another")
		if w.way() != "home eu home eu eu home" {
			t.Errorf("went %q", w.way())
		}
	})
}

// Where the base adds the credentials, the callers have none: it can't be known whose
// account is used up.
func TestCallersWithoutACredentialDoNotRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, apiError(429, "insufficient_quota"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		for range 4 {
			do(t, tr, ask(t, t.Context(), "gpt-4o"))
		}
		if w.way() != "home eu home eu home eu home eu" {
			t.Errorf("went %q", w.way())
		}
	})
}

func TestOneCallersBadKeyIsNobodyElses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, apiError(401, "invalid_api_key"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		for range 20 {
			do(t, tr, asks(t, t.Context()))
		}
		w.at(atHome, reply(200, fine))
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || strings.Contains(w.way(), "eu") {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestContextLengthMovesOnOnceToATargetThatRenames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := homeAndEU()
		targets[1].Models = map[string]string{"gpt-4o": "long"}
		targets = append(targets, openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Tier: 2, Models: map[string]string{"*": "longer"}})
		long := apiError(400, "context_length_exceeded")
		w := newWorld().at(atHome, long).at(atEU, long)
		tr := newChain(t, w, openai.Config{Targets: targets})
		got := do(t, tr, asks(t, t.Context()))
		if got.status != 400 || !strings.HasPrefix(w.way(), "home eu") {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
		w.at(atEU, reply(200, fine))
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestAFirstEventTimeoutGoesToTheNextAndNeverBack(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"FirstEventTimeout", "AttemptTimeout", "the target's FirstEventTimeout", "the target's AttemptTimeout"} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := openai.Config{Targets: homeAndEU(), Breaker: neverOpen}
				switch field {
				case "FirstEventTimeout":
					cfg.FirstEventTimeout = 10 * time.Second
				case "AttemptTimeout":
					cfg.Retry.AttemptTimeout = 10 * time.Second
				case "the target's FirstEventTimeout":
					cfg.Targets[0].FirstEventTimeout = 10 * time.Second
				default:
					cfg.Targets[0].AttemptTimeout = 10 * time.Second
				}
				w := newWorld().at(atHome, speechless).at(atEU, busy, reply(200, fine))
				if got := do(t, newChain(t, w, cfg), asks(t, t.Context())); got.status != 200 || w.way() != "home eu eu" || w.took() > 11*time.Second {
					t.Errorf("got %d, %v, went %q in %v", got.status, got.err, w.way(), w.took())
				}
			})
		})
	}
}

func TestATargetsTimeLimitIsItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := openai.Config{Targets: homeAndEU(), Breaker: neverOpen}
		cfg.Targets[0].AttemptTimeout = 5 * time.Second
		slow := stub.Func(func(*http.Request) (*http.Response, error) {
			time.Sleep(20 * time.Second)
			return stub.Response(200, fine), nil
		})
		w := newWorld().at(atHome, speechless).at(atEU, slow)
		tr := newChain(t, w, cfg)
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
		get := request(t, t.Context(), http.MethodGet, origin+"/v1/models", "")
		w.at(atHome, slow)
		cfg.Targets[0].AttemptTimeout, cfg.Targets[1].AttemptTimeout = 0, 5*time.Second
		if got := do(t, newChain(t, w, cfg), get); got.status != 200 {
			t.Errorf("another target's limit ended it: %d, %v", got.status, got.err)
		}
	})
}

func TestCallsThatBelongToOneProviderGoHomeAndNowhereElse(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ method, path, payload string }{
		"responses":                  {"POST", "/v1/responses", `{"model":"gpt-4o","input":"hi"}`},
		"files":                      {"POST", "/v1/files", `{"model":"gpt-4o"}`},
		"batches":                    {"POST", "/v1/batches", `{"model":"gpt-4o"}`},
		"threads":                    {"POST", "/v1/threads/t/messages", `{"model":"gpt-4o"}`},
		"a GET":                      {"GET", "/v1/models", ""},
		"an unknown path":            {"POST", "/v1/unknown", `{"model":"gpt-4o"}`},
		"chat with store:true":       {"POST", "/v1/chat/completions", `{"model":"gpt-4o","store":true,"messages":[]}`},
		"a file by its id":           {"POST", "/v1/chat/completions", `{"model":"gpt-4o","messages":[{"content":[{"type":"file","file":{"file_id": "file-1"}}]}]}`},
		"a file, its name escaped":   {"POST", "/v1/chat/completions", `{"model":"gpt-4o","messages":[{"content":[{"type":"file","file":{"\u0066ile_id":"file-1"}}]}]}`},
		"a file, its line escaped":   {"POST", "/v1/chat/completions", `{"model":"gpt-4o","messages":[{"content":[{"type":"file","file":{"file\u005fid":"file-1"}}]}]}`},
		"sound by its id":            {"POST", "/v1/chat/completions", `{"model":"gpt-4o","messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}`},
		"sound by its id, and words": {"POST", "/v1/chat/completions", `{"model":"gpt-4o","modalities":["text","audio"],"audio":{"voice":"a"},"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}`},
		"an earlier response":        {"POST", "/v1/chat/completions", `{"model":"gpt-4o","previous_response_id":"r"}`},
		"a container":                {"POST", "/v1/chat/completions", `{"model":"gpt-4o","container":"c"}`},
		"a container with an id":     {"POST", "/v1/chat/completions", `{"model":"gpt-4o","container" : {"skills":[],"id":"c"}}`},
		"what a user's Safe refuses": {"POST", "/v1/embeddings", `{"model":"gpt-4o"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, busy)
				cfg := openai.Config{Targets: homeAndEU(), Breaker: neverOpen}
				cfg.Retry.Safe = func(req *http.Request) bool {
					return openai.DefaultSafe(req) && !strings.HasSuffix(req.URL.Path, "/embeddings")
				}
				req := request(t, t.Context(), row.method, origin+row.path, row.payload)
				if got := do(t, newChain(t, w, cfg), req); got.status != 503 || strings.Contains(w.way(), "eu") {
					t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
				}
				want := 1
				if name == "a GET" || strings.HasPrefix(row.path, "/v1/chat") {
					want = 4
				}
				if len(w.visits) != want {
					t.Errorf("%d requests, want %d", len(w.visits), want)
				}
			})
		})
	}
}

func TestWordsAndSchemasBindNoCallToAProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		payload := `{"model":"gpt-4o","modalities":["text","audio"],"audio":{"voice":"a","format":"mp3"},"store":false,
			"messages":[{"role":"user","content":"what is a \"file_id\": \"x\"?"}],
			"tools":[{"function":{"parameters":{"properties":{"file_id":{"type":"string"},"container":{"type":"string"}}}}}]}`
		w := newWorld().at(atHome, busy)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		if got := do(t, tr, request(t, t.Context(), "POST", chatURL, payload)); got.status != 200 || w.way() != "home eu" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestARedirectOfATargetIsNeverHandedUp(t *testing.T) {
	t.Parallel()
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308} {
		for _, location := range []string{"https://evil.example/v1/chat/completions", "/v2/chat/completions", ""} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, busy, reply(200, fine)).at(atEU, reply(status, "", "Location", location))
				client := &http.Client{Transport: newChain(t, w, openai.Config{Targets: homeAndEU()})}
				resp, err := client.Do(asks(t, t.Context()))
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != 200 || w.way() != "home eu home" {
					t.Errorf("%d to %q: got %d, went %q", status, location, resp.StatusCode, w.way())
				}
			})
		}
	}
}

// It would redirect again: the call's last attempt is for a target that may answer.
func TestATargetThatRedirectsIsSpent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy).at(atEU, reply(307, "", "Location", "https://evil.example/"))
		if got := do(t, newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: neverOpen}), asks(t, t.Context())); got.status != 503 || w.way() != "home eu home" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

func TestARedirectOfTheOnlyTargetIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atEU, reply(307, "", "Location", "https://evil.example/"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()[1:]})
		if got := do(t, tr, asks(t, t.Context())); got.err == nil || w.way() != "eu" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

// A 101 that nobody has asked for is no answer. It is no redirect either, so that the
// advice for one would lead astray.
func TestAnInformationalStatusOfATargetIsNoRedirect(t *testing.T) {
	t.Parallel()
	for _, status := range []int{101, 199} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			w := newWorld().at(atEU, reply(status, ""))
			tr := newChain(t, w, openai.Config{Targets: homeAndEU()[1:], Logger: slog.New(slog.NewTextHandler(&log, nil))})
			got := do(t, tr, asks(t, t.Context()))
			if got.err == nil || !strings.Contains(got.err.Error(), strconv.Itoa(status)) {
				t.Errorf("%d ended with %d, %v, want an error that names it", status, got.status, got.err)
			}
			if text := fmt.Sprint(got.err) + log.String(); strings.Contains(text, "redirect") || strings.Contains(text, "BaseURL") {
				t.Errorf("%d is taken for a redirect:\n%s", status, text)
			}
		})
	}
}

func TestARequestOfAnSDKsRepetitionMeetsEachTargetOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, internal).at(atEU, busy)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		req := asks(t, t.Context())
		req.Header.Set("X-Stainless-Retry-Count", "1")
		if got := do(t, tr, req); got.status != 500 || w.way() != "home eu" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestOneAttemptGoesToTheFirstThatAdmitsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		once := retry.WithMaxAttempts(t.Context(), 1)
		if got := do(t, tr, asks(t, once)); got.status != 503 || w.way() != "home" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
		tr.Breaker("https://api.example.com chat gpt-4o home").Trip()
		if got := do(t, tr, asks(t, once)); got.status != 200 || w.way() != "home eu" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestMaxAttemptsBoundRepetitionsButNoFirstMeeting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := append(homeAndEU(), openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Tier: 2})
		w := newWorld().at(atHome, busy).at(atEU, busy).at(atUS, busy)
		tr := newChain(t, w, openai.Config{Targets: targets, Retry: retry.Config{MaxAttempts: 2, MaxElapsed: time.Nanosecond}})
		if got := do(t, tr, asks(t, t.Context())); got.status != 503 || w.way() != "home eu us" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestAnOpenBreakerAndALimitGoToTheNextInsideTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		do(t, tr, asks(t, t.Context()))
		tr.Breaker("https://api.example.com chat gpt-4o home").Trip()
		var report retry.Report
		if got := do(t, tr, asks(t, retry.WithReport(t.Context(), &report))); got.status != 200 || w.way() != "home eu" || report.Attempts != 1 {
			t.Errorf("got %d, went %q, %+v", got.status, w.way(), report)
		}
		tr.Breaker("https://api.example.com chat gpt-4o home").Reset()
		w.at(atHome, rateLimitedFor("20"))
		do(t, tr, asks(t, t.Context()))
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu home eu eu" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

// What one account has asked for is no other's wish: a call that home has refused for long
// finds eu ready, although eu has a limit of its own.
func TestAnotherTargetDoesNotWaitForWhatTheFirstAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy, rateLimitedFor("20")).at(atEU, rateLimitedFor("1"), reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		do(t, tr, asks(t, t.Context())) // so that calls of eu have to ask
		time.Sleep(10 * time.Second)
		began := time.Since(w.start)
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu eu home eu" || w.took() != began {
			t.Errorf("got %d, %v, went %q, the last of them after %v", got.status, got.err, w.way(), w.took()-began)
		}
	})
}

// A call that was refused anywhere has waited already, so that it goes before new ones
// also where it is met for the first time.
func TestACallThatWasRefusedElsewhereGoesBeforeNewOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.at(atHome, func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return rateLimitedFor("60")(req)
		}, rateLimitedFor("60")).at(atEU, rateLimitedFor("2"), reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		var wait sync.WaitGroup
		call := func(ctx context.Context, user string) {
			req := request(t, ctx, http.MethodPost, chatURL, `{"model":"gpt-4o","messages":[],"user":"`+user+`"}`)
			wait.Go(func() { do(t, tr, req) })
			synctest.Wait()
		}
		call(t.Context(), "refused")
		soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		call(soon, "first") // after which both have a limit
		call(t.Context(), "new")
		wait.Wait()
		var order []string
		for _, v := range w.visits {
			if v.host == atEU {
				_, user, _ := strings.Cut(v.body, `"user":"`)
				order = append(order, strings.TrimSuffix(user, `"}`))
			}
		}
		if want := []string{"first", "refused", "new"}; !slices.Equal(order, want) {
			t.Errorf("eu was asked by %q, want %q", order, want)
		}
	})
}

// A target is not asked again whose breaker has opened meanwhile: it would refuse, and
// the call is for the next.
func TestNoCallWaitsForATargetThatWouldRefuseIt(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]stub.Func{"500": internal, "429": rateLimitedFor("1")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
				w.at(atHome, func(req *http.Request) (*http.Response, error) {
					tr.Breaker("https://api.example.com chat gpt-4o home").Trip() // by the calls beside it
					return answer(req)
				})
				if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu" || w.took() != 0 {
					t.Errorf("got %d, went %q, the last of them after %v", got.status, w.way(), w.took())
				}
			})
		})
	}
}

// A limit of retries keeps a call from a target that it has tried, not from another.
func TestALimitOfRetriesLeavesTheTargetsThatWereNotTried(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		home stub.Func
		eu   stub.Func
		cfg  retry.Config
		way  string
	}{
		{"attempts", busy, internal, retry.Config{MaxAttempts: 2}, "home eu third"},
		{"one attempt", busy, internal, retry.Config{MaxAttempts: 1}, "home"},
		{"budget", busy, internal, retry.Config{Budget: retry.NewBudget(1, 0)}, "home eu third"},
		{"time", busy, rateLimitedFor("2"), retry.Config{MaxElapsed: time.Second}, "home eu third"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, test.home).at(atEU, test.eu)
				third := openai.Target{Name: "third", BaseURL: "https://third.example.com/v1", Header: bearer("third-key"), Tier: 2}
				tr := newChain(t, w, openai.Config{Targets: append(homeAndEU(), third), Retry: test.cfg})
				got := do(t, tr, asks(t, t.Context()))
				if w.way() != test.way || got.status != 200 && test.way != "home" {
					t.Errorf("got %d, %v, went %q, want %q", got.status, got.err, w.way(), test.way)
				}
			})
		})
	}
}

// Not even where all others refuse.
func TestATargetThatRanIntoATimeLimitIsNeverAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		targets := homeAndEU()
		targets[0].AttemptTimeout = time.Second
		tr := newChain(t, w, openai.Config{Targets: targets})
		w.at(atHome, busy, speechless)
		do(t, tr, asks(t, t.Context())) // so that eu has a breaker
		tr.Breaker("https://eu.example.com chat gpt-4o eu").Trip()
		if got := do(t, tr, asks(t, t.Context())); got.err == nil || w.way() != "home eu home" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

func TestAFailureThatOpensItsBreakerGoesToTheNext(t *testing.T) {
	t.Parallel()
	const homes = "https://api.example.com chat gpt-4o home"
	for _, failure := range []struct {
		name   string
		answer stub.Func
	}{{"500", internal}, {"503", busy}, {"lost", lostConn}} {
		t.Run(failure.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, failure.answer)
				tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: breaker.Config{FailureThreshold: 1}})
				if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu" || tr.Breaker(homes).State() != breaker.Open {
					t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
				}
				time.Sleep(time.Minute)
				if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu home eu" {
					t.Errorf("after a probe that failed: got %d, %v, went %q", got.status, got.err, w.way())
				}
			})
		})
	}
}

func TestAllOpenIsTheLeastOfTheirWaits(t *testing.T) {
	t.Parallel()
	const home, eu = "https://api.example.com chat gpt-4o home", "https://eu.example.com chat gpt-4o eu"
	for _, order := range [][2]string{{home, eu}, {eu, home}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: breaker.Config{OpenDuration: 20 * time.Second}})
			do(t, tr, asks(t, t.Context()))
			tr.Breaker(home).Trip()
			do(t, tr, asks(t, t.Context())) // so that eu has a breaker
			tr.Breaker(home).Reset()
			tr.Breaker(order[0]).Trip()
			time.Sleep(5 * time.Second)
			tr.Breaker(order[1]).Trip()
			got := do(t, tr, asks(t, t.Context()))
			var open *breaker.OpenError
			if !errors.As(got.err, &open) || open.RetryAfter != 15*time.Second {
				t.Errorf("%q opened first: got %+v", order[0], got)
			}
		})
	}
}

func TestAllLimitedWaitsForTheSoonest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, rateLimitedFor("30"), reply(200, fine)).at(atEU, rateLimitedFor("10"), reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu eu" || w.took() < 10*time.Second || w.took() > 12*time.Second {
			t.Errorf("got %d, %v, went %q in %v", got.status, got.err, w.way(), w.took())
		}
	})
}

func TestTheReportNamesWhatWasTried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := stub.Func(func(*http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			return nil, io.ErrUnexpectedEOF
		})
		w := newWorld().at(atHome, slow)
		var report retry.Report
		do(t, newChain(t, w, openai.Config{Targets: homeAndEU()}), asks(t, retry.WithReport(t.Context(), &report)))
		if len(report.Tried) != 2 {
			t.Fatalf("%+v", report)
		}
		first, second := report.Tried[0], report.Tried[1]
		if first.Target != "home" || first.Status != 0 || !errors.Is(first.Err, io.ErrUnexpectedEOF) || first.Took != 2*time.Second ||
			second.Target != "eu" || second.Status != 200 || second.Err != nil {
			t.Errorf("%+v", report.Tried)
		}
	})
}

func TestWithoutFailoverACallGoesToTheFirstOfItsOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		if got := do(t, tr, asks(t, openai.WithoutFailover(t.Context()))); got.status != 503 || w.way() != "home home home home" {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestASessionStaysWithItsTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := homeAndEU()
		targets[1].Tier = 0
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: targets})
		for range 8 {
			for _, key := range []string{"a", "b", "c", "d", "e"} {
				do(t, tr, asks(t, openai.WithSession(t.Context(), key)))
			}
		}
		ways := strings.Fields(w.way())
		for i := range ways {
			if ways[i] != ways[i%5] {
				t.Fatalf("went %q", w.way())
			}
		}
		if !slices.Contains(ways, "home") || !slices.Contains(ways, "eu") {
			t.Errorf("all sessions have one target: %q", w.way())
		}
	})
}

func TestAnEmbeddingIsNeverAnotherModels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := homeAndEU()
		targets[1].Models = map[string]string{"*": "any", "known": "the-same"}
		w := newWorld().at(atHome, busy)
		tr := newChain(t, w, openai.Config{Targets: targets})
		if got := do(t, tr, request(t, t.Context(), "POST", origin+"/v1/embeddings", `{"model":"m","input":"x"}`)); got.status != 503 || strings.Contains(w.way(), "eu") {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
		w.at(atEU, reply(200, `{"data":[]}`))
		if got := do(t, tr, request(t, t.Context(), "POST", origin+"/v1/embeddings", `{"model":"known","input":"x"}`)); got.status != 200 {
			t.Errorf("got %d, went %q", got.status, w.way())
		}
	})
}

func TestWhatIsNotBufferedHasOneTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Retry: retry.Config{MaxReplayBytes: 10}})
		if got := do(t, tr, asks(t, t.Context())); got.status != 503 || w.way() != "home" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
		tr.Breaker("https://api.example.com chat home").Trip()
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu" || !strings.Contains(w.visits[1].body, "gpt-4o") {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

func TestAnAnswerIsHeldAsLongAsTheFirstEventTimeoutOfItsOwnTarget(t *testing.T) {
	t.Parallel()
	// A stream that says for a minute that it is alive, and then its answer.
	late := timed(append(slices.Repeat([]part{{time.Second, ": ping\n\n"}}, 60), part{0, tokenEvent + endEvent + doneEvent})...)
	alive := timed(slices.Repeat([]part{{time.Second, ": ping\n\n"}}, 300)...)
	for name, row := range map[string]struct {
		all, home, eu time.Duration
		homes         stub.Func
		way           string
		after         time.Duration // RoundTrip returns
	}{
		"none is set":                        {0, 0, 0, late, "home", 30 * time.Second},
		"the Config's":                       {50 * time.Second, 0, 0, late, "home eu", 100 * time.Second},
		"home's own":                         {0, 40 * time.Second, 0, late, "home eu", 70 * time.Second},
		"the other's does not hold at home":  {0, 0, 100 * time.Second, late, "home", 30 * time.Second},
		"home's does not hold at the other":  {0, 100 * time.Second, 0, busy, "home eu", 30 * time.Second},
		"a target without one":               {50 * time.Second, -1, 0, late, "home", 30 * time.Second},
		"of the other, which answers":        {0, 0, 100 * time.Second, busy, "home eu", 60 * time.Second},
		"longer than two minutes":            {10 * time.Minute, 0, 0, alive, "home", 2 * time.Minute},
		"longer than anybody's answer takes": {10 * time.Minute, 0, 0, late, "home", 60 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := openai.Config{FirstEventTimeout: row.all, Targets: homeAndEU(), Breaker: neverOpen}
				cfg.Targets[0].FirstEventTimeout, cfg.Targets[1].FirstEventTimeout = row.home, row.eu
				w := newWorld().at(atHome, row.homes).at(atEU, late)
				resp, err := newChain(t, w, cfg).RoundTrip(request(t, t.Context(), http.MethodPost, chatURL, streamed))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				if took := time.Since(w.start).Truncate(2 * time.Second); took != row.after || w.way() != row.way {
					t.Errorf("it went %q, and was held for %v", w.way(), took)
				}
			})
		})
	}
}

func TestA500IsRepeatedWhereNoOtherCallHasFailedInTheRow(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		breaker breaker.Config
		before  stub.Func // what an earlier call gets
		since   time.Duration
		way     string
	}{
		"the first failure":           {breaker.Config{}, reply(200, fine), time.Second, "home home"},
		"one after another's":         {breaker.Config{}, busy, time.Second, "home"},
		"one together with another's": {breaker.Config{}, busy, 0, "home"},
		"one that opens the breaker":  {breaker.Config{FailureThreshold: 1}, reply(200, fine), time.Second, "home"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, row.before)
				tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: row.breaker})
				do(t, tr, asks(t, t.Context()))
				time.Sleep(row.since)
				w.at(atHome, internal)
				w.visits = nil
				if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != row.way+" eu" {
					t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
				}
			})
		})
	}
}

func TestARateLimitIsNotWaitedOutWhereItHasOpenedTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, rateLimitedFor("1"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: breaker.Config{FailureThreshold: 1, Observe: breaker.CountAllErrors}})
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu" || w.took() != 0 {
			t.Errorf("got %d, %v, went %q in %v", got.status, got.err, w.way(), w.took())
		}
	})
}
