package openaitest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/retrip-go/retrip/internal/sse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chatCall   = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	streamCall = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
)

func start(t *testing.T, newServer func() *Server) *Server {
	t.Helper()
	srv := newServer()
	t.Cleanup(srv.Close)
	return srv
}

func request(ctx context.Context, t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

func post(ctx context.Context, t *testing.T, srv *Server, path, body string) (*http.Response, error) {
	t.Helper()
	return srv.Client().Do(request(ctx, t, http.MethodPost, srv.URL+path, body))
}

// ask returns status and body, and the error of whichever came to one.
func ask(t *testing.T, srv *Server, path, body string) (status int, answer string, err error) {
	t.Helper()
	resp, err := post(t.Context(), t, srv, path, body)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func countEvents(s string) int {
	var scanner sse.Scanner
	n := 0
	for scanner.Feed([]byte(s)); scanner.Next(); {
		n++
	}
	return n
}

// each runs a test over HTTP/1.1 and over HTTP/2.
func each(t *testing.T, test func(t *testing.T, newServer func() *Server)) {
	t.Helper()
	t.Run("HTTP1", func(t *testing.T) { t.Parallel(); test(t, NewServer) })
	t.Run("HTTP2", func(t *testing.T) { t.Parallel(); test(t, NewTLSServer) })
}

func TestScriptThenHealthy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, newServer func() *Server) {
		srv := start(t, newServer)
		srv.Script(Chat, Status(503), Status(429).With("Retry-After", "1"),
			Error(400, "invalid_request_error", "context_length_exceeded", "too long"), JSON("not JSON"))
		srv.Script(Embeddings, Status(500))
		for i, want := range []struct {
			status int
			body   string
		}{
			{503, `"type":"server_error"`},
			{429, `"code":"rate_limit_exceeded"`},
			{400, `"code":"context_length_exceeded"`},
			{200, "not JSON"},
			{200, DefaultText},
			{200, DefaultText},
		} {
			status, body, err := ask(t, srv, "/chat/completions", chatCall)
			if err != nil || status != want.status || !strings.Contains(body, want.body) {
				t.Errorf("answer %d: %d %s, %v; want %+v", i+1, status, body, err, want)
			}
		}
		if srv.Connections() != 1 {
			t.Errorf("%d connections for sequential calls", srv.Connections())
		}
	})
}

func TestHeadersOfAnswer(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	limited := Status(429).With("Retry-After", "1")
	srv.Script(Chat, limited.With("retry-after-ms", "5").With("Content-Type", "text/plain"), limited)
	for i, want := range []http.Header{
		{"Retry-After": {"1"}, "Retry-After-Ms": {"5"}, "Content-Type": {"text/plain"}, "X-Request-Id": {"req_1"}},
		{"Retry-After": {"1"}, "Retry-After-Ms": nil, "Content-Type": {"application/json"}, "X-Request-Id": {"req_2"}},
	} {
		resp, err := post(t.Context(), t, srv, "/chat/completions", chatCall)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for key := range want {
			if got := resp.Header.Get(key); got != want.Get(key) {
				t.Errorf("answer %d: %s: %q, want %q", i+1, key, got, want.Get(key))
			}
		}
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	expect := func(path string, want int) {
		t.Helper()
		if status, _, err := ask(t, srv, path, chatCall); status != want {
			t.Errorf("%s: %d, %v; want %d", path, status, err, want)
		}
	}
	srv.Always(Chat, Status(503))
	srv.Always(Completions, Status(500))
	srv.Script(Chat, Status(429))
	expect("/chat/completions", 429)
	expect("/chat/completions", 503)
	expect("/chat/completions", 503)
	expect("/completions", 500)
	srv.Reset(Chat)
	expect("/chat/completions", 200)
	expect("/completions", 500)
	srv.Heal()
	expect("/completions", 200)
}

func TestLog(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, newServer func() *Server) {
		srv := start(t, newServer)
		before := time.Now()
		req := request(t.Context(), t, http.MethodPost, srv.URL+"/chat/completions?api-version=1", chatCall)
		req.Header.Set("Authorization", "Bearer secret")
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := srv.Requests()
		if len(got) != 1 || srv.Count(Chat) != 1 || srv.Count(Responses) != 0 {
			t.Fatalf("%d requests, %d chat", len(got), srv.Count(Chat))
		}
		r := got[0]
		if r.Endpoint != Chat || r.Number != 1 || r.Method != http.MethodPost || r.Path != "/v1/chat/completions" ||
			r.Query != "api-version=1" || string(r.Body) != chatCall || r.Err != nil || r.Proto != resp.Proto ||
			r.Header.Get("Authorization") != "Bearer secret" || r.RemoteAddr == "" || r.Time.Before(before.Add(-time.Second)) {
			t.Errorf("%+v", r)
		}
	})
}

