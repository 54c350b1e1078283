package openai_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// noAnswers are bodies of a 200 that are no answers, and the codes in them.
var noAnswers = map[string]struct{ contentType, body, code string }{
	"an error object": {"application/json", `{"error":{"message":"planted","code":"server_error"}}`, "server_error"},
	"malformed JSON":  {"application/json", `{"choices":]`, ""},
	"half of it":      {"application/json", `{"id":"x","choices":[{"mess`, ""},
	"a page":          {"text/html", `<html>planted</html>`, ""},
	"nothing":         {"application/json", ``, ""},
}

func TestWhatIsNoAnswerEndsInAnAnswerErrorAfterAllItsBytes(t *testing.T) {
	t.Parallel()
	for name, row := range noAnswers {
		for _, mode := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole} {
			base := answers(reply(200, row.body, "Content-Type", row.contentType))
			tr := newChain(t, base, openai.Config{Delivery: mode, Retry: retry.Config{MaxAttempts: 2, Backoff: at(0)}})
			got := do(t, tr, ask(t, t.Context(), "m"))
			var wrong *openai.AnswerError
			if !errors.As(got.err, &wrong) || !errors.Is(got.err, io.ErrUnexpectedEOF) || wrong.Code != row.code {
				t.Errorf("%s, %v: ended with %v", name, mode, got.err)
				continue
			}
			if got.body != row.body || string(wrong.Body()) != row.body || strings.Contains(wrong.Error(), "planted") {
				t.Errorf("%s, %v: read %q, %q is kept, %v", name, mode, got.body, wrong.Body(), wrong)
			}
			if sent := len(base.Payloads()); sent != 2 && mode != openai.Immediate || sent != 1 && mode == openai.Immediate {
				t.Errorf("%s, %v: %d requests", name, mode, sent)
			}
		}
	}
}

func TestPassThroughGivesAProxysClientTheBytes(t *testing.T) {
	t.Parallel()
	for name, row := range noAnswers {
		provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", row.contentType)
			_, _ = io.WriteString(w, row.body)
		}))
		t.Cleanup(provider.Close)
		to, err := url.Parse(provider.URL)
		if err != nil {
			t.Fatal(err)
		}
		chain := newChain(t, &http.Transport{}, openai.Config{InBandErrors: openai.PassThrough, Retry: once})
		t.Cleanup(chain.CloseIdleConnections)
		proxy := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
			Transport: chain,
		})
		t.Cleanup(proxy.Close)
		got := do(t, http.DefaultTransport, request(t, t.Context(), http.MethodPost, proxy.URL+"/v1/chat/completions", asked))
		if got.err != nil || got.status != 200 || got.body != row.body {
			t.Errorf("%s: %+v", name, got)
		}
		if failed := chain.Snapshot().Breakers[0].Totals; failed.Failure+failed.Ignored != 1 || failed.Success != 0 {
			t.Errorf("%s: the breaker counted %+v", name, failed)
		}
	}
}

func TestAFailedResponseObjectIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	const body = `{"object":"response","status":"failed","error":{"code":"server_error"},"output":[]}`
	reader, provider := newReader()
	tr := newChain(t, answers(reply(200, body)), openai.Config{MeterProvider: provider})
	got := do(t, tr, request(t, t.Context(), http.MethodPost, "https://api.example.com/v1/responses", asked))
	if got.err != nil || got.body != body {
		t.Errorf("got %+v", got)
	}
	if data := collect(t, reader); data.count(inferenceDuration, "error.type", "stream_error") != 1 {
		t.Errorf("operations %+v", data.with(inferenceDuration))
	}
	if failed := tr.Snapshot().Breakers[0].Totals; failed.Failure != 1 {
		t.Errorf("the breaker counted %+v", failed)
	}
}
