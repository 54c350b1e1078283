package openai_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// What fails on the caller's side shuts nobody out, whether it is streamed or
// read beforehand, watched by the retry layer or by the breaker.
func TestARequestThatCannotBeSentShutsNobodyOut(t *testing.T) {
	t.Parallel()
	broken := func(r *http.Request, length int64, body io.Reader) {
		r.Body, r.GetBody, r.ContentLength = io.NopCloser(body), nil, length
	}
	for name, spoil := range map[string]func(*http.Request){
		"a line end in a header": func(r *http.Request) { r.Header.Set("Authorization", "Bearer x\n") },
		"a space in a header":    func(r *http.Request) { r.Header["a b"] = []string{"c"} },
		"a body that fails":      func(r *http.Request) { broken(r, -1, iotest.ErrReader(errors.New("the disk is gone"))) },
		"a body that fails later": func(r *http.Request) {
			broken(r, 100, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrNoProgress)))
		},
		"a body too large": func(r *http.Request) {
			broken(r, -1, http.MaxBytesReader(nil, io.NopCloser(strings.NewReader(hello)), 5))
		},
		"a body that is too short": func(r *http.Request) { broken(r, 1000, io.MultiReader(strings.NewReader(hello))) },
		"a body that is too long":  func(r *http.Request) { broken(r, 5, io.MultiReader(strings.NewReader(hello))) },
		"bytes that are too many":  func(r *http.Request) { broken(r, 5, strings.NewReader(hello)) },
	} {
		for _, path := range []string{"/chat/completions", "/files"} {
			// The server may answer what it was told of before net/http finds more.
			mayBeAnswered := strings.Contains(name, "too long") || strings.Contains(name, "too many")
			t.Run(name+", "+path, func(t *testing.T) {
				t.Parallel()
				srv := newServer(t)
				tr := overNetwork(t, openai.Config{
					Breaker: breaker.Config{FailureThreshold: 1},
					Retry:   retry.Config{MaxAttempts: 2, Backoff: at(time.Millisecond)},
				})
				post := func(spoil func(*http.Request)) error {
					req := request(t, t.Context(), http.MethodPost, srv.URL+path, hello)
					req.Header.Set("Content-Type", "application/json")
					spoil(req)
					return do(t, tr, req).err
				}
				for range 5 {
					if err := post(spoil); err == nil && !mayBeAnswered {
						t.Fatal("it was sent")
					}
				}
				if err := post(func(*http.Request) {}); err != nil {
					t.Errorf("the others: %v", err)
				}
				for _, b := range tr.Snapshot().Breakers {
					if b.Totals.Failure != 0 || b.State != breaker.Closed {
						t.Errorf("%+v", b)
					}
				}
			})
		}
	}
}

func TestWaitingForTheConnectionPoolIsNobodysFailure(t *testing.T) {
	t.Parallel()
	served, release := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(served)
		<-release
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	t.Cleanup(srv.Close)
	base := openai.BaseTransport()
	base.MaxConnsPerHost = 1
	first := make(chan error, 1)
	go func() {
		resp, err := base.RoundTrip(request(t, t.Context(), http.MethodGet, srv.URL+"/v1/models", ""))
		if err == nil {
			_ = resp.Body.Close()
		}
		first <- err
	}()
	<-served
	tr := newChain(t, base, openai.Config{
		Breaker: breaker.Config{FailureThreshold: 1}, Retry: retry.Config{MaxAttempts: 1, AttemptTimeout: 50 * time.Millisecond},
	})
	got := do(t, tr, request(t, t.Context(), http.MethodGet, srv.URL+"/v1/models", ""))
	close(release)
	if got.err == nil || !strings.Contains(got.err.Error(), "MaxConnsPerHost") {
		t.Errorf("error %v", got.err)
	}
	if totals := tr.Snapshot().Breakers[0].Totals; totals.Ignored != 1 || totals.Failure != 0 {
		t.Errorf("%+v", totals)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestACallWhoseOwnFailureOpensTheBreakerWaitsForNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]stub.Func{"a response": reply(503, "busy"), "an error": lost(io.EOF)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(answer)
				tr := newChain(t, base, openai.Config{Breaker: breaker.Config{FailureThreshold: 1}, Retry: retry.Config{Backoff: at(time.Second)}})
				var report retry.Report
				start := time.Now()
				got := do(t, tr, ask(t, retry.WithReport(t.Context(), &report), "m"))
				if time.Since(start) != 0 || len(base.Payloads()) != 1 || report.Stopped != retry.StopRejected {
					t.Errorf("%d requests in %v, stopped for %q", len(base.Payloads()), time.Since(start), report.Stopped)
				}
				if got.status != 503 && got.err != io.EOF { //nolint:errorlint // the same value
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestACallThatTheBreakerRefusesWaitsForNoPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newChain(t, answers(reply(429, "slow down", "Retry-After", "20"), reply(200, `{"ok":true}`)), openai.Config{})
		do(t, tr, ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"))
		b := tr.Breaker(tr.Snapshot().Breakers[0].Key)
		b.Trip()
		start := time.Now()
		wantOpen(t, do(t, tr, ask(t, t.Context(), "m")).err)
		if time.Since(start) != 0 {
			t.Errorf("refused after %v", time.Since(start))
		}
		b.Reset()
		if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 200 || time.Since(start) < 20*time.Second {
			t.Errorf("%+v after %v: the pause was not waited out", got, time.Since(start))
		}
	})
}

func TestOneFailureIsTheErrorOfTheBase(t *testing.T) {
	t.Parallel()
	for name, req := range map[string]*http.Request{
		"not to be repeated": request(t, t.Context(), http.MethodPost, origin+"/v1/files", hello),
		"one attempt":        ask(t, retry.WithMaxAttempts(t.Context(), 1), "m"),
	} {
		tr := newChain(t, answers(lost(io.EOF)), openai.Config{})
		if got := do(t, tr, req); got.err != io.EOF { //nolint:errorlint // the same value
			t.Errorf("%s: %#v", name, got.err)
		}
	}
}

func TestAnEndpointThatIsNotThereShutsOutNoOther(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusNotImplemented, http.StatusInternalServerError} {
		synctest.Test(t, func(t *testing.T) {
			tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
				if strings.HasSuffix(req.URL.Path, "/embeddings") {
					return reply(code, "no")(req)
				}
				return reply(200, `{"ok":true}`)(req)
			}), openai.Config{})
			for range 10 {
				got := do(t, tr, request(t, t.Context(), http.MethodPost, origin+"/v1/embeddings", `{"model":"m"}`))
				if code == http.StatusNotImplemented && got.status != code {
					t.Errorf("%+v", got)
				}
				time.Sleep(time.Second)
			}
			if got := do(t, tr, ask(t, t.Context(), "m")); got.status != 200 {
				t.Errorf("after %d: %+v", code, got)
			}
		})
	}
}

