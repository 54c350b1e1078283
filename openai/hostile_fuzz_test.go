package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A keeper is a slog.Handler that keeps what it gets, as it is.
type keeper struct {
	slog.Handler

	texts *[]string
}

func (keeper) Enabled(context.Context, slog.Level) bool { return true }

func (k keeper) Handle(_ context.Context, r slog.Record) error {
	*k.texts = append(*k.texts, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		*k.texts = append(*k.texts, a.Key, a.Value.String())
		return true
	})
	return nil
}

// A crookedBody counts what it has read as it likes.
type crookedBody struct {
	io.Reader

	add int
}

func (b *crookedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	return n + b.add, err
}

// A hostileCall is what a provider, a proxy and a caller may send.
type hostileCall struct {
	method, host, path, model, requestHeader string
	status                                   int
	media, header, value                     string
	body                                     []byte
	length                                   int64
	crooked                                  int
	delivery                                 uint8
}

var (
	hostileHeaders = []string{
		"Retry-After", "Retry-After-Ms", "X-Ratelimit-Reset-Requests", "X-Should-Retry", "Content-Encoding", "Location",
		"Content-Length", "Transfer-Encoding", "Trailer", "X-Request-Id", "Openai-Model", "Set-Cookie",
	}
	hostileValues = []string{
		"", "-1", "NaN", "1e999", "9223372036854775807", "99999999999999999999", "0x1p-2", "\x00\n\x1b[31m", "\xff\xfe", "0001-01-01",
		"Fri, 31 Dec 9999 23:59:59 GMT", "2562047h", "-2562047h", "gzip, gzip", "http://%ff%fe/v1/models", strings.Repeat("9", 1<<20), planted,
	}
	hostileBodies = []string{
		"", "{", "[]", "null", "\xef\xbb\xbf{}", "\x00", "<html>" + planted,
		`{"model":"` + strings.Repeat("é\\u0000\x1b", 300) + `","choices":[],"usage":{"prompt_tokens":1e999,"completion_tokens":-5,"total_tokens":99999999999999999999}}`,
		`{"model":"\xff\ud800","choices":[],"usage":{"prompt_tokens":"7","completion_tokens":9223372036854775808}}`,
		`{"error":{"code":"` + planted + " \x1b\xff" + `","type":["` + planted + `"],"message":"` + planted + `","innererror":{"innererror":{}}}}`,
		`{"error":{"code":1e400,"type":"\u0000"}}`, `{"error":` + strings.Repeat(`{"error":`, 2000),
		"data: {\"choices\":[{\"index\":99999999999,\"delta\":{\"content\":\"x\"}}]}\n\n", "data:" + strings.Repeat("[", 5000) + "\n\n",
		"event: \xff\ndata: \x00\n\nid: \x1b\nretry: 99999999999999999999\n\n", "event: error\ndata: {\"error\":{\"code\":\"" + planted + " \\n\"}}\n\n",
		"data: {\"choices\":[{\"index\":-1,\"delta\":{},\"finish_reason\":\"" + planted + "\\u001b\"}],\"model\":\"\xff\"}\n\ndata: [DONE]\n\n",
	}
	hostileModels = []string{"m", "", "\xff", "a\n\x1b[31m\u202e", strings.Repeat("é", 1<<16), `"\ud800`}
	hostileHosts  = []string{"example.com", "%ff%fe", "\xff", "a b\n", strings.Repeat("h", 1<<16), "[::1%25\x00]:99999", "x:-1"}
	hostilePaths  = []string{"/v1/chat/completions", "/openai/deployments/\xff\n/embeddings", "/v1/responses", "/v1/files", "/" + strings.Repeat("x/", 1000)}
)

