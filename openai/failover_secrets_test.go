package openai_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// holds reports whether a request shows a text anywhere but in its payload.
func (v visit) holds(text string) bool {
	var shown bytes.Buffer
	_ = v.req.Header.Write(&shown)
	fmt.Fprint(&shown, v.req.URL.String(), v.req.Host, v.req.Trailer)
	return strings.Contains(shown.String(), text)
}

func FuzzNothingOfOneOriginIsSentToAnother(f *testing.F) {
	for _, name := range []string{
		"Authorization", "authorization", "AUTHORIZATION", "Api-Key", "api-key", "X-Api-Key", "X-Goog-Api-Key", "Cookie", "Cookie2", "OpenAI-Organization",
		"OpenAI-Project", "Ocp-Apim-Subscription-Key", "Proxy-Authorization", "X-Amz-Security-Token", "Referer", "Origin", "X-Stainless-Retry-Count",
		"X-Request-Id", "Baggage", "Anthropic-Version", "Idempotency-Key", "Host", "X-Forward-Me", "From", "Forwarded",
	} {
		f.Add(name, "key", 0)
		f.Add(name, "subscription-key", 2)
	}
	f.Fuzz(func(t *testing.T, name, parameter string, kind int) {
		if !isHeader(name) {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			const callers, eus, us = "sk-of-the-caller", "sk-of-eu", "sk-of-us"
			failure := []stub.Func{busy, lostConn, rateLimitedFor("60"), truncated}[uint(kind)%4]
			w := newWorld().at(atHome, failure).at(atEU, failure)
			targets := append(homeAndEU(), openai.Target{
				Name: "us", BaseURL: "https://" + atUS + "/v1?version=2", Tier: 2,
				Authorize: func(req *http.Request) error {
					req.Header.Set("X-Api-Key", us)
					req.URL.Host, req.Host = atEU, atEU // which is put back
					return nil
				},
			})
			targets[1].Header = bearer(eus)
			tr := newChain(t, w, openai.Config{Targets: targets, Breaker: neverOpen})
			req := ask(t, t.Context(), "gpt-4o")
			req.Header[name] = []string{callers}
			req.URL.RawQuery = url.Values{parameter: {callers}}.Encode()
			req.URL.User = url.UserPassword("user", callers)
			req.URL.Fragment = callers
			do(t, tr, req)
			if len(w.visits) < 3 {
				t.Fatalf("went %q", w.way())
			}
			for _, v := range w.visits {
				for host, secret := range map[string]string{atHome: callers, atEU: eus, atUS: us} {
					along := host == atHome && slices.Contains([]string{
						"Content-Type", "Content-Encoding", "Accept", "User-Agent", "Traceparent", "Tracestate", "Idempotency-Key",
					}, textproto.CanonicalMIMEHeaderKey(name))
					if v.host != host && v.holds(secret) && !along {
						t.Errorf("%s got what belongs to %s: %s %v", v.host, host, v.req.URL, v.req.Header)
					}
				}
				if v.req.Host != "" && v.req.Host != v.host {
					t.Errorf("%s got the Host %q", v.host, v.req.Host)
				}
				if v.host != atHome && v.req.URL.User != nil {
					t.Errorf("%s got a user", v.host)
				}
			}
		})
	})
}

func isHeader(name string) bool {
	for _, c := range name {
		if c != '-' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && !slices.Contains([]string{"Expect", "Upgrade", "Trailer", "Content-Type"}, textproto.CanonicalMIMEHeaderKey(name))
}

func TestATargetOfTheSameOriginHasItsOwnCredentialsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy, reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: []openai.Target{{}, {Name: "second account", Header: bearer("second"), Tier: 1}}})
		req := asks(t, t.Context())
		req.Header.Set("Openai-Organization", "org")
		if got := do(t, tr, req); got.status != 200 || len(w.visits) != 2 {
			t.Fatalf("got %d, %v, went %q", got.status, got.err, w.way())
		}
		if v := w.visits[1]; v.holds("home-key") || v.holds("org") || v.req.Header.Get("Authorization") != "Bearer second" || v.req.URL.String() != chatURL {
			t.Errorf("sent %s %v", v.req.URL, v.req.Header)
		}
	})
}

