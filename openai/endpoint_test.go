package openai_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// sent makes one call that is answered 503 and returns the number of requests
// it took, and the endpoint as it was named.
func sent(t *testing.T, method, path string, header ...string) (requests int, endpoint string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(503, "busy"), func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodHead {
				return reply(200, "")(req)
			}
			return reply(200, `{"ok":true}`)(req)
		})
		tr := newChain(t, base, openai.Config{Breaker: neverOpen, Retry: retry.Config{BudgetKey: func(req *http.Request) string {
			c, _ := openai.CallFrom(req.Context())
			endpoint = c.Endpoint
			return ""
		}}})
		body := `{"model":"m"}`
		if method != http.MethodPost && method != http.MethodPut && method != http.MethodPatch {
			body = ""
		}
		req := request(t, t.Context(), method, origin+path, body)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		if got := do(t, tr, req); got.err != nil {
			t.Fatal(got.err)
		}
		requests = base.Calls()
	})
	return requests, endpoint
}

func TestPostsAreRepeatedByEndpoint(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		path   string
		repeat bool
	}{
		{"chat/completions", true},
		{"completions", true},
		{"embeddings", true},
		{"moderations", true},
		{"images/generations", true},
		{"images/edits", true},
		{"images/variations", true},
		{"audio/speech", true},
		{"audio/transcriptions", true},
		{"audio/translations", true},
		{"rerank", true},
		{"score", true},
		{"responses", false},
		{"responses/resp_1/cancel", false},
		{"responses/compact", false},
		{"files", false},
		{"uploads", false},
		{"uploads/upload_1/parts", false},
		{"uploads/upload_1/complete", false},
		{"batches", false},
		{"batches/batch_1/cancel", false},
		{"threads", false},
		{"threads/thread_1/messages", false},
		{"threads/thread_1/runs", false},
		{"threads/runs", false},
		{"assistants", false},
		{"vector_stores", false},
		{"vector_stores/vs_1/search", false},
		{"fine_tuning/jobs", false},
		{"conversations", false},
		{"conversations/conv_1/items", false},
		{"realtime/sessions", false},
		{"evals", false},
		{"containers", false},
		{"videos", false},
		{"models", false},
		{"chat/completions/chatcmpl-1", false}, // changes what is stored
		{"chat", false},
		{"images", false},
		{"audio", false},
		{"Chat/Completions", false},
		{"mychat-completions", false},
		{"something/new", false},
		{"", false},
	} {
		for _, prefix := range []string{
			"/v1/",
			"/",
			"/api/v1/",
			"/gateway/of/our/own/",
			"/openai/deployments/gpt-4o/",
			"/openai/deployments/completions/", // a deployment may be called so
		} {
			if row.path == "" && strings.HasSuffix(prefix, "completions/") {
				continue
			}
			for _, tail := range []string{"", "/", "?api-version=2024-10-21"} {
				path := prefix + row.path + tail
				t.Run("POST "+path, func(t *testing.T) {
					t.Parallel()
					want := 1
					if row.repeat {
						want = 2
					}
					if got, _ := sent(t, http.MethodPost, path); got != want {
						t.Errorf("%d requests, want %d", got, want)
					}
				})
			}
		}
	}
}

func TestEndpointsHaveNames(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/v1/chat/completions":  "chat",
		"/v1/chat/completions/": "chat",
		"/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21":  "chat",
		"/openai/deployments/gpt-4o/completions?api-version=2024-10-21":       "completions",
		"/openai/deployments/gpt-4o/embeddings?api-version=2024-10-21":        "embeddings",
		"/openai/deployments/dalle/images/generations?api-version=2024-10-21": "images",
		"/openai/deployments/w/audio/transcriptions?api-version=2024-10-21":   "audio",
		"/v1/completions":       "completions",
		"/completions":          "completions",
		"/v1/xchat/completions": "completions",
		"/v1/xembeddings":       "other",
		"/api/v1/embeddings":    "embeddings",
		"/v1/moderations":       "moderations",
		"/v1/images/edits":      "images",
		"/v1/audio/speech":      "audio",
		"/v1/rerank":            "rerank",
		"/v2/rerank":            "rerank",
		"/v1/score":             "score",
		"/v1/something/unheard": "other",
		"/":                     "other",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			// What is not repeated asks for no budget: a GET always does.
			if _, got := sent(t, http.MethodGet, path); got != want {
				t.Errorf("named %q, want %q", got, want)
			}
		})
	}
	for _, path := range []string{"/v1/responses", "/openai/v1/responses/", "/openai/responses?api-version=preview"} {
		if _, got := sent(t, http.MethodGet, path); got != "responses" {
			t.Errorf("%s is named %q, want responses", path, got)
		}
	}
}

func TestIdempotentMethodsAreRepeatedOnEveryEndpoint(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int{
		http.MethodGet: 2, http.MethodHead: 2, http.MethodOptions: 2, http.MethodPut: 2, http.MethodDelete: 2,
		http.MethodPatch: 1,
	} {
		for _, path := range []string{
			"/v1/chat/completions", "/v1/responses", "/v1/responses/resp_1", "/v1/files/file-1", "/v1/files/file-1/content",
			"/v1/threads/thread_1", "/v1/models", "/v1/vector_stores/vs_1", "/v1/something/new", "/",
		} {
			t.Run(method+" "+path, func(t *testing.T) {
				t.Parallel()
				if got, _ := sent(t, method, path); got != want {
					t.Errorf("%d requests, want %d", got, want)
				}
			})
		}
	}
}

// A key does not make the API forget what it has stored.
func TestAnIdempotencyKeyDoesNotMakeResponsesRepeatable(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if got, _ := sent(t, http.MethodPost, "/v1/responses", header, "k"); got != 1 {
			t.Errorf("%s: %d requests, want 1", header, got)
		}
	}
}

func TestPostResponsesAnswered503IsExactlyOneRequest(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.Always(openaitest.Responses, openaitest.Status(503))
	tr := overNetwork(t, openai.Config{Retry: retry.Config{Backoff: at(0)}})
	var report retry.Report
	ctx := retry.WithReport(t.Context(), &report)
	got := do(t, tr, request(t, ctx, http.MethodPost, srv.URL+"/responses", `{"model":"m","input":"hi"}`))
	if got.err != nil || got.status != 503 || !strings.Contains(got.body, "server_error") {
		t.Errorf("got %+v, want the 503 with its body", got)
	}
	if n := srv.Count(openaitest.Responses); n != 1 {
		t.Errorf("the server saw %d requests, want 1", n)
	}
	if report.Attempts != 1 || report.Stopped != retry.StopNotReplayable {
		t.Errorf("report %+v", report)
	}
}

func TestAPrefixMakesNoStatefulCallRepeatable(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/audio/responses", "/openai/deployments/audio/responses", "/images/files", "/audio/batches"} {
		if n, name := sent(t, http.MethodPost, path); n != 1 {
			t.Errorf("%s (%s): %d requests, want 1", path, name, n)
		}
	}
}
