package openai_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// What asks the connection for more than an answer is between the caller and the
// server that he named.
func TestARequestWithTrailersOrAnUpgradeGoesHomeAndNowhereElse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*http.Request){
		"trailers": func(r *http.Request) { r.Trailer = http.Header{"X-Signature": {"callers"}} },
		"upgrade":  func(r *http.Request) { r.Header.Set("Connection", "Upgrade"); r.Header.Set("Upgrade", "websocket") },
		"expect":   func(r *http.Request) { r.Header.Set("Expect", "100-continue") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				cfg := openai.Config{Targets: homeAndEU()}
				cfg.Targets[0].Tier = 2
				req := asks(t, t.Context())
				change(req)
				if got := do(t, newChain(t, w, cfg), req); got.status != 200 || w.way() != "home" || w.visits[0].req.Header.Get("Authorization") != "Bearer home-key" {
					t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
				}
			})
		})
	}
}

func TestTheUserOfAURLIsNotSentToAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy)
		client := &http.Client{Transport: newChain(t, w, openai.Config{Targets: homeAndEU()})}
		req := request(t, t.Context(), http.MethodPost, "https://me:hidden@"+atHome+"/v1/chat/completions?key=hidden", hello)
		resp, err := client.Do(req) // which makes a header of it
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		sent := w.visits[1].req
		if user, _, ok := w.visits[0].req.BasicAuth(); w.way() != "home eu" || !ok || user != "me" {
			t.Errorf("it went %q, home got %v", w.way(), w.visits[0].req.Header)
		}
		if _, _, ok := sent.BasicAuth(); ok || sent.URL.User != nil || w.visits[1].holds("hidden") || sent.Header.Get("Authorization") != "Bearer eu-key" {
			t.Errorf("the other got %v, %v", sent.URL, sent.Header)
		}
	})
}

func TestTwoTargetsOfOneHostAreTwo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := "https://" + atEU + "/v1"
		w := newWorld().at(atEU, func(req *http.Request) (*http.Response, error) {
			switch req.Header.Get("Authorization") {
			case "Bearer limited":
				return stub.Response(429, "{}", "Retry-After", "30"), nil
			case "Bearer broken":
				return stub.Response(503, "{}"), nil
			}
			return stub.Response(200, fine), nil
		})
		tr := newChain(t, w, openai.Config{Breaker: breaker.Config{FailureThreshold: 1}, Targets: []openai.Target{
			{Name: "a", BaseURL: base, Header: bearer("limited")},
			{Name: "b", BaseURL: base, Header: bearer("broken"), Tier: 1},
			{Name: "c", BaseURL: base, Header: bearer("good"), Tier: 2},
		}})
		for i, visits := range []int{3, 4, 5} {
			if got := do(t, tr, asks(t, t.Context())); got.status != 200 || len(w.visits) != visits {
				t.Errorf("call %d: got %d, went %q", i, got.status, w.way())
			}
		}
	})
}

// Authorize gets headers of its own: those of the Target and of the caller stay as
// they are, whatever it does to them, and how often.
func TestAnAuthorizeThatWritesToAllThatItSeesChangesItsOwnRequestOnly(t *testing.T) {
	t.Parallel()
	header := http.Header{"X-Shared": {"as it was"}}
	base := stub.Func(func(req *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if req.URL.Host != atEU || req.URL.Path != "/v1/chat/completions" || req.Method != http.MethodPost || req.Host != "" || string(body) != hello ||
			req.Header.Get("X-Shared") != "changed" || len(req.Header["User-Agent"]) != 1 {
			t.Errorf("sent %s %v %q %v %q", req.Method, req.URL, req.Host, req.Header, body)
		}
		return stub.Response(200, fine), nil
	})
	tr := newChain(t, base, openai.Config{Targets: []openai.Target{{
		Name: "eu", BaseURL: "https://" + atEU + "/v1", Header: header,
		Authorize: func(req *http.Request) error {
			for _, values := range req.Header {
				for i := range values {
					values[i] = "changed"
				}
			}
			req.URL.Host, req.URL.Path, req.Host, req.Method, req.ContentLength = "evil.example", "/", "evil.example", http.MethodGet, 1
			req.Body = io.NopCloser(strings.NewReader("x"))
			req.Trailer = http.Header{"X-T": nil}
			return nil
		},
	}}})
	var calls sync.WaitGroup
	for range 16 {
		calls.Go(func() {
			req := request(t, context.Background(), http.MethodPost, chatURL, hello)
			req.Header.Set("User-Agent", "mine")
			if got := do(t, tr, req); got.status != 200 || req.Header.Get("User-Agent") != "mine" {
				t.Errorf("got %+v, the caller's headers are %v", got, req.Header)
			}
		})
	}
	calls.Wait()
	if header.Get("X-Shared") != "as it was" {
		t.Errorf("the Target has %v", header)
	}
}

func TestAnAuthorizeThatLeavesNoHeadersOrBadOnesMovesOn(t *testing.T) {
	t.Parallel()
	for name, authorize := range map[string]func(*http.Request) error{
		"none":     func(req *http.Request) error { req.Header = nil; return nil },
		"bad ones": func(req *http.Request) error { req.Header.Set("X-A", "a\nb"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eu, us := newServer(t), newServer(t)
			tr := overNetwork(t, openai.Config{Targets: []openai.Target{
				{Name: "eu", BaseURL: eu.URL, Authorize: authorize},
				{Name: "us", BaseURL: us.URL, Tier: 1},
			}})
			if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 200 || got.err != nil || eu.Count(openaitest.Chat)+us.Count(openaitest.Chat) != 1 {
				t.Errorf("got %d, %v; %d and %d requests", got.status, got.err, eu.Count(openaitest.Chat), us.Count(openaitest.Chat))
			}
		})
	}
}

func TestAFailoverOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]openaitest.Answer{
		"a stream that is reset":          openaitest.ResetBeforeHeaders(),
		"503":                             openaitest.Status(503),
		"a failure without an end":        openaitest.EndlessBody(503),
		"an error that says what it is":   openaitest.Error(429, "insufficient_quota", "insufficient_quota", "m"),
		"an answer that breaks off":       openaitest.OK().CutAfter(0),
		"an error that never comes whole": openaitest.Status(500).StallAfter(3),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, eu := openaitest.NewTLSServer(), openaitest.NewTLSServer()
			t.Cleanup(home.Close)
			t.Cleanup(eu.Close)
			home.Always(openaitest.Chat, fault)
			base := openai.BaseTransport()
			t.Cleanup(base.CloseIdleConnections)
			base.TLSClientConfig = home.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			tr := newChain(t, base, openai.Config{Targets: []openai.Target{{}, {Name: "eu", BaseURL: eu.URL, Header: bearer("eu"), Tier: 1}}})
			for _, payload := range []string{hello, streamed} {
				began := time.Now()
				got := do(t, tr, request(t, t.Context(), http.MethodPost, home.URL+"/chat/completions", payload))
				if got.status != 200 || got.err != nil || time.Since(began) > 5*time.Second {
					t.Errorf("got %d, %v after %v", got.status, got.err, time.Since(began))
				}
			}
			for _, r := range eu.Requests() {
				if r.Proto != "HTTP/2.0" || r.Header.Get("Authorization") != "Bearer eu" {
					t.Errorf("the other got %s %v", r.Proto, r.Header)
				}
			}
		})
	}
}

func TestTheTrailersOfAnotherTargetsAnswerReachTheCaller(t *testing.T) {
	t.Parallel()
	home, eu := newServer(t), newServer(t)
	home.Always(openaitest.Chat, openaitest.Status(503))
	eu.Always(openaitest.Chat, openaitest.Answer{Trailer: http.Header{"X-Checksum": {"abc"}}, Chunked: true})
	for _, delivery := range []openai.Delivery{openai.FromFirstEvent, openai.Whole, openai.Immediate} {
		tr := overNetwork(t, openai.Config{Delivery: delivery, Targets: []openai.Target{{}, {Name: "eu", BaseURL: eu.URL, Tier: 1}}})
		resp, err := tr.RoundTrip(request(t, t.Context(), http.MethodPost, home.URL+"/chat/completions", streamed))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.Trailer.Get("X-Checksum") != "abc" {
			t.Errorf("%s: %v, trailers %v", delivery, err, resp.Trailer)
		}
	}
}

// An answer without an end can't be kept for the case that all fail: then another's
// stands in for it, or its status as an error.
func TestAFailureWithoutAnEndHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for name, eus := range map[string]openaitest.Answer{
		"the other can't serve either": openaitest.Status(503),
		"the other has no end either":  openaitest.EndlessBody(503),
		"the other refuses":            openaitest.Status(400),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, eu := newServer(t), newServer(t)
			home.Always(openaitest.Chat, openaitest.EndlessBody(503))
			eu.Always(openaitest.Chat, eus)
			tr := overNetwork(t, openai.Config{
				Retry:   retry.Config{MaxAttempts: 2},
				Targets: []openai.Target{{}, {Name: "eu", BaseURL: eu.URL, Tier: 1}},
			})
			began := time.Now()
			resp, err := tr.RoundTrip(request(t, t.Context(), http.MethodPost, home.URL+"/chat/completions", hello))
			if err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode != 503 {
					t.Errorf("the caller gets %d", resp.StatusCode)
				}
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestAPayloadWithoutGetBodyIsSentWholeToEachTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := openai.Config{Targets: homeAndEU()}
		cfg.Targets[1].Models = map[string]string{"m": "llama"}
		for _, key := range []string{"", "an idempotency key"} {
			w := newWorld().at(atHome, busy)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, chatURL, io.NopCloser(strings.NewReader(hello)))
			if err != nil {
				t.Fatal(err)
			}
			if key != "" {
				req.Header.Set("Idempotency-Key", key)
			}
			got := do(t, newChain(t, w, cfg), req)
			if got.status != 200 || w.way() != "home eu" || w.visits[0].body != hello || w.visits[1].body != strings.Replace(hello, `"m"`, `"llama"`, 1) ||
				len(w.visits[1].req.Header["Idempotency-Key"]) != 0 {
				t.Errorf("got %d, %v, went %q with %+v", got.status, got.err, w.way(), w.visits)
			}
		}
	})
}

func TestACallWhoseCallerLeavesGoesNowhereElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left := errors.New("the caller has left")
		w := newWorld().at(atHome, speechless)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		canceled, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(left) })
		if got := do(t, tr, asks(t, canceled)); !errors.Is(got.err, left) && !errors.Is(got.err, context.Canceled) || w.way() != "home" {
			t.Errorf("got %v, went %q", got.err, w.way())
		}
		late, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if got := do(t, tr, asks(t, late)); !errors.Is(got.err, context.DeadlineExceeded) || w.way() != "home home" {
			t.Errorf("got %v, went %q", got.err, w.way())
		}
		if rests := tr.Snapshot().Targets[0].Rests; len(rests) != 0 || tr.Snapshot().Breakers[0].Failures != 0 {
			t.Errorf("home has %+v", tr.Snapshot())
		}
	})
}
