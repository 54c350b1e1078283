package openai_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// always has a server answer all chat calls alike, and firstly only the first.
func always(a openaitest.Answer) func(*openaitest.Server) {
	return func(s *openaitest.Server) { s.Always(openaitest.Chat, a) }
}

func firstly(a openaitest.Answer) func(*openaitest.Server) {
	return func(s *openaitest.Server) { s.Script(openaitest.Chat, a) }
}

// TestTheSixteenFaultsOfTheFailoverBench re-makes the faults of the public bench on
// two servers: each call is answered, or ends in the right error, with no more
// requests than it takes. Under FromFirstEvent a stream that breaks once it is
// delivered ends in an error, or with the junk that it brought: no other can take its
// place.
func TestTheSixteenFaultsOfTheFailoverBench(t *testing.T) {
	t.Parallel()
	const limit = time.Second // of the bench's ten: silence costs one of these
	for _, row := range []struct {
		name      string
		fault     func(*openaitest.Server)
		status    int
		home, eu  int // requests
		delivered bool
	}{
		{"429 with a short hint", firstly(openaitest.Status(429).With("Retry-After-Ms", "200")), 200, 2, 0, false},
		{"429 with a long hint", always(openaitest.Status(429).With("Retry-After", "60")), 200, 1, 1, false},
		{"500 once", firstly(openaitest.Status(500)), 200, 2, 0, false},
		{"503", always(openaitest.Status(503)), 200, 1, 1, false},
		{"529 overloaded", always(openaitest.Status(529)), 200, 1, 1, false},
		{"a connection that is reset", always(openaitest.ResetBeforeHeaders()), 200, 1, 1, false},
		{"a connection that is closed", always(openaitest.EOFBeforeHeaders()), 200, 1, 1, false},
		{"silence", always(openaitest.StallBeforeHeaders()), 200, 1, 1, false},
		{"silence after the headers", always(openaitest.OK().StallAfter(0)), 200, 1, 1, false},
		{"a stream that is cut", always(openaitest.OK().CutAfter(3)), 200, 1, 1, true},
		{"a stream that stalls", always(openaitest.OK().StallAfter(3)), 200, 1, 1, true},
		{"a stream that brings junk", always(openaitest.OK().CorruptAfter(3)), 200, 1, 1, true},
		{"an error in a 200", always(openaitest.OK().ErrorAfter(0, "server_error", "server_error", "m")), 200, 1, 1, false},
		{"the primary's credentials refused", always(openaitest.Status(401)), 200, 1, 1, false},
		{"context length", always(openaitest.Error(400, "invalid_request_error", "context_length_exceeded", "m")), 200, 1, 1, false},
		{"content policy", always(openaitest.Error(400, "invalid_request_error", "content_policy_violation", "m")), 400, 1, 0, false},
	} {
		for _, delivery := range []openai.Delivery{openai.Whole, openai.FromFirstEvent} {
			for _, stream := range []string{"false", "true"} {
				t.Run(row.name+"/"+delivery.String()+"/stream "+stream, func(t *testing.T) {
					t.Parallel()
					home, eu := newServer(t), newServer(t)
					row.fault(home)
					tr := overNetwork(t, openai.Config{
						Delivery: delivery, FirstEventTimeout: limit, IdleTimeout: limit,
						Targets: []openai.Target{
							{Header: bearer("home")},
							{Name: "eu", BaseURL: eu.URL, Header: bearer("eu"), Models: map[string]string{"gpt-4o": "llama"}, Tier: 1},
						},
					})
					began := time.Now()
					got := do(t, tr, request(t, t.Context(), http.MethodPost, home.URL+"/chat/completions", `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":`+stream+`}`))
					took := time.Since(began)
					broken := row.delivered && stream == "true" && delivery == openai.FromFirstEvent
					switch {
					case broken && got.err == nil && !strings.Contains(got.body, "[DONE]"):
						t.Errorf("half an answer passes for a whole one: %+v", got)
					case broken:
						return
					case got.status != row.status || got.err != nil:
						t.Errorf("got %d, %v", got.status, got.err)
					case home.Count(openaitest.Chat) != row.home || eu.Count(openaitest.Chat) != row.eu:
						t.Errorf("%d requests to home and %d to the other", home.Count(openaitest.Chat), eu.Count(openaitest.Chat))
					case row.eu > 0 && !strings.Contains(got.body, `"model":"llama"`):
						t.Errorf("the answer is not of the fallback's model: %.200s", got.body)
					}
					if took > limit*5 {
						t.Errorf("it took %v", took)
					}
					for _, r := range eu.Requests() {
						if r.Header.Get("Authorization") != "Bearer eu" {
							t.Errorf("the other target got %v", r.Header)
						}
					}
				})
			}
		}
	}
}

func TestEveryCallOfAFlappingPrimaryIsAnswered(t *testing.T) {
	t.Parallel()
	home, eu := newServer(t), newServer(t)
	tr := overNetwork(t, openai.Config{Delivery: openai.Whole, Targets: []openai.Target{{}, {Name: "eu", BaseURL: eu.URL, Tier: 1}}})
	for i := range 60 {
		if home.Heal(); i%10 >= 5 {
			home.Always(openaitest.Chat, openaitest.Status(503))
		}
		if got := do(t, tr, request(t, t.Context(), http.MethodPost, home.URL+"/chat/completions", hello)); got.status != 200 || got.err != nil {
			t.Errorf("call %d: %d, %v", i, got.status, got.err)
		}
	}
	if home.Count(openaitest.Chat) < 30 {
		t.Errorf("home got %d requests only", home.Count(openaitest.Chat))
	}
}
