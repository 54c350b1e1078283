package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/retry"
)

func TestAFinalFailureTellsTheSDKToStop(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		mode   SDKRetries
		code   int
		header []string
		want   string
	}{
		"503":                     {StopSDKRetries, 503, nil, "false"},
		"501":                     {StopSDKRetries, 501, nil, "false"},
		"429":                     {StopSDKRetries, 429, []string{"retry-after", "3600"}, "false"},
		"409":                     {StopSDKRetries, 409, nil, "false"},
		"408":                     {StopSDKRetriesAlways, 408, nil, "false"},
		"400, to be retried":      {StopSDKRetries, 400, []string{"x-should-retry", "true"}, "false"},
		"503, to be retried":      {StopSDKRetries, 503, []string{"x-should-retry", "true"}, "false"},
		"400":                     {StopSDKRetries, 400, nil, ""},
		"200":                     {StopSDKRetries, 200, nil, ""},
		"200, to be retried":      {StopSDKRetries, 200, []string{"x-should-retry", "true"}, "true"},
		"503, left alone":         {IgnoreSDKRetries, 503, nil, ""},
		"503, left to be retried": {IgnoreSDKRetries, 503, []string{"x-should-retry", "true"}, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response := stub.Response(row.code, "", row.header...)
			before, kept := response.Header, response.Header.Clone()
			unmarked := response.Header.Get("X-Should-Retry")
			if (&sdkGuard{mode: row.mode}).mark(response, false); response.Header.Get("X-Should-Retry") != unmarked {
				t.Error("a call that was not given up was marked")
			}
			(&sdkGuard{mode: row.mode}).mark(response, true)
			if got := response.Header.Get("X-Should-Retry"); got != row.want {
				t.Errorf("x-should-retry is %q, want %q", got, row.want)
			}
			if fmt.Sprint(before) != fmt.Sprint(kept) {
				t.Errorf("the base's own header became %v", before)
			}
		})
	}
	response := &http.Response{StatusCode: 503}
	(&sdkGuard{}).mark(response, true)
	if response.Header.Get("X-Should-Retry") != "false" {
		t.Error("a response without a header map was not marked")
	}
}

// planted must not be logged.
const planted = "sk-planted"

var retryCounts = []struct {
	value string
	want  bool
}{
	{"0", false},
	{"1", true},
	{"2", true},
	{"17", true},
	{"01", true},
	{"4294967296", true},
	{"", false},
	{"-1", false},
	{"+1", false},
	{"one", false},
	{"1.5", false},
	{" ", false},
	{"00", false},
	{"99999999999999999999999", false},
	{"18700000000000000000A", false},
}

func TestAnSDKsRepetitionGetsOneAttempt(t *testing.T) {
	t.Parallel()
	for _, row := range retryCounts {
		for mode, limits := range map[SDKRetries]bool{StopSDKRetries: true, StopSDKRetriesAlways: true, IgnoreSDKRetries: false} {
			t.Run(fmt.Sprintf("%q, %v", row.value, mode), func(t *testing.T) {
				t.Parallel()
				base := stub.Answers(stub.Reply(503, "", "retry-after", "0"), stub.Reply(200, ""))
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com/v1/models", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Stainless-Retry-Count", row.value)
				ctx, _ := (&sdkGuard{mode: mode}).limit(req.Context(), req.Header)
				req = req.WithContext(ctx)
				response, err := retry.NewTransport(base, retry.Config{}).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if once := base.Calls() == 1; once != (row.want && limits) {
					t.Errorf("one attempt: %v", once)
				}
			})
		}
	}
	if isSDKRetry(nil) {
		t.Error("a request without the header is no repetition")
	}
}

// A lockedBuffer may be written to by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestOneWarningATransport(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	guard := &sdkGuard{logger: slog.New(slog.NewTextHandler(&log, nil))}
	header := http.Header{"X-Stainless-Retry-Count": {"1"}, "Authorization": {"Bearer " + planted}}
	call := func(h http.Header) {
		if ctx, repeated := guard.limit(t.Context(), h); repeated {
			guard.warn(ctx)
		}
	}
	call(http.Header{"X-Stainless-Retry-Count": {"0"}})
	if log.Len() != 0 {
		t.Errorf("logged for a first request: %s", log.String())
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { call(header) })
	}
	wg.Wait()
	text := log.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN") || !strings.Contains(text, "WithMaxRetries(0)") {
		t.Errorf("logged %q", text)
	}
	if strings.Contains(text, planted) {
		t.Errorf("a header was logged: %s", text)
	}
}

