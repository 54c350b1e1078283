package openai

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/retrip-go/retrip/internal/call"
)

// requestFor returns a request of a call that asks for model.
func requestFor(t *testing.T, url, model string) *http.Request {
	t.Helper()
	c := new(call.Call).Init(t.Context())
	c.Model = model
	req, err := http.NewRequestWithContext(c, http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// Keys are found by what the latest request was like: none may get another's.
func TestABreakersKeyIsSchemeHostAndModelOrDeployment(t *testing.T) {
	t.Parallel()
	type row struct {
		req *http.Request
		key string
	}
	var rows []row
	for origin, name := range map[string]string{
		"https://api.openai.com": "https://api.openai.com", "http://api.openai.com": "http://api.openai.com",
		"https://API.OpenAI.com": "https://api.openai.com", "https://u:p@api.openai.com:443": "https://api.openai.com:443",
	} {
		for path, deployment := range map[string]string{
			"/v1/chat/completions": "", "/v1/responses": "", "/deployments/A": "", "/deployments//x": "", "": "",
			"/openai/deployments/A/chat/completions": "A", "/openai/deployments/A/embeddings": "A", "/openai/deployments/B/chat/completions": "B",
		} {
			for _, model := range []string{"", "A", "m"} {
				key := name
				if target := deployment + model; deployment != "" {
					key += " " + deployment
				} else if target != "" {
					key += " " + target
				}
				rows = append(rows, row{requestFor(t, origin+path, model), key})
			}
		}
	}
	keys := new(breakerKeys)
	var wg sync.WaitGroup
	for stride := range 4 {
		wg.Go(func() {
			for i := range 20 * len(rows) {
				r := rows[i*(2*stride+1)%len(rows)]
				if got := keys.of(r.req); got != r.key {
					t.Errorf("%s: %q, want %q", r.req.URL, got, r.key)
				}
			}
		})
	}
	wg.Wait()
}

func TestTheKeysThatAreKeptAreBounded(t *testing.T) {
	t.Parallel()
	keys := new(breakerKeys)
	for n := range 2 * maxBreakerKeys {
		model := strconv.Itoa(n)
		if got := keys.of(requestFor(t, "https://host/v1/chat/completions", model)); !strings.HasSuffix(got, " "+model) {
			t.Errorf("%q for %s", got, model)
		}
	}
	if len(keys.kept) != maxBreakerKeys {
		t.Errorf("%d are kept", len(keys.kept))
	}
}