func TestNumbersFollowTheScript(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	const calls = 32
	var answers []Answer
	for i := range calls {
		answers = append(answers, Status(400+i))
	}
	srv.Script(Chat, answers...)
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			resp, err := post(t.Context(), t, srv, "/chat/completions", chatCall)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if got, want := resp.Header.Get("X-Request-ID"), "req_"+quote(resp.StatusCode-399); got != want {
				t.Errorf("status %d for %s", resp.StatusCode, got)
			}
		})
	}
	wg.Wait()
	for i, r := range srv.Requests() {
		if r.Number != i+1 {
			t.Errorf("request %d has number %d", i+1, r.Number)
		}
	}
}

func TestFaultsBeforeHeaders(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, newServer func() *Server) {
		srv := start(t, newServer)
		srv.Script(Chat, ResetBeforeHeaders(), EOFBeforeHeaders())
		_, _, reset := ask(t, srv, "/chat/completions", chatCall)
		_, _, eof := ask(t, srv, "/chat/completions", chatCall)
		if reset == nil || eof == nil {
			t.Fatalf("reset: %v; closed: %v", reset, eof)
		}
		if srv.Requests()[0].Proto == "HTTP/1.1" && (!errors.Is(reset, syscall.ECONNRESET) || !errors.Is(eof, io.EOF)) {
			t.Errorf("reset: %v; closed: %v", reset, eof)
		}
		if _, body, err := ask(t, srv, "/chat/completions", chatCall); err != nil || !strings.Contains(body, DefaultText) {
			t.Errorf("after that: %s, %v", body, err)
		}
		if srv.Abandoned() != 0 {
			t.Error("a fault of the server counts as an abandoned request")
		}
	})
}

func TestFaultsOfStreams(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		answer   Answer
		events   int
		contains string
		broken   bool
	}{
		{"whole", OK(), 10, "data: [DONE]\n\n", false},
		{"cut", OK().CutAfter(3), 3, "Hello", true},
		{"cut at once", OK().CutAfter(0), 0, "", true},
		{"cut at the end", OK().CutAfter(99), 10, "data: [DONE]\n\n", true},
		{"cut, compressed", Answer{Gzip: true}.CutAfter(3), 3, "Hello", true},
		{"ended", OK().EndAfter(3), 3, "Hello", false},
		{"error", OK().ErrorAfter(1, "server_error", "", "boom"), 2, `data: {"error":{"message":"boom","type":"server_error","param":null,"code":null}}`, false},
		{"corrupt", OK().CorruptAfter(2), 10, "[DONE]", false},
		{"compressed", Answer{Gzip: true}, 10, "[DONE]", false},
		{"own events", Stream(Event("a", "1\n2"), ": c\n\n", "data: 3\r\n\r\n"), 2, "event: a\ndata: 1\ndata: 2\n\n: c\n\ndata: 3\r\n\r\n", false},
		{"no events", Stream(), 0, "", false},
		{"body instead", JSON(`{"a":1}`), 0, `{"a":1}`, false},
		{"the last fault counts", OK().StallAfter(1).EndAfter(3), 3, "", false},
	}
	each(t, func(t *testing.T, newServer func() *Server) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				srv := start(t, newServer)
				srv.Script(Chat, tt.answer)
				status, body, err := ask(t, srv, "/chat/completions", streamCall)
				if status != 200 || (err != nil) != tt.broken || countEvents(body) != tt.events || !strings.Contains(body, tt.contains) {
					t.Errorf("%d, %v, %d events in %s", status, err, countEvents(body), body)
				}
			})
		}
	})
}