func TestTheCookiesOfAnotherOriginStayOutOfTheCallersJar(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status  int
		targets []openai.Target
	}{
		{200, homeAndEU()},
		{400, homeAndEU()[1:]}, // http.Client's Jar does not ask for the status
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld().at(atHome, busy, reply(200, fine)).
				at(atEU, reply(row.status, fine, "Set-Cookie", "session=eu; Domain=example.com", "Alt-Svc", "h3", "Strict-Transport-Security", "max-age=1", "Clear-Site-Data", "*", "X-Request-Id", "r"))
			jar, _ := cookiejar.New(nil)
			client := &http.Client{Transport: newChain(t, w, openai.Config{Targets: row.targets}), Jar: jar}
			for range 2 {
				resp, err := client.Do(asks(t, t.Context()))
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data"} {
					if resp.Header.Get(name) != "" {
						t.Errorf("%s was handed up with a %d", name, resp.StatusCode)
					}
				}
				_ = resp.Body.Close()
			}
			for _, v := range w.visits {
				if v.req.Header.Get("Cookie") != "" {
					t.Errorf("%s got a cookie", v.host)
				}
			}
		})
	}
}

func TestWhatGoesAlongAndWhatTheTargetSets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		targets := homeAndEU()
		targets[1].Forward = []string{"x-tenant", "authorization"} // the target's own Header is set after what goes along
		targets = append(targets, openai.Target{Name: "us", BaseURL: "https://" + atUS + "/v1", Models: map[string]string{"*": "llama"}, Tier: 2})
		w := newWorld().at(atHome, busy).at(atEU, busy)
		tr := newChain(t, w, openai.Config{Targets: targets})
		req := asks(t, t.Context())
		for _, name := range []string{"Accept", "User-Agent", "Traceparent", "Tracestate", "Idempotency-Key", "X-Tenant", "X-Other"} {
			req.Header.Set(name, name)
		}
		if got := do(t, tr, req); got.status != 200 || w.way() != "home eu us" {
			t.Fatalf("got %d, went %q", got.status, w.way())
		}
		eu, us := w.visits[1], w.visits[2]
		for _, name := range []string{"Accept", "User-Agent", "Traceparent", "Tracestate", "Idempotency-Key", "X-Tenant"} {
			if eu.req.Header.Get(name) != name {
				t.Errorf("%s did not go along", name)
			}
		}
		if eu.req.Header.Get("X-Other") != "" || eu.req.Header.Get("Authorization") != "Bearer eu-key" || eu.body != w.visits[0].body {
			t.Errorf("eu got %v %s", eu.req.Header, eu.body)
		}
		if us.req.Header.Get("Idempotency-Key") != "" || us.req.Header.Get("Authorization") != "" || us.body != `{"messages":[],"model":"llama"}` || us.req.ContentLength != int64(len(us.body)) {
			t.Errorf("us got %v %s, %d bytes", us.req.Header, us.body, us.req.ContentLength)
		}
		if req.Header.Get("Authorization") != "Bearer home-key" || req.URL.String() != chatURL {
			t.Error("the caller's request was changed")
		}
	})
}

func TestTheMessagesOfAnthropicKeepTheirVersionAndBeta(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, reply(529, `{"type":"error","error":{"type":"overloaded_error"}}`)).
			at(atEU, reply(200, `{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}`))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		req := request(t, t.Context(), "POST", origin+"/v1/messages?beta=true&key=secret", `{"model":"claude","messages":[]}`)
		req.Header.Set("Anthropic-Version", "2023-06-01")
		req.Header.Set("Anthropic-Beta", "b")
		req.Header.Set("X-Api-Key", "secret")
		got := do(t, tr, req)
		if got.status != 200 || w.way() != "home eu" {
			t.Fatalf("got %+v, went %q", got, w.way())
		}
		v := w.visits[1]
		if v.req.URL.String() != "https://eu.example.com/v1/messages?beta=true" || v.req.Header.Get("Anthropic-Version") == "" || v.req.Header.Get("Anthropic-Beta") == "" || v.holds("secret") {
			t.Errorf("sent %s %v", v.req.URL, v.req.Header)
		}
	})
}