func TestABreakersRefusalMayBecomeAResponse(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	open := &breaker.OpenError{Key: "https://api.example.com m", RetryAfter: 1500 * time.Millisecond}
	paused := &LimitError{Key: "https://api.example.com m", RetryAfter: 2 * time.Minute}
	for name, row := range map[string]struct {
		mode   SDKRetries
		ctx    context.Context
		method string
		err    error
		code   int // 0 for the error
		after  string
		says   string
	}{
		"open":                   {StopSDKRetriesAlways, t.Context(), http.MethodPost, open, 503, "2", "circuit_open"},
		"open, for a moment":     {StopSDKRetriesAlways, t.Context(), http.MethodPost, &breaker.OpenError{}, 503, "1", "circuit_open"},
		"open, after attempts":   {StopSDKRetriesAlways, t.Context(), http.MethodPost, &retry.Error{Attempts: 1, Err: open}, 503, "2", "circuit_open"},
		"paused":                 {StopSDKRetriesAlways, t.Context(), http.MethodPost, paused, 429, "120", "rate_limit_exceeded"},
		"HEAD":                   {StopSDKRetriesAlways, t.Context(), http.MethodHead, open, 503, "2", ""},
		"by default":             {StopSDKRetries, t.Context(), http.MethodPost, open, 0, "", ""},
		"left alone":             {IgnoreSDKRetries, t.Context(), http.MethodPost, open, 0, "", ""},
		"another error":          {StopSDKRetriesAlways, t.Context(), http.MethodPost, errors.New("x"), 0, "", ""},
		"the end of the context": {StopSDKRetriesAlways, ended, http.MethodPost, &retry.Error{Err: paused, Cause: context.Canceled}, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(row.ctx, row.method, "https://api.example.com/v1/chat/completions", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := (&sdkGuard{mode: row.mode}).answer(req, row.err)
			if row.code == 0 {
				if response != nil || !errors.Is(err, row.err) {
					t.Errorf("%v, %v", response, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || response.Body.Close() != nil {
				t.Error(err)
			}
			if response.StatusCode != row.code || response.Status != fmt.Sprintf("%d %s", row.code, http.StatusText(row.code)) || response.Request != req {
				t.Errorf("%+v", response)
			}
			if h := response.Header; h.Get("Retry-After") != row.after || h.Get("X-Should-Retry") != "false" || h.Get("Content-Length") != strconv.FormatInt(response.ContentLength, 10) {
				t.Errorf("header %v", h)
			}
			if row.says == "" {
				if len(body) != 0 {
					t.Errorf("body %q", body)
				}
				return
			}
			var said struct {
				Error struct{ Message, Type, Code string }
			}
			if err := json.Unmarshal(body, &said); err != nil || said.Error.Code != row.says || said.Error.Message == "" || said.Error.Type == "" {
				t.Errorf("body %s: %v", body, err)
			}
			if int64(len(body)) != response.ContentLength {
				t.Errorf("%d bytes, Content-Length %d", len(body), response.ContentLength)
			}
		})
	}
}

func TestSDKRetriesHaveNames(t *testing.T) {
	t.Parallel()
	for mode, row := range map[SDKRetries]struct {
		name  string
		valid bool
	}{
		StopSDKRetries:       {"StopSDKRetries", true},
		StopSDKRetriesAlways: {"StopSDKRetriesAlways", true},
		IgnoreSDKRetries:     {"IgnoreSDKRetries", true},
		-1:                   {"SDKRetries(-1)", false},
		3:                    {"SDKRetries(3)", false},
	} {
		if mode.String() != row.name || mode.valid() != row.valid {
			t.Errorf("%v is valid: %v", mode, mode.valid())
		}
	}
}

func FuzzIsSDKRetry(f *testing.F) {
	for _, row := range retryCounts {
		f.Add(row.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		n, ok := new(big.Int).SetString(value, 10)
		want := ok && n.Sign() > 0 && n.IsUint64() && strings.Trim(value, "0123456789") == ""
		if got := isSDKRetry(http.Header{"X-Stainless-Retry-Count": {value}}); got != want {
			t.Errorf("isSDKRetry(%q) = %v", value, got)
		}
	})
}

func FuzzWholeSeconds(f *testing.F) {
	f.Add(int64(0))
	f.Add(int64(-1))
	f.Add(int64(time.Second + 1))
	f.Add(int64(1<<63 - 1))
	f.Fuzz(func(t *testing.T, n int64) {
		got, err := time.ParseDuration(wholeSeconds(time.Duration(n)) + "s")
		if n < 1<<62 && (err != nil || got < time.Second || got < time.Duration(n) || got > max(time.Duration(n), 0)+time.Second) {
			t.Errorf("wholeSeconds(%v) = %v, %v", time.Duration(n), got, err)
		}
	})
}
