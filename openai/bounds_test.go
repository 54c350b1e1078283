package openai_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// What an untrusted provider controls is bounded. SECURITY.md names each bound
// with the test that holds it.

// An endlessBody brings its beginning, and then the same over and over. It
// counts what is read, and ends with its context.
type endlessBody struct {
	ctx         context.Context
	rest, again []byte
	read        *atomic.Int64
}

func (b *endlessBody) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, b.ctx.Err()
	}
	if len(b.rest) == 0 {
		b.rest = b.again
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	b.read.Add(int64(n))
	return n, nil
}

func (b *endlessBody) Close() error { return nil }

func TestWhatIsHeldOfAnEndlessAnswerIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 32<<10)
	for name, row := range map[string]struct {
		status       int
		media        string
		begin, again string
		delivery     openai.Delivery
		most         int64
	}{
		"JSON":                          {200, "application/json", `{"object":"`, long, openai.FromFirstEvent, 16 << 20},
		"a stream of pings":             {200, "text/event-stream", "", "event: ping\ndata: {}\n\n", openai.FromFirstEvent, 1 << 20},
		"a stream of comments":          {200, "text/event-stream", "", ": wait\n\n", openai.FromFirstEvent, 1 << 20},
		"a line of a stream":            {200, "text/event-stream", "data: ", long, openai.FromFirstEvent, 1 << 20},
		"a stream that is wanted whole": {200, "text/event-stream", "", `data: {"choices":[{"index":0,"delta":{"content":"` + long + `"}}]}` + "\n\n", openai.Whole, 64 << 20},
		"an error that is returned":     {400, "application/json", `{"error":{"message":"`, long, openai.FromFirstEvent, 8 << 10},
		"an error that is retried":      {503, "application/json", `{"error":{"message":"`, long, openai.FromFirstEvent, 64<<10 + 8<<10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if row.delivery == openai.Whole && testing.Short() {
				return
			}
			synctest.Test(t, func(t *testing.T) { // a drain has its time on a busy machine too
				var read atomic.Int64
				base := stub.Func(func(req *http.Request) (*http.Response, error) {
					body := &endlessBody{req.Context(), []byte(row.begin), []byte(row.again), &read}
					return &http.Response{StatusCode: row.status, Header: http.Header{"Content-Type": {row.media}}, Body: body, ContentLength: -1}, nil
				})
				tr := newChain(t, base, openai.Config{Delivery: row.delivery, Retry: retry.Config{MaxAttempts: 2, Backoff: at(time.Millisecond)}})
				resp, err := tr.RoundTrip(ask(t, t.Context(), "m"))
				if err != nil {
					t.Fatal(err)
				}
				if n := read.Load(); n > row.most+1 { // which shows that there is more
					t.Errorf("%d bytes were read before the response was returned, want %d at most", n, row.most)
				}
				begin := make([]byte, len(row.begin)+2*len(row.again))
				if _, err := io.ReadFull(resp.Body, begin); err != nil || string(begin) != row.begin+row.again+row.again {
					t.Errorf("it begins with %.40q…, %v", begin, err)
				}
				_ = resp.Body.Close()
			})
		})
	}
}

func TestJSONAbove16MiBPassesThroughWhole(t *testing.T) {
	t.Parallel()
	want := []byte(`{"object":"` + strings.Repeat("x", 17<<20) + `"}`)
	var left *bytes.Reader
	tr := newChain(t, stub.Func(func(*http.Request) (*http.Response, error) {
		left = bytes.NewReader(want)
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(left), ContentLength: int64(len(want))}, nil
	}), openai.Config{})
	resp, err := tr.RoundTrip(ask(t, t.Context(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	if left.Len() < 1<<20 {
		t.Errorf("all but %d bytes were held", left.Len())
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestResponseHeadersAreBounded(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for name, row := range map[string]struct {
			bytes int
			fails bool
		}{"fitting": {512 << 10, false}, "excessive": {2 << 20, true}} {
			t.Run(proto+" "+name, func(t *testing.T) {
				t.Parallel()
				srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Proto != proto {
						t.Errorf("it came by %s", r.Proto)
					}
					for n := range row.bytes >> 10 {
						w.Header().Set("X-Filler-"+strconv.Itoa(n), strings.Repeat("x", 1<<10-50))
					}
				}))
				srv.EnableHTTP2 = proto == "HTTP/2.0"
				srv.StartTLS()
				t.Cleanup(srv.Close)
				base := openai.BaseTransport()
				base.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
				tr := newChain(t, base, openai.Config{Retry: retry.Config{MaxAttempts: 1}})
				got := do(t, tr, request(t, t.Context(), http.MethodGet, srv.URL+"/v1/models", ""))
				if (got.err != nil) != row.fails {
					t.Errorf("%d bytes of headers: %v", row.bytes, got.err)
				}
			})
		}
	}
}