// Another account of the same origin gets all of the caller's headers. The key still
// stands for the payload that home was sent.
func TestAnIdempotencyKeyStaysBehindARenamingAtTheSameOrigin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy, reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: []openai.Target{{}, {Name: "second", Models: map[string]string{"gpt-4o": "mini"}, Tier: 1}}})
		req := asks(t, t.Context())
		req.Header.Set("Idempotency-Key", "k")
		if got := do(t, tr, req); got.status != 200 || len(w.visits) != 2 {
			t.Fatalf("got %d, %v, went %q", got.status, got.err, w.way())
		}
		first, second := w.visits[0], w.visits[1]
		if first.req.Header.Get("Idempotency-Key") != "k" || second.req.Header.Get("Idempotency-Key") != "" {
			t.Errorf("sent %v, then %v", first.req.Header, second.req.Header)
		}
		if second.req.Header.Get("Authorization") != "Bearer home-key" || second.body != `{"messages":[],"model":"mini"}` {
			t.Errorf("then sent %v %s", second.req.Header, second.body)
		}
	})
}

// An Authorize that waits for its token ends with its call, which says nothing of it.
func TestAnAuthorizeWhoseCallEndsDoesNotRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := true
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: []openai.Target{
			{Name: "signed", BaseURL: "https://" + atEU + "/v1", Authorize: func(req *http.Request) error {
				if slow {
					<-req.Context().Done()
					return errors.New("no token")
				}
				return nil
			}},
			{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us"), Tier: 1},
		}})
		for _, row := range []struct {
			want  error
			until func(context.Context) (context.Context, context.CancelFunc)
		}{
			{context.DeadlineExceeded, func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Second)
			}},
			{context.Canceled, func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Second, cancel)
				return ctx, cancel
			}},
		} {
			for range 5 {
				var report retry.Report
				ctx, cancel := row.until(retry.WithReport(t.Context(), &report))
				if got := do(t, tr, asks(t, ctx)); !errors.Is(got.err, row.want) || len(w.visits) > 0 || report.Attempts > 0 {
					t.Errorf("got %d, %v, went %q, %+v", got.status, got.err, w.way(), report)
				}
				cancel()
			}
		}
		slow = false
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "eu" {
			t.Errorf("got %d, %v, went %q", got.status, got.err, w.way())
		}
	})
}

func TestAnAuthorizeThatFailsSendsNothingAndMovesOn(t *testing.T) {
	t.Parallel()
	for name, authorize := range map[string]func(*http.Request) error{
		"an error": func(*http.Request) error { return errors.New("no token") },
		"a panic":  func(*http.Request) error { panic("no token") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				asked := 0
				w := newWorld()
				tr := newChain(t, w, openai.Config{Targets: []openai.Target{
					{Name: "signed", BaseURL: "https://" + atEU + "/v1", Authorize: func(req *http.Request) error {
						mu.Lock()
						asked++
						mu.Unlock()
						return authorize(req)
					}},
					{Name: "us", BaseURL: "https://" + atUS + "/v1", Header: bearer("us"), Tier: 1},
				}})
				for range 5 {
					var report retry.Report
					if got := do(t, tr, asks(t, retry.WithReport(t.Context(), &report))); got.status != 200 || report.Attempts != 1 {
						t.Errorf("got %d, %v, %+v", got.status, got.err, report)
					}
				}
				if asked != 3 || w.way() != "us us us us us" {
					t.Errorf("asked %d times, went %q", asked, w.way())
				}
				time.Sleep(time.Minute)
				do(t, tr, asks(t, t.Context()))
				if asked != 4 {
					t.Errorf("asked %d times after a minute", asked)
				}
			})
		})
	}
}