func TestFaultsOfBodies(t *testing.T) {
	t.Parallel()
	const body = `{"id":"chatcmpl-1","object":"x"}`
	tests := []struct {
		name   string
		answer Answer
		body   string
		broken bool
	}{
		{"whole", JSON(body), body, false},
		{"empty", JSON(""), "", false},
		{"chunked", Answer{Body: []byte(body), Chunked: true}, body, false},
		{"compressed", Answer{Body: []byte(body), Gzip: true}, body, false},
		{"cut", JSON(body).CutAfter(10), body[:10], true},
		{"cut, chunked", Answer{Body: []byte(body), Chunked: true}.CutAfter(10), body[:10], true},
		{"ended", JSON(body).EndAfter(10), body[:10], false},
		{"corrupt", JSON(body).CorruptAfter(1), "{" + strings.Repeat("#", len(body)-1), false},
		{"error in a 200", OK().ErrorAfter(0, "server_error", "x", "boom"), `{"error":{"message":"boom","type":"server_error","param":null,"code":"x"}}`, false},
		{"paced", Answer{Body: []byte(body), Pace: time.Millisecond, Delay: time.Millisecond}, body, false},
	}
	each(t, func(t *testing.T, newServer func() *Server) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				srv := start(t, newServer)
				srv.Script(Chat, tt.answer)
				status, got, err := ask(t, srv, "/chat/completions", chatCall)
				if status != 200 || (err != nil) != tt.broken || got != tt.body {
					t.Errorf("%d, %v: %s", status, err, got)
				}
			})
		}
	})
}

func TestResetInTheMiddle(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, newServer func() *Server) {
		srv := start(t, newServer)
		srv.Script(Chat, OK().ResetAfter(2))
		_, _, err := ask(t, srv, "/chat/completions", streamCall)
		if err == nil || srv.Requests()[0].Proto == "HTTP/1.1" && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("error %v", err)
		}
	})
}

func TestStatusWithoutBody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, newServer func() *Server) {
		srv := start(t, newServer)
		for _, want := range []int{204, 304} {
			srv.Script(Chat, Status(want))
			if status, body, err := ask(t, srv, "/chat/completions", chatCall); status != want || body != "" || err != nil {
				t.Errorf("%d: %q, %v", status, body, err)
			}
		}
	})
}

func TestTrailers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, newServer func() *Server) {
		srv := start(t, newServer)
		for _, call := range []string{chatCall, streamCall} {
			srv.Script(Chat, Answer{Trailer: http.Header{"X-Sum": {"1"}}})
			resp, err := post(t.Context(), t, srv, "/chat/completions", call)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || resp.Trailer.Get("X-Sum") != "1" {
				t.Errorf("trailer %v, %v", resp.Trailer, err)
			}
		}
	})
}

func TestGateHoldsEachEvent(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, newServer func() *Server) {
		srv := start(t, newServer)
		gate := make(chan struct{})
		srv.Script(Chat, Answer{Events: []string{"data: 1\n\n", "data: 2\n\n", "data: 3\n\n"}, Gate: gate})
		resp, err := post(t.Context(), t, srv, "/chat/completions", streamCall)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 64)
		for _, want := range []string{"data: 1\n\n", "data: 2\n\n"} {
			gate <- struct{}{}
			if n, err := resp.Body.Read(buf); string(buf[:n]) != want {
				t.Errorf("%q, %v", buf[:n], err)
			}
		}
		close(gate)
		if rest, err := io.ReadAll(resp.Body); string(rest) != "data: 3\n\n" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestKeepAliveWhileSilent(t *testing.T) {
	t.Parallel()
	for _, gz := range []bool{false, true} {
		srv := start(t, NewServer)
		srv.Script(Chat, Answer{KeepAlive: time.Millisecond, Gzip: gz}.StallAfter(0))
		resp, err := post(t.Context(), t, srv, "/chat/completions", streamCall)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, len(": keep-alive\n\n")*3)
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != strings.Repeat(": keep-alive\n\n", 3) {
			t.Errorf("%q, %v", buf, err)
		}
		resp.Body.Close()
	}
}