// What another attempt would be told, too.
func TestAServerThatDemandsACertificateIsAskedOnce(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			srv.TLS = &tls.Config{MinVersion: version, MaxVersion: version, ClientAuth: tls.RequireAnyClientCert}
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.StartTLS()
			t.Cleanup(srv.Close)
			base := openai.BaseTransport()
			trust, ok := srv.Client().Transport.(*http.Transport)
			if !ok {
				t.Fatal("no transport")
			}
			base.TLSClientConfig.RootCAs = trust.TLSClientConfig.RootCAs
			_ = wantOneAttempt(t, base, srv.URL+"/v1/models")
		})
	}
}

func TestAProxyThatAsksForCredentialsIsAskedOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(proxy.Close)
	base := openai.BaseTransport()
	base.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	err := wantOneAttempt(t, base, "https://api.example.com/v1/models")
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if err == nil || !strings.Contains(err.Error(), "HTTPS_PROXY") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}

func wantOneAttempt(t *testing.T, base http.RoundTripper, url string) error {
	t.Helper()
	tr := newChain(t, base, openai.Config{Retry: retry.Config{Backoff: at(time.Millisecond)}})
	var report retry.Report
	got := do(t, tr, request(t, retry.WithReport(t.Context(), &report), http.MethodGet, url, ""))
	if got.err == nil || report.Attempts != 1 {
		t.Errorf("%d attempts: %+v", report.Attempts, got)
	}
	var wrapped *retry.Error
	if errors.As(got.err, &wrapped) {
		t.Errorf("the base's error was wrapped: %v", got.err)
	}
	return got.err
}

func TestTheMarkForSDKsIsOnlyOnACallThatWasGivenUp(t *testing.T) {
	t.Parallel()
	messages := func(ctx context.Context) *http.Request {
		return request(t, ctx, http.MethodPost, origin+"/anthropic/threads/t1/messages", hello)
	}
	chat := func(ctx context.Context) *http.Request { return ask(t, ctx, "m") }
	quota := reply(429, `{"error":{"code":"insufficient_quota"}}`)
	for name, row := range map[string]struct {
		cfg    openai.Config
		make   func(context.Context) *http.Request
		answer stub.Func
		marked bool
	}{
		"retried":               {openai.Config{}, chat, reply(503, "busy"), true},
		"retried, another code": {openai.Config{}, chat, reply(529, "busy"), true},
		"no budget":             {openai.Config{Retry: retry.Config{Budget: retry.NewBudget(0, 0)}}, chat, reply(503, "busy"), true},
		"no time":               {openai.Config{Retry: retry.Config{MaxElapsed: time.Nanosecond}}, chat, reply(503, "busy"), true},
		"too long a wait":       {openai.Config{}, chat, reply(503, "busy", "Retry-After", "3600"), true},
		"an open breaker":       {openai.Config{Breaker: breaker.Config{FailureThreshold: 1}}, chat, reply(503, "busy"), true},
		"MaxAttempts 1":         {openai.Config{Retry: retry.Config{MaxAttempts: 1}}, chat, reply(503, "busy"), false},
		"WithMaxAttempts 1":     {openai.Config{}, func(ctx context.Context) *http.Request { return chat(retry.WithMaxAttempts(ctx, 1)) }, reply(503, "busy"), false},
		"not retried here":      {openai.Config{}, messages, reply(529, "busy"), false},
		"not retryable here":    {openai.Config{}, chat, reply(409, "conflict"), false},
		"a policy":              {openai.Config{Retry: retry.Config{Policy: func(*retry.Attempt) retry.Decision { return retry.Stop(retry.StopPolicy) }}}, chat, reply(503, "busy"), false},
		"a quota":               {openai.Config{}, chat, quota, true},
		"a quota, one attempt":  {openai.Config{Retry: retry.Config{MaxAttempts: 1}}, chat, quota, false},
		"a quota, not retried":  {openai.Config{}, messages, quota, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newChain(t, answers(row.answer), row.cfg)
				resp, err := tr.RoundTrip(row.make(t.Context()))
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if got := resp.Header.Get("X-Should-Retry") == "false"; got != row.marked {
					t.Errorf("marked: %v", got)
				}
			})
		})
	}
}
