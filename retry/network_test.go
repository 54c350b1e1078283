package retry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// quick retries a POST without waiting for long.
var quick = retry.Config{
	Safe:    func(*http.Request) bool { return true },
	Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) },
}

func newServer(t *testing.T) *openaitest.Server {
	t.Helper()
	srv := openaitest.NewServer()
	t.Cleanup(srv.Close)
	return srv
}

// newClient returns a client whose connections nobody else uses.
func newClient(t *testing.T, cfg retry.Config) *http.Client {
	t.Helper()
	transport := retry.NewTransport(&http.Transport{}, cfg)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func post(t *testing.T, client *http.Client, url string, body io.Reader) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/chat/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return client.Do(req)
}

func finish(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestLostConnectionsAreRetriedWithTheSameBytes(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]openaitest.Answer{
		"reset before headers": openaitest.ResetBeforeHeaders(),
		"EOF before headers":   openaitest.EOFBeforeHeaders(),
		"503":                  openaitest.Status(503),
	} {
		for _, body := range []string{"in memory", "opaque"} {
			t.Run(name+", "+body, func(t *testing.T) {
				t.Parallel()
				srv := newServer(t)
				srv.Script(openaitest.Chat, fault, fault)
				payload := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("x", 200_000) + `"}]}`
				var reader io.Reader = strings.NewReader(payload)
				if body == "opaque" {
					reader = io.MultiReader(reader)
				}
				resp, err := post(t, newClient(t, quick), srv.URL, reader)
				if err != nil {
					t.Fatal(err)
				}
				if finish(t, resp); resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
				}
				seen := srv.Requests()
				if len(seen) != 3 {
					t.Fatalf("the server saw %d requests, want 3", len(seen))
				}
				for _, r := range seen {
					if r.Err != nil || !bytes.Equal(r.Body, []byte(payload)) {
						t.Errorf("request %d: %d bytes (%v), want the %d sent", r.Number, len(r.Body), r.Err, len(payload))
					}
				}
			})
		}
	}
}

func TestARefusedConnectionIsRetried(t *testing.T) {
	t.Parallel()
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	var notSent int // of the retries: a first attempt is not watched for nothing
	cfg := quick
	cfg.Policy = func(a *retry.Attempt) retry.Decision {
		if a.NotSent {
			notSent++
		}
		return retry.DefaultPolicy(a)
	}
	resp, err := post(t, newClient(t, cfg), "http://"+closed.Addr().String(), strings.NewReader("{}"))
	if err == nil {
		_ = resp.Body.Close()
	}
	var exhausted *retry.Error
	if !errors.As(err, &exhausted) || exhausted.Attempts != 4 || notSent != 3 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error %v, %d attempts known not to be sent", err, notSent)
	}
}

func TestTwentyCallsWithTwoFailuresEachUseOneConnection(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	client := newClient(t, quick)
	for range 20 {
		srv.Script(openaitest.Chat, openaitest.Status(503), openaitest.Status(500))
		resp, err := post(t, client, srv.URL, strings.NewReader(`{"model":"m","messages":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		finish(t, resp)
	}
	if got := srv.Connections(); got != 1 || srv.Count(openaitest.Chat) != 60 {
		t.Errorf("%d connections for %d requests", got, srv.Count(openaitest.Chat))
	}
}

func TestAnEndlessErrorBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.Script(openaitest.Chat, openaitest.EndlessBody(503))
	resp, err := post(t, newClient(t, quick), srv.URL, strings.NewReader(`{"model":"m","messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, resp)
	if err := srv.Wait(t.Context(), func() bool { return srv.Abandoned() == 1 }); err != nil {
		t.Error(err)
	}
}

// tokens is a base as golang.org/x/oauth2's: it signs a copy of each request.
type tokens struct {
	base http.RoundTripper
	n    int
}

func (s *tokens) RoundTrip(req *http.Request) (*http.Response, error) {
	signed := req.Clone(req.Context())
	s.n++
	signed.Header.Set("Authorization", fmt.Sprintf("Bearer %d", s.n))
	return s.base.RoundTrip(signed)
}

func TestEachAttemptIsSignedAnew(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.Script(openaitest.Chat, openaitest.Status(503), openaitest.Status(502))
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	client := &http.Client{Transport: retry.NewTransport(&tokens{base: base}, quick)}
	resp, err := post(t, client, srv.URL, strings.NewReader(`{"model":"m","messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	finish(t, resp)
	for i, r := range srv.Requests() {
		if got, want := r.Header.Get("Authorization"), fmt.Sprintf("Bearer %d", i+1); got != want {
			t.Errorf("attempt %d carried %q, want %q", i+1, got, want)
		}
	}
}
