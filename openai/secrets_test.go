package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// quiet keeps what goes to otel.Handle off the terminal.
var quiet = sync.OnceFunc(func() { otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) })

func texts(attrs []attribute.KeyValue) map[string]string {
	all := make(map[string]string, len(attrs))
	for _, a := range attrs {
		all[string(a.Key)] = a.Value.Emit()
	}
	return all
}

// A witness takes down all that the library says.
type witness struct {
	mu   sync.Mutex
	text bytes.Buffer
	said map[string]bool // by which channel
}

func (w *witness) say(channel, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == nil {
		w.said = make(map[string]bool)
	}
	w.said[channel] = true
	fmt.Fprintf(&w.text, channel+": "+format+"\n", args...)
}

func (w *witness) Write(line []byte) (int, error) {
	w.say("log", "%s", line)
	return len(line), nil
}

func (w *witness) error(err error) {
	for ; err != nil; err = errors.Unwrap(err) {
		w.say("error", "%v | %+v | %#v", err, err, err.Error())
	}
}

// A talkingSpan is a recording span whose events the witness hears.
type talkingSpan struct {
	noop.Span

	w *witness
}

func (talkingSpan) IsRecording() bool { return true }

func (s talkingSpan) AddEvent(name string, options ...trace.EventOption) {
	config := trace.NewEventConfig(options...)
	s.w.say("span", "%s %v", name, texts(config.Attributes()))
}

// planted is in every secret: in the key, headers, prompt, query, password,
// and in what the provider says, which often repeats them.
const planted = "planted"