func TestAuthorizeSeesWhatWillBeSentAndChangesHeadersOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: []openai.Target{{
			Name: "signed", BaseURL: "https://" + atEU + "/v1", Models: map[string]string{"gpt-4o": "there"},
			Authorize: func(req *http.Request) error {
				body, err := req.GetBody()
				if err != nil || req.Body != nil {
					return errors.New("the payload can't be signed")
				}
				payload, _ := io.ReadAll(body)
				req.Header.Set("X-Signed", req.URL.String()+" "+string(payload))
				req.URL.Path, req.Method, req.Host = "/evil", "GET", "evil.example"
				return nil
			},
		}}})
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 {
			t.Fatalf("got %+v", got)
		}
		v := w.visits[0]
		if v.req.Header.Get("X-Signed") != "https://eu.example.com/v1/chat/completions "+v.body || v.req.URL.Path != "/v1/chat/completions" || v.req.Method != "POST" || v.req.Host != "" ||
			v.body != `{"messages":[],"model":"there"}` {
			t.Errorf("sent %s %s %q %v %s", v.req.Method, v.req.URL, v.req.Host, v.req.Header, v.body)
		}
	})
}

// authenticating is a base that adds credentials, as oauth2.Transport does.
type authenticating struct {
	base  http.RoundTripper
	token string
}

func (a authenticating) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+a.token)
	return a.base.RoundTrip(req)
}

func TestTheIdleConnectionsOfAllBasesAreClosed(t *testing.T) {
	t.Parallel()
	common, own := stub.Answers(reply(200, fine)), stub.Answers(reply(200, fine))
	targets := homeAndEU()
	targets[1].Base = own
	tr := openai.NewTransport(common, openai.Config{Targets: targets})
	tr.CloseIdleConnections()
	if common.Idle() != 1 || own.Idle() != 1 {
		t.Errorf("closed those of the common base %d times, of the target's %d times", common.Idle(), own.Idle())
	}
}

func TestABaseThatAuthenticatesServesItsOwnTargetOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, busy)
		targets := homeAndEU()
		targets[0].Base = authenticating{w, "home-token"}
		tr := newChain(t, w, openai.Config{Targets: targets})
		do(t, tr, asks(t, t.Context()))
		do(t, tr, request(t, t.Context(), "GET", origin+"/v1/models", ""))
		if w.way() != "home eu home home home home" {
			t.Errorf("went %q", w.way())
		}
		for _, v := range w.visits {
			if got := v.req.Header.Get("Authorization"); (got == "Bearer home-token") != (v.host == atHome) {
				t.Errorf("%s got %q", v.host, got)
			}
		}
	})
}

func TestNoSecretOfATargetIsEverTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		const secret = "sk-secret"
		w := newWorld().at(atHome, lostConn).at(atEU, reply(307, "", "Location", "https://x/?key="+secret))
		tr := newChain(t, w, openai.Config{
			Targets: []openai.Target{{}, {BaseURL: "https://" + atEU + "/v1?key=" + secret, Header: bearer(secret), Tier: 1}},
			Logger:  slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		var report retry.Report
		for range 3 {
			got := do(t, tr, asks(t, retry.WithReport(t.Context(), &report)))
			fmt.Fprintln(&told, got.err)
			for _, tried := range report.Tried {
				fmt.Fprintln(&told, tried.Target, tried.Err)
			}
			fmt.Fprintf(&told, "%+v\n", tr.Snapshot())
		}
		if strings.Contains(told.String(), secret) {
			t.Errorf("told:\n%s", told.String())
		}
		if strings.Count(told.String(), "a target redirects") != 1 {
			t.Errorf("a redirect is not warned of once:\n%s", told.String())
		}
	})
}