func TestAProviderGetsSoManyAttemptsAndSoMuchTime(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		header   []string
		attempts int
	}{
		"asked to come back at once":   {[]string{"X-Should-Retry", "true", "Retry-After", "0"}, retry.DefaultMaxAttempts},
		"asked to come back later":     {[]string{"X-Should-Retry", "true", "Retry-After", "20"}, retry.DefaultMaxAttempts},
		"for as long as there is time": {[]string{"X-Should-Retry", "true", "Retry-After", "59.9"}, 3},
		"longer than is obeyed":        {[]string{"X-Should-Retry", "true", "Retry-After", "60.1"}, 1},
		"for ever":                     {[]string{"X-Should-Retry", "true", "Retry-After", "9999999999999999999"}, 1},
		"until another age":            {[]string{"X-Should-Retry", "true", "Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start, base := time.Now(), answers(reply(503, "", row.header...))
				got := do(t, newChain(t, base, openai.Config{}), ask(t, t.Context(), "m"))
				if got.status != 503 || base.Calls() != row.attempts {
					t.Errorf("status %d, error %v after %d attempts, want %d", got.status, got.err, base.Calls(), row.attempts)
				}
				if took := time.Since(start); took > retry.DefaultMaxElapsed {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// A lateReader brings its bytes after a while.
type lateReader struct {
	io.Reader

	late time.Duration
}

func (r lateReader) Read(p []byte) (int, error) {
	time.Sleep(r.late)
	return r.Reader.Read(p)
}

func TestMaxElapsedCountsTheTimeThatThePayloadTook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(reply(503, "", "Retry-After", "15"))
		req := ask(t, t.Context(), "m")
		req.Body, req.ContentLength = io.NopCloser(lateReader{iotest.DataErrReader(strings.NewReader(hello)), 10 * time.Second}), -1
		do(t, newChain(t, base, openai.Config{Retry: retry.Config{MaxElapsed: 20 * time.Second}}), req)
		if got := base.Calls(); got != 1 {
			t.Errorf("%d attempts, the second one after MaxElapsed", got)
		}
	})
}

func TestStatusLabelsAreBounded(t *testing.T) {
	t.Parallel()
	status := -10 // HTTP/2 lets a server send any number
	base := stub.Func(func(*http.Request) (*http.Response, error) {
		status++
		return &http.Response{StatusCode: status, Body: http.NoBody}, nil
	})
	reader, provider := newReader()
	tr := newChain(t, base, openai.Config{MeterProvider: provider, DisableBreaker: true, Retry: retry.Config{MaxAttempts: 1}})
	for range 3000 {
		do(t, tr, ask(t, t.Context(), "m"))
	}
	statuses := 0
	for _, s := range collect(t, reader) {
		for _, attr := range []string{"http.response.status_code", "error.type"} {
			n, err := strconv.Atoi(s.attrs[attr])
			if err == nil && (n < 100 || n > 599) {
				t.Fatalf("%s has %s %d", s.name, attr, n)
			}
		}
		if s.attrs["http.response.status_code"] != "" {
			statuses++
		}
	}
	if statuses != 500 {
		t.Errorf("%d statuses are told apart, want those from 100 to 599", statuses)
	}
}

func TestPortLabelsAreBounded(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{MeterProvider: provider, DisableBreaker: true})
	for port := range 1000 {
		do(t, tr, request(t, t.Context(), http.MethodPost, "https://example.com:"+strconv.Itoa(1+port)+"/v1/chat/completions", hello))
	}
	wantFewSeries(t, reader)
}

func TestBreakersAreBounded(t *testing.T) {
	t.Parallel()
	tr := newChain(t, answers(reply(200, `{"ok":true}`)), openai.Config{})
	for n := range 2000 {
		do(t, tr, ask(t, t.Context(), strconv.Itoa(n)))
	}
	if n := len(tr.Snapshot().Breakers); n != 1024 {
		t.Errorf("%d breakers are kept", n)
	}
}

// A base may hold on to a body longer than the call lasts, as net/http does
// when a response comes before the request is sent.
func TestALateReaderOfAPayloadSeesNobodyElses(t *testing.T) {
	t.Parallel()
	payload := func(n int) string {
		return `{"model":"m","input":"` + strings.Repeat(strconv.Itoa(n)+" ", 1000) + `"}`
	}
	var late []io.ReadCloser
	tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
		late = append(late, req.Body)
		return reply(200, `{"ok":true}`).RoundTrip(req)
	}), openai.Config{})
	const calls = 100
	for n := range calls {
		do(t, tr, request(t, t.Context(), http.MethodPost, chatURL, payload(n)))
	}
	for n, body := range late {
		got, err := io.ReadAll(body)
		if want := payload(n); string(got) != want && (err == nil || !strings.HasPrefix(want, string(got))) {
			t.Errorf("call %d: %.60q…, %v", n, got, err)
		}
		_ = body.Close()
	}
	if len(late) != calls {
		t.Errorf("%d attempts", len(late))
	}
}

func TestARefusedHandshakeNeverFallsBackToPlainText(t *testing.T) {
	t.Parallel()
	srv := openaitest.NewTLSServer() // whose certificate nobody trusts
	t.Cleanup(srv.Close)
	got := do(t, overNetwork(t, openai.Config{}), request(t, t.Context(), http.MethodPost, srv.URL+"/chat/completions", hello))
	if got.err == nil || srv.Count(openaitest.Chat) != 0 {
		t.Errorf("%+v, %d requests", got, srv.Count(openaitest.Chat))
	}
}
