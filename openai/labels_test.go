package openai_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/retrip-go/retrip/openai"
)

// A provider that redirects may name any host, and one label that is no UTF-8
// makes an exporter refuse all that a process has measured.
func TestLabelsAreValidWhateverTheHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"\xff\xfe", strings.Repeat("h", 1000), "deployments.\xff.example.com:443"} {
		reader, provider := newReader()
		tr := newChain(t, answers(reply(503, ""), reply(200, `{"model":"m\xff"}`)), openai.Config{MeterProvider: provider})
		req := ask(t, t.Context(), "m")
		req.URL = &url.URL{Scheme: "http", Host: host, Path: "/openai/deployments/\xff/chat/completions"}
		if got := do(t, tr, req); got.status != http.StatusOK {
			t.Errorf("%q: %+v", host, got)
		}
		data := collect(t, reader)
		if data.count(inferenceDuration) != 1 {
			t.Errorf("%q: %+v", host, data)
		}
		for _, s := range data {
			for key, value := range s.attrs {
				if !utf8.ValidString(value) || len(value) > 128 {
					t.Errorf("%q: %s of %s is %q", host, key, s.name, value)
				}
			}
		}
	}
}