func hostileCalls(yield func(hostileCall)) {
	plain := hostileCall{method: "POST", host: "example.com", path: hostilePaths[0], model: "m", status: 200, media: "application/json", header: "X", body: []byte(`{"choices":[]}`), length: -1}
	try := func(change func(*hostileCall)) {
		for delivery := range 3 {
			c := plain
			c.delivery = uint8(delivery)
			change(&c)
			yield(c)
		}
	}
	for _, header := range hostileHeaders {
		for _, value := range hostileValues {
			for _, status := range []int{200, 302, 429, 503} {
				try(func(c *hostileCall) { c.header, c.value, c.status = header, value, status })
			}
		}
	}
	for _, body := range hostileBodies {
		for _, media := range []string{"application/json", "text/event-stream", "", "\xff\x00;", strings.Repeat("x", 1<<20)} {
			for _, status := range []int{200, 429, 500} {
				try(func(c *hostileCall) { c.body, c.media, c.status = []byte(body), media, status })
			}
		}
	}
	for _, status := range []int{-1 << 31, -1, 0, 1, 100, 101, 103, 199, 204, 299, 304, 399, 600, 999, 1<<31 - 1} {
		try(func(c *hostileCall) { c.status = status })
	}
	for _, length := range []int64{-1 << 63, 0, 1, 1 << 20, 1<<63 - 1} {
		for _, crooked := range []int{-1 << 40, -1, 1, 1 << 40} {
			try(func(c *hostileCall) { c.length, c.crooked = length, crooked })
			try(func(c *hostileCall) { c.length, c.crooked, c.status = length, crooked, 503 })
		}
	}
	for _, model := range hostileModels {
		for _, host := range hostileHosts {
			for _, path := range hostilePaths {
				try(func(c *hostileCall) { c.model, c.host, c.path, c.status = model, host, path, 503 })
			}
		}
	}
	for _, method := range []string{"", "GET", "HEAD", "CONNECT", "post", "P\n", "\xff"} {
		try(func(c *hostileCall) { c.method, c.requestHeader = method, "a\x00b" })
	}
}

// isSafe reports whether a text may stand in a log or a label.
func isSafe(text string) bool {
	return utf8.ValidString(text) && !strings.Contains(text, planted) && !strings.ContainsFunc(text, unicode.IsControl)
}

// check makes the call and looks at all that the library says of it.
func (c hostileCall) check(t *testing.T) {
	t.Helper()
	var logged []string
	w := new(witness)
	reader, provider := newReader()
	base := stub.Func(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_ = req.Body.Close()
		}
		resp := &http.Response{
			StatusCode: c.status, Header: http.Header{"Content-Type": {c.media}, c.header: {c.value}}, ContentLength: c.length,
			Trailer: http.Header{c.header: {c.value}}, Status: c.value, Proto: c.value,
		}
		resp.Body = io.NopCloser(io.Reader(bytes.NewReader(c.body)))
		if c.crooked != 0 {
			resp.Body = io.NopCloser(&crookedBody{bytes.NewReader(c.body), c.crooked})
		}
		return resp, nil
	})
	tr := openai.NewTransport(base, openai.Config{
		Delivery: openai.Delivery(c.delivery % 3), MeterProvider: provider, Logger: slog.New(keeper{texts: &logged}),
		Breaker: breaker.Config{FailureThreshold: 1},
		Retry:   retry.Config{OnRetry: func(e retry.Event) { logged = append(logged, e.ErrorType, e.Endpoint, e.DelaySource, string(e.Reason)) }},
	})
	defer func() { _ = tr.Close() }()
	for range 2 {
		body := &stub.Body{Reader: strings.NewReader(`{"model":"` + c.model + `","stream":true,"n":1e999}`)}
		req := (&http.Request{
			Method: c.method, URL: &url.URL{Scheme: "http", Host: c.host, Path: c.path, RawQuery: planted},
			Header: http.Header{"Authorization": {planted}, "X": {c.requestHeader}}, Body: body, ContentLength: -1,
		}).WithContext(trace.ContextWithSpan(context.Background(), talkingSpan{w: w}))
		resp, err := tr.RoundTrip(req)
		if resp != nil {
			_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<24))
			_ = resp.Body.Close()
		}
		if body.Closed() == 0 {
			t.Error("the request's body is open")
		}
		if err != nil && (!isSafe(err.Error()) || len(err.Error()) > 4<<10) {
			t.Errorf("an error of %d bytes: %.200q", len(err.Error()), err)
		}
	}
	checkSaid(t, tr, logged, w, reader)
}

// checkSaid looks at what the library has said: to a log, a span and a meter.
func checkSaid(t *testing.T, tr *openai.Transport, logged []string, w *witness, reader *sdk.ManualReader) {
	t.Helper()
	for _, text := range logged {
		if !isSafe(text) || len(text) > 4<<10 {
			t.Errorf("logged %d bytes: %.200q", len(text), text)
		}
	}
	if text := w.text.String(); !utf8.ValidString(text) || strings.Contains(text, planted) {
		t.Errorf("the span was told %.200q", text)
	}
	for _, s := range collect(t, reader) {
		for key, value := range s.attrs {
			if !utf8.ValidString(value) || len(value) > 128 || strings.Contains(value, planted) {
				t.Errorf("%s of %s is %.200q", key, s.name, value)
			}
		}
	}
	for _, b := range tr.Snapshot().Breakers {
		if !utf8.ValidString(b.Key) || len(b.Key) > 2<<10 || b.Probes != 0 {
			t.Errorf("%d probes of %.200q", b.Probes, b.Key)
		}
	}
}