func TestSecretsAppearNowhere(t *testing.T) {
	t.Parallel()
	quiet()
	echo := `{"error":{"message":"Incorrect API key provided: sk-planted-key, in planted-prompt","type":"server_error","code":null}}`
	delta := `data: {"choices":[{"index":0,"delta":{"content":"planted-answer"},"finish_reason":null}]}` + "\n\n"
	stream := []string{"Content-Type", "text/event-stream"}
	cut := func(s string) func() io.Reader {
		return func() io.Reader { return io.MultiReader(strings.NewReader(s), errReader{io.ErrUnexpectedEOF}) }
	}
	for name, row := range map[string]struct {
		base   http.RoundTripper
		cfg    openai.Config
		change func(*http.Request)
		calls  int
		status int // 0 = an error
	}{
		"503 to exhaustion":    {base: answers(reply(503, echo)), status: 503},
		"401":                  {base: answers(reply(401, echo)), status: 401},
		"a hint too long":      {base: answers(reply(429, echo, "Retry-After", "600")), status: 429},
		"the breaker is open":  {base: answers(reply(500, echo)), cfg: openai.Config{Breaker: breaker.Config{FailureThreshold: 1}}, calls: 3},
		"lost connections":     {base: answers(lost(io.EOF))},
		"a refused connection": {base: refused(t), change: func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", "127.0.0.1:1" }},
		"an invalid config":    {base: answers(reply(200, "")), cfg: openai.Config{Retry: retry.Config{MaxAttempts: -1}}},
		"an invalid breaker":   {base: answers(reply(200, "")), cfg: openai.Config{Breaker: breaker.Config{MaxProbes: -1}}},
		"a body too short":     {base: answers(reply(200, "")), change: func(r *http.Request) { r.ContentLength++ }},
		"a body too long":      {base: answers(reply(200, "")), change: func(r *http.Request) { r.ContentLength-- }},
		"a body that cannot be read": {base: answers(reply(200, "")), change: func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(r.Body, errReader{errors.New("disk error")}))
		}},
		"a payload that is streamed": {base: answers(reply(503, echo)), cfg: openai.Config{Retry: retry.Config{MaxReplayBytes: 4}}, status: 503},
		"a malformed header": {base: refused(t), change: func(r *http.Request) {
			r.Header.Set("X-Secret", "planted\nheader")
		}},
		"a malformed scheme":    {base: refused(t), change: func(r *http.Request) { r.URL.Scheme = "ftp" }},
		"an error in a 200":     {base: answers(reply(200, echo)), status: 200},
		"no JSON":               {base: answers(reply(200, `{"planted-answer":`)), status: 200},
		"a cut answer":          {base: answers(replyWith(200, cut(`{"planted-answer":`), 100)), status: 200},
		"an error in a stream":  {base: answers(reply(200, "data: "+echo+"\n\n", stream...)), status: 200},
		"a stream that is cut":  {base: answers(replyWith(200, cut(delta), -1, stream...)), status: 200},
		"a stream that is junk": {base: answers(reply(200, "data: {planted-answer\n\n", stream...)), status: 200},
		"a rejecting base":      {base: answers(lost(&openai.LimitError{Key: "k", RetryAfter: time.Second}))},
		"an end during a wait": {
			base: answers(reply(503, echo)), cfg: openai.Config{Retry: retry.Config{Backoff: at(time.Hour), MaxElapsed: -1}},
			change: func(r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				time.AfterFunc(10*time.Millisecond, cancel)
				*r = *r.WithContext(ctx)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w witness
			reader, provider := newReader()
			cfg := row.cfg
			cfg.MeterProvider = provider
			cfg.Logger = slog.New(slog.NewJSONHandler(&w, &slog.HandlerOptions{Level: slog.LevelDebug}))
			cfg.Retry.OnRetry = func(e retry.Event) {
				e.Context = nil
				w.say("event", "%+v", e)
			}
			cfg.Breaker.OnStateChange = func(c breaker.StateChange) { w.say("change", "%+v", c) }
			if cfg.Retry.Backoff == nil {
				cfg.Retry.Backoff = at(time.Millisecond)
			}
			if cfg.Retry.MaxRetryAfter == 0 && name == "a rejecting base" {
				cfg.Retry.MaxElapsed = 1500 * time.Millisecond
			}
			tr := newChain(t, row.base, cfg)
			for range max(row.calls, 1) {
				var report retry.Report
				ctx := trace.ContextWithSpan(retry.WithReport(t.Context(), &report), talkingSpan{w: &w})
				url := "https://user:planted-password@api.example.com/v1/chat/completions?key=planted-query&planted=1"
				req := request(t, ctx, http.MethodPost, url, `{"model":"m","messages":[{"role":"user","content":"planted-prompt"}]}`)
				req.Header.Set("Authorization", "Bearer sk-planted-key")
				req.Header.Set("Api-Key", "planted-azure-key")
				req.Header.Set("Openai-Organization", "planted-organization")
				if row.change != nil {
					row.change(req)
				}
				resp, err := tr.RoundTrip(req)
				if err == nil {
					_, err := io.Copy(io.Discard, resp.Body)
					w.error(err)
					_ = resp.Body.Close()
					if row.status != 0 && resp.StatusCode != row.status {
						t.Errorf("status %d, want %d", resp.StatusCode, row.status)
					}
				} else if row.status != 0 {
					t.Errorf("error %v, want status %d", err, row.status)
				}
				w.error(err)
				w.error(report.Err)
				report.Err = nil
				w.say("report", "%+v", report)
			}
			for _, s := range collect(t, reader) {
				w.say("metric", "%s %v", s.name, s.attrs)
			}
			snapshot, err := json.Marshal(tr.Snapshot())
			if err != nil {
				t.Error(err)
			}
			w.say("snapshot", "%s", snapshot)

			for line := range strings.Lines(w.text.String()) {
				if strings.Contains(line, planted) {
					t.Errorf("a secret is out: %s", line)
				}
			}
			for channel, when := range map[string]bool{
				"metric": row.cfg.Validate() == nil && row.change == nil,
				"log":    name == "503 to exhaustion" || name == "the breaker is open",
				"event":  name == "503 to exhaustion" || name == "lost connections",
				"span":   name == "503 to exhaustion" || name == "the breaker is open",
				"change": name == "the breaker is open",
				"error":  row.status == 0 || row.status >= 400,
			} {
				if when && !w.said[channel] {
					t.Errorf("nothing was said by %s: the test is deaf", channel)
				}
			}
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// refused is a real transport that finds nobody on the other side.
func refused(t *testing.T) http.RoundTripper {
	t.Helper()
	tr := openai.BaseTransport()
	tr.Proxy = nil
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	dialer := new(net.Dialer)
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, closed.Addr().String())
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}