func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	answers := map[string]Answer{
		"no reply":  StallBeforeHeaders(),
		"delay":     {Delay: time.Hour},
		"pace":      {Pace: time.Hour},
		"gate":      {Gate: make(chan struct{})},
		"stall":     OK().StallAfter(2),
		"endless":   EndlessBody(200),
		"endless 5": EndlessBody(503),
	}
	each(t, func(t *testing.T, newServer func() *Server) {
		for name, answer := range answers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				srv := start(t, newServer)
				srv.Script(Chat, answer)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := srv.Wait(t.Context(), func() bool { return srv.Count(Chat) == 1 }); err != nil {
						t.Error(err)
					}
					cancel()
				})
				resp, err := post(ctx, t, srv, "/chat/completions", streamCall)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if err == nil {
					t.Error("the answer was whole")
				}
				wg.Wait()
				if err := srv.Wait(t.Context(), func() bool { return srv.Abandoned() == 1 }); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

func TestCloseEndsAnswers(t *testing.T) {
	t.Parallel()
	answers := map[string]Answer{
		"no reply": StallBeforeHeaders(),
		"stall":    OK().StallAfter(2),
		"endless":  EndlessBody(200),
	}
	each(t, func(t *testing.T, newServer func() *Server) {
		for name, answer := range answers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				srv := start(t, newServer)
				srv.Script(Chat, answer)
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, _, err := ask(t, srv, "/chat/completions", streamCall); err == nil {
						t.Error("the answer was whole")
					}
				})
				if err := srv.Wait(t.Context(), func() bool { return srv.Count(Chat) == 1 }); err != nil {
					t.Error(err)
				}
				srv.Close()
				wg.Wait()
				srv.Close()
				if srv.Abandoned() != 0 {
					t.Error("the server's end counts as the client's")
				}
			})
		}
	})
}

func TestUploadBrokenOff(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/chat/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		resp, err := srv.Client().Do(req)
		if err == nil {
			resp.Body.Close()
			t.Error("an answer to half a request")
		}
	})
	if _, err := io.WriteString(w, `{"model"`); err != nil {
		t.Error(err)
	}
	if err := srv.Wait(ctx, func() bool { return srv.Connections() == 1 }); err != nil {
		t.Error(err)
	}
	w.CloseWithError(errors.New("no more"))
	wg.Wait()
	if err := srv.Wait(ctx, func() bool { return srv.Abandoned() == 1 }); err != nil {
		t.Error(err)
	}
	if got := srv.Requests(); len(got) != 1 || got[0].Err == nil {
		t.Errorf("%+v", got)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := srv.Wait(ctx, func() bool { return false }); !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestAScriptReplacesWhatIsLeftOfTheOneBefore(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	answers := []Answer{Status(503), Status(504), Status(529)}
	srv.Script(Chat, answers...)
	srv.Script(Embeddings, Status(500))
	answers[0] = Status(418) // the caller's own again
	for _, row := range []struct {
		script []Answer
		want   int
	}{{nil, 503}, {[]Answer{Status(429)}, 429}, {[]Answer{}, 200}} {
		if row.script != nil {
			srv.Script(Chat, row.script...)
		}
		if status, _, err := ask(t, srv, "/chat/completions", chatCall); status != row.want || err != nil {
			t.Errorf("got %d, %v; want %d", status, err, row.want)
		}
	}
	if status, _, err := ask(t, srv, "/embeddings", "{}"); status != 500 || err != nil {
		t.Errorf("the script of another endpoint is gone: %d, %v", status, err)
	}
}

func TestSawFindsATextWhereverARequestButItsBodyHoldsIt(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	for _, row := range []struct {
		query, header, value, body string
		want                       bool
	}{
		{"", "", "", `{"a":"sk-secret"}`, false},
		{"", "Authorization", "Bearer other", "{}", false},
		{"?key=sk-secret", "", "", "{}", true},
		{"", "Authorization", "Bearer sk-secret", "{}", true},
		{"", "X-Sk-Secret", "a", "{}", true},
		{"", "Cookie", "a=b; s=SK-secret", "{}", true},
	} {
		srv.requests = nil
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/chat/completions"+row.query, strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		if row.header != "" {
			req.Header.Set(row.header, row.value)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := srv.Saw("sk-secret"); got != row.want {
			t.Errorf("%+v: %v", row, got)
		}
	}
}

func TestABaseThatTrustsTwoServersReachesBoth(t *testing.T) {
	t.Parallel()
	a, b := start(t, NewTLSServer), start(t, NewTLSServer)
	base := &http.Transport{ForceAttemptHTTP2: true}
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: base}
	Trust(base, a, b, start(t, NewServer))
	for _, srv := range []*Server{a, b} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/models", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Proto != "HTTP/2.0" {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
	}
}