// FuzzHostile: whatever a provider, a proxy or a caller sends, a call ends,
// nothing panics, no body stays open, and what the library says of it is valid,
// bounded, printable where a person reads it, and holds no secret.
func FuzzHostile(f *testing.F) {
	hostileCalls(func(c hostileCall) {
		f.Add(c.method, c.host, c.path, c.model, c.requestHeader, c.status, c.media, c.header, c.value, c.body, c.length, c.crooked, c.delivery)
	})
	f.Fuzz(func(t *testing.T, method, host, path, model, requestHeader string, status int, media, header, value string, body []byte, length int64, crooked int, delivery uint8) {
		c := hostileCall{method, host, path, model, requestHeader, status, media, header, value, body, length, crooked, delivery}
		synctest.Test(t, func(t *testing.T) {
			defer time.AfterFunc(24*time.Hour, func() { panic("the call does not end") }).Stop()
			c.check(t)
		})
	})
}

// Over the network, by net/http's own client, which follows redirects.
func TestHostileBytesOverTheNetworkAreSaidNowhere(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, raw := range map[string][]string{
		"a redirect to no UTF-8":      {"HTTP/1.1 302 Found\r\nLocation: http://%ff%fe/v1/models\r\nContent-Length: 0\r\n\r\n", ok + "Content-Length: 2\r\n\r\n{}"},
		"a redirect to control bytes": {"HTTP/1.1 307 \x1b\r\nLocation: //a%0a%1b.example.com:99999/\r\nContent-Length: 0\r\n\r\n"},
		"redirects without end":       {"HTTP/1.1 308 X\r\nLocation: /planted\r\nContent-Length: 0\r\n\r\n"},
		"a header of 1 MiB":           {ok + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"},
		"a header of control bytes":   {ok + "X: planted\x00\x1b\r\n\r\n{}"},
		"a folded header":             {ok + "Retry-After: 1\r\n planted\r\n\r\n{}"},
		"a status that is none":       {"HTTP/1.1 2x0 planted\r\n\r\n"},
		"a status of 999":             {"HTTP/1.1 999 planted\xff\r\nContent-Length: 7\r\n\r\nplanted"},
		"no HTTP":                     {"220 planted ESMTP \x1b\xff\r\n"},
		"HTTP/9.9":                    {"HTTP/9.9 200 planted\r\n\r\n"},
		"a length too large":          {ok + "Content-Length: 9223372036854775807\r\n\r\n{}"},
		"a length too small":          {ok + "Content-Length: 1\r\n\r\n{}"},
		"two lengths":                 {ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}"},
		"a negative length":           {ok + "Content-Length: -planted\r\n\r\n{}"},
		"chunks that are none":        {ok + "Transfer-Encoding: chunked\r\n\r\nplanted\r\n"},
		"a chunk too large":           {ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}"},
		"trailers":                    {ok + "Trailer: Retry-After, X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nRetry-After: planted\r\nX: " + strings.Repeat("\xff", 1<<10) + "\r\n\r\n"},
		"informational without end":   {strings.Repeat("HTTP/1.1 103 planted\r\nLink: x\r\n\r\n", 1000)},
		"gzip that is none":           {ok + "Content-Encoding: gzip\r\n\r\nplanted"},
		"a smuggled answer":           {ok + "Content-Length: 2\r\n\r\n{}HTTP/1.1 200 planted\r\nContent-Length: 7\r\n\r\nplanted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged []string
			w := new(witness)
			reader, provider := newReader()
			base := openai.BaseTransport()
			address := rawServer(t, raw)
			base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			tr := newChain(t, base, openai.Config{
				MeterProvider: provider, Logger: slog.New(keeper{texts: &logged}),
				Retry: retry.Config{Backoff: at(time.Millisecond)}, Breaker: breaker.Config{FailureThreshold: 1},
			})
			for range 2 {
				req := request(t, trace.ContextWithSpan(t.Context(), talkingSpan{w: w}), http.MethodGet, "http://example.com/v1/models?"+planted, "")
				resp, err := (&http.Client{Transport: tr}).Do(req)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}
			checkSaid(t, tr, logged, w, reader)
		})
	}
}

// rawServer answers one connection after the other with raw bytes, the last of
// which it repeats.
func rawServer(t *testing.T, raw []string) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		wait.Wait()
	})
	wait.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, raw[min(n, len(raw)-1)])
			}
			_ = conn.Close()
		}
	})
	return listener.Addr().String()
}
