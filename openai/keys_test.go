package openai

import (
	"net/http"
	"testing"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
)

// subjectOf returns what the call of a POST is about, as the entrance says it.
func subjectOf(t *testing.T, url, payload string) call.Subject {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	o := NewTransport(stub.Answers(), Config{}).begin(req)
	o.Payload([]byte(payload))
	return o.call.Subject
}

func TestACallIsAboutItsEndpointAndItsModelOrDeployment(t *testing.T) {
	t.Parallel()
	for path, row := range map[string]struct{ endpoint, deployment string }{
		"/v1/chat/completions":                   {"chat", ""},
		"/v1/responses":                          {"responses", ""},
		"/v1/embeddings":                         {"embeddings", ""},
		"/deployments/A":                         {"other", ""},
		"/deployments//embeddings":               {"embeddings", ""},
		"":                                       {"other", ""},
		"/openai/deployments/A/chat/completions": {"chat", "A"},
		"/openai/deployments/A/embeddings":       {"embeddings", "A"},
		"/openai/deployments/B/chat/completions": {"chat", "B"},
	} {
		for payload, model := range map[string]string{`{}`: "", `{"model":"A"}`: "A", `{"model":"x","model":"m"}`: "m"} {
			want := call.Subject{Endpoint: row.endpoint, Model: model}
			if row.deployment != "" {
				want.Model = row.deployment
			}
			if got := subjectOf(t, "https://api.example.com"+path, payload); got != want {
				t.Errorf("%s, %s: %+v, want %+v", path, payload, got, want)
			}
		}
	}
}

func TestABudgetIsTheHostsModelsAndTargets(t *testing.T) {
	t.Parallel()
	for want, subject := range map[string]call.Subject{
		"api.example.com":     {},
		"api.example.com m":   {Endpoint: "chat", Model: "m"},
		"api.example.com m t": {Endpoint: "embeddings", Model: "m", Target: "t"},
	} {
		c := new(call.Call).Init(t.Context())
		c.Subject = subject
		req, err := http.NewRequestWithContext(c, http.MethodPost, "https://api.example.com/v1/chat/completions", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostAndModel(req); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := hostAndModel(req.WithContext(t.Context())); got != "api.example.com" {
			t.Errorf("%q without a call", got)
		}
	}
}
