package openai

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/internal/throttle"
	"github.com/retrip-go/retrip/retry"
)

const (
	quotaBody = `{"error":{"message":"sk-planted","type":"insufficient_quota","code":"credit_balance_exhausted"}}`
	limitBody = `{"error":{"message":"sk-planted","type":"requests","code":"rate_limit_exceeded"}}`
)

func TestDecisions(t *testing.T) {
	t.Parallel()
	yes, no := []string{"x-should-retry", "true"}, []string{"x-should-retry", "false"}
	streamError := func(code string) error {
		return &AnswerError{text: "t", Code: code, verdict: inBandVerdict(apiError{code: code}, retry.ReasonStreamError)}
	}
	for name, row := range map[string]struct {
		code   int
		header []string
		body   string
		err    error
		want   retry.Decision
	}{
		"408": {code: 408, want: retry.AfterBackoff(retry.ReasonTimeout)},
		"429": {code: 429, want: retry.AfterBackoff(retry.ReasonRateLimited)},
		"500": {code: 500, want: retry.AfterBackoff(retry.ReasonServerError)},
		"502": {code: 502, want: retry.AfterBackoff(retry.ReasonServerError)},
		"503": {code: 503, want: retry.AfterBackoff(retry.ReasonOverloaded)},
		"504": {code: 504, want: retry.AfterBackoff(retry.ReasonTimeout)},
		"521": {code: 521, want: retry.AfterBackoff(retry.ReasonConnection)},
		"522": {code: 522, want: retry.AfterBackoff(retry.ReasonConnection)},
		"523": {code: 523, want: retry.AfterBackoff(retry.ReasonConnection)},
		"529": {code: 529, want: retry.AfterBackoff(retry.ReasonOverloaded)},

		"200": {code: 200, want: retry.Stop(retry.NotRetryable)},
		"302": {code: 302, want: retry.Stop(retry.NotRetryable)},
		"400": {code: 400, want: retry.Stop(retry.NotRetryable)},
		"402": {code: 402, body: quotaBody, want: retry.Stop(retry.NotRetryable)},
		"409": {code: 409, want: retry.Stop(retry.NotRetryable)},
		"413": {code: 413, want: retry.Stop(retry.NotRetryable)},
		"501": {code: 501, want: retry.Stop(retry.NotRetryable)},
		"520": {code: 520, want: retry.Stop(retry.NotRetryable)},

		"429 for a quota":                    {code: 429, body: quotaBody, want: retry.Stop(retry.StopServerSaysNo)},
		"503 for a quota":                    {code: 503, body: quotaBody, want: retry.Stop(retry.StopServerSaysNo)},
		"a quota goes before x-should-retry": {code: 429, header: yes, body: quotaBody, want: retry.Stop(retry.StopServerSaysNo)},
		"also where that alone would do":     {code: 409, header: yes, body: quotaBody, want: retry.Stop(retry.StopServerSaysNo)},
		"and before a hint":                  {code: 429, header: []string{"retry-after", "1"}, body: quotaBody, want: retry.Stop(retry.StopServerSaysNo)},
		"another code":                       {code: 429, body: limitBody, want: retry.AfterBackoff(retry.ReasonRateLimited)},

		"x-should-retry: false":         {code: 503, header: no, want: retry.Stop(retry.StopServerSaysNo)},
		"false, nothing to retry":       {code: 400, header: no, want: retry.Stop(retry.NotRetryable)},
		"x-should-retry: true, 409":     {code: 409, header: yes, want: retry.AfterBackoff(retry.ReasonServerSaysYes)},
		"x-should-retry: true, 413":     {code: 413, header: yes, want: retry.AfterBackoff(retry.ReasonServerSaysYes)},
		"true, and the status says why": {code: 503, header: yes, want: retry.AfterBackoff(retry.ReasonOverloaded)},
		"true, on a success":            {code: 200, header: yes, want: retry.Stop(retry.NotRetryable)},
		"another value":                 {code: 503, header: []string{"x-should-retry", "perhaps"}, want: retry.AfterBackoff(retry.ReasonOverloaded)},

		"a hint":                {code: 503, header: []string{"retry-after", "2"}, want: retry.After(2*time.Second, retry.ReasonOverloaded)},
		"a hint of 0":           {code: 503, header: []string{"retry-after", "0"}, want: retry.After(0, retry.ReasonOverloaded)},
		"a hint with true":      {code: 409, header: append([]string{"retry-after-ms", "20"}, yes...), want: retry.After(20*time.Millisecond, retry.ReasonServerSaysYes)},
		"an exhausted limit":    {code: 429, header: []string{"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "6m0s"}, want: retry.AfterBackoff(retry.ReasonRateLimited).AtMost(6 * time.Minute)},
		"one beside a 503":      {code: 503, header: []string{"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "6m0s"}, want: retry.AfterBackoff(retry.ReasonOverloaded)},
		"a limit not exhausted": {code: 429, header: []string{"x-ratelimit-remaining-tokens", "1", "x-ratelimit-reset-tokens", "6m0s"}, want: retry.AfterBackoff(retry.ReasonRateLimited)},

		"200, unknown error":              {code: 200, err: streamError("brand_new"), want: retry.AfterBackoff(retry.ReasonStreamError)},
		"200, server_error":               {code: 200, err: streamError("server_error"), want: retry.AfterBackoff(retry.ReasonServerError)},
		"200, 503 as a code":              {code: 200, err: streamError("503"), want: retry.AfterBackoff(retry.ReasonOverloaded)},
		"200, content_filter":             {code: 200, err: streamError("content_filter"), want: retry.Stop(retry.NotRetryable)},
		"200, a quota":                    {code: 200, err: streamError("insufficient_quota"), want: retry.Stop(retry.StopServerSaysNo)},
		"200, x-should-retry: false":      {code: 200, header: no, err: streamError("server_error"), want: retry.Stop(retry.StopServerSaysNo)},
		"200, x-should-retry: true":       {code: 200, header: yes, err: streamError("invalid_image"), want: retry.AfterBackoff(retry.ReasonServerSaysYes)},
		"200, cut off":                    {code: 200, err: &AnswerError{text: "t", verdict: brokenVerdict(retry.ReasonBrokenBody)}, want: retry.AfterBackoff(retry.ReasonBrokenBody)},
		"200, an error of a foreign hook": {code: 200, err: errors.New("x"), want: retry.AfterBackoff(retry.ReasonBrokenBody)},
		"429, one beside it":              {code: 429, body: quotaBody, err: errors.New("x"), want: retry.Stop(retry.StopServerSaysNo)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				response := made(row.code, row.body, row.header...)
				a := attemptWith(t, response, noCancel, row.err)
				defer func() { _ = response.Body.Close() }()
				if got := DefaultPolicy(a); got != row.want {
					t.Errorf("policy = %+v, want %+v", got, row.want)
				}
			})
		})
	}
}

// Pacing learns from it what is limited, and how long a wait is of use at most.
func TestWhatTheHeadersOfARefusalSay(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const requests, tokens = "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Remaining-Tokens"
	const requestsFull, tokensFull = "X-Ratelimit-Reset-Requests", "X-Ratelimit-Reset-Tokens"
	for name, row := range map[string]struct {
		header http.Header
		want   throttle.Refusal
	}{
		"no tokens":          {http.Header{requests: {"5"}, tokens: {"0"}}, throttle.Refusal{Tokens: true}},
		"no requests either": {http.Header{requests: {"0"}, tokens: {"0"}}, throttle.Refusal{}},
		"the longer first":   {http.Header{requests: {"0"}, tokens: {"0"}, requestsFull: {"6m0s"}, tokensFull: {"1s"}}, throttle.Refusal{AtMost: 6 * time.Minute}},
		"the longer last":    {http.Header{requests: {"0"}, tokens: {"0"}, requestsFull: {"1s"}, tokensFull: {"6m0s"}}, throttle.Refusal{AtMost: 6 * time.Minute}},
		"of what is left":    {http.Header{requests: {"1"}, requestsFull: {"6m0s"}}, throttle.Refusal{}},
	} {
		if got := refusalOf(row.header, verdict{}, now); got != row.want {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
	for _, past := range []string{"-5s", now.Add(-time.Hour).Format(time.RFC3339), strconv.FormatInt(now.Add(-time.Hour).Unix(), 10)} {
		if got := parseReset(past, now); got != 0 {
			t.Errorf("%s is over, but is waited for %v", past, got)
		}
	}
}

func TestErrorsOfTheConnectionAreLeftToTheDefaultPolicy(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example.com/v1/chat/completions", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, context.DeadlineExceeded} {
		a := &retry.Attempt{Request: req, Err: err}
		if got, want := DefaultPolicy(a), retry.DefaultPolicy(a); got != want {
			t.Errorf("%v: %+v, want %+v", err, got, want)
		}
	}
}

func TestAPeekedBodyIsReadFromItsFirstByte(t *testing.T) {
	t.Parallel()
	long := `{"error":{"code":"insufficient_quota","message":"` + strings.Repeat("x", 2*maxErrorBytes) + `"}}`
	torn := errors.New("torn")
	for name, row := range map[string]struct {
		body  string
		wrap  func(io.Reader) io.Reader
		found string
		err   error
	}{
		"a short body":    {quotaBody, nil, "credit_balance_exhausted", nil},
		"byte by byte":    {quotaBody, iotest.OneByteReader, "credit_balance_exhausted", nil},
		"data with EOF":   {quotaBody, iotest.DataErrReader, "credit_balance_exhausted", nil},
		"longer than 8 K": {long, nil, "insufficient_quota", nil},
		"HTML":            {"<html>" + long, nil, "", nil},
		"empty":           {"", nil, "", nil},
		"torn":            {quotaBody[:40], func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(torn)) }, "", torn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var reader io.Reader = strings.NewReader(row.body)
				if row.wrap != nil {
					reader = row.wrap(reader)
				}
				response := made(429, "")
				response.Body, response.ContentLength = io.NopCloser(reader), -1
				answer := &errorAnswer{response: response, attempt: noCancel}
				if found := answer.codes(); found.code != row.found {
					t.Errorf("found %+v, want %s", found, row.found)
				}
				body, err := io.ReadAll(response.Body)
				if string(body) != row.body || !errors.Is(err, row.err) {
					t.Errorf("%d bytes, %v; want %d, %v", len(body), err, len(row.body), row.err)
				}
				_ = response.Body.Close()
			})
		})
	}
}

func TestOnlyWhatCouldChangeADecisionIsPeeked(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		response *http.Response
		want     bool
	}{
		"429":                     {made(429, quotaBody), true},
		"529":                     {made(529, quotaBody), true},
		"409, advised":            {made(409, quotaBody, "x-should-retry", "true"), true},
		"409":                     {made(409, quotaBody), false},
		"compressed":              {made(429, quotaBody, "Content-Encoding", "gzip"), false},
		"not compressed, it says": {made(429, quotaBody, "Content-Encoding", "identity"), true},
		"the answer to a HEAD":    {&http.Response{StatusCode: 429, Header: http.Header{}, Body: http.NoBody}, false},
		"a base that misbehaves":  {&http.Response{StatusCode: 429, Header: http.Header{}}, false},
	} {
		before := row.response.Body
		_ = (&errorAnswer{response: row.response, attempt: noCancel}).verdict()
		if _, peeked := row.response.Body.(*prefetch.Body); peeked != row.want || !peeked && row.response.Body != before {
			t.Errorf("%s: peeked %v, want %v", name, peeked, row.want)
		}
	}
}

// A slowBody brings its parts in turn, each after a wait, and ends with its
// context.
type slowBody struct {
	ctx   context.Context
	parts []string
	wait  time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	select {
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	case <-time.After(b.wait):
	}
	if len(b.parts) == 0 {
		<-b.ctx.Done()
		return 0, context.Cause(b.ctx)
	}
	n := copy(p, b.parts[0])
	b.parts = b.parts[1:]
	return n, nil
}

func (b *slowBody) Close() error { return nil }

func TestPeekingWaitsNoLongerThanItMust(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		parts []string
		wait  time.Duration
		took  time.Duration
		found bool
	}{
		"a whole object, then silence": {[]string{quotaBody[:20], quotaBody[20:]}, time.Millisecond, 2 * time.Millisecond, true},
		"no JSON, then silence":        {[]string{" \r\n<html>"}, time.Millisecond, time.Millisecond, false},
		"a body that never comes":      {nil, time.Hour, maxErrorWait, false},
		"one that comes too slowly":    {[]string{quotaBody[:90], quotaBody[90:]}, 200 * time.Millisecond, maxErrorWait, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				response := made(429, "")
				response.Body, response.ContentLength = &slowBody{ctx, row.parts, row.wait}, -1
				start := time.Now()
				found := (&errorAnswer{response: response, attempt: cancelFunc(cancel)}).verdict()
				if took := time.Since(start); took != row.took {
					t.Errorf("it took %v, want %v", took, row.took)
				}
				if found.quota != row.found {
					t.Errorf("found %+v", found)
				}
				_ = response.Body.Close()
				cancel(nil)
			})
		})
	}
}

func TestOutcomesOfErrorStatuses(t *testing.T) {
	t.Parallel()
	limited := []string{"x-ratelimit-remaining-requests", "0", "x-ratelimit-reset-requests", "1m0s"}
	for name, row := range map[string]struct {
		code    int
		body    string
		header  []string
		outcome breaker.Outcome
		hint    time.Duration
	}{
		"429":               {429, limitBody, nil, breaker.Ignored, 0},
		"429 with a hint":   {429, limitBody, []string{"retry-after", "3"}, breaker.Ignored, 0},
		"429 with a reset":  {429, limitBody, limited, breaker.Ignored, 0},
		"429 for a quota":   {429, quotaBody, []string{"retry-after", "3"}, breaker.Ignored, 0},
		"503":               {503, "", nil, breaker.Failure, 0},
		"503 with a hint":   {503, "", []string{"retry-after", "3"}, breaker.Failure, 3 * time.Second},
		"503 with a reset":  {503, "", limited, breaker.Failure, 0},
		"503 for a quota":   {503, quotaBody, nil, breaker.Ignored, 0},
		"408":               {408, "", nil, breaker.Failure, 0},
		"501":               {501, "", nil, breaker.Ignored, 0},
		"400":               {400, "", nil, breaker.Ignored, 0},
		"404, with an hint": {404, "", []string{"retry-after", "3"}, breaker.Ignored, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				response := made(row.code, row.body, row.header...)
				_ = attemptWith(t, response, noCancel, nil)
				outcome, _, hint := observe(response, nil)
				if outcome != row.outcome || hint != row.hint {
					t.Errorf("%v, %v; want %v, %v", outcome, hint, row.outcome, row.hint)
				}
				_ = response.Body.Close()
			})
		})
	}
}

// FuzzPeekError: what is found does not depend on how the bytes come, and all
// of them are there for the reader.
func FuzzPeekError(f *testing.F) {
	for i, row := range errorShapes {
		f.Add([]byte(row.body), i, 0)
	}
	f.Add([]byte(`{"error":{"code":"slow_down","message":"`), 100, maxErrorBytes)
	f.Fuzz(func(t *testing.T, data []byte, size, more int) {
		// What is too long to be read for a code is the reader's all the same.
		data = append(bytes.Clone(data), bytes.Repeat([]byte("x"), more&(2*maxErrorBytes-1))...)
		want := readErrorBody(data[:min(len(data), maxErrorBytes)])
		synctest.Test(t, func(t *testing.T) {
			for _, n := range []int{1 + (size&0x7fffffff)%(len(data)+1), len(data) + 1} {
				response := made(429, "")
				response.ContentLength = -1
				response.Body = &pieces{data, n}
				if found := (&errorAnswer{response: response, attempt: noCancel}).codes(); found != want {
					t.Errorf("%q in pieces of %d: found %+v, want %+v", data, n, found, want)
				}
				body, err := io.ReadAll(response.Body)
				if err != nil || !bytes.Equal(body, data) {
					t.Errorf("%q in pieces of %d: the reader gets %q, %v", data, n, body, err)
				}
				_ = response.Body.Close()
			}
		})
	})
}

func TestAQuotaIsOneRequestAndItsBodyIsIntact(t *testing.T) {
	t.Parallel()
	base := stub.Answers(stub.Reply(429, quotaBody))
	var report retry.Report
	req, err := http.NewRequestWithContext(retry.WithReport(t.Context(), &report), http.MethodGet, "https://api.example.com/v1/models", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	// What a hook does to the body changes nothing of what was found in it.
	wrap := func(a *retry.Attempt) error {
		a.Response.Body = struct{ io.ReadCloser }{a.Response.Body}
		return nil
	}
	response, err := NewTransport(base, Config{Retry: retry.Config{Inspect: wrap}}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != quotaBody {
		t.Errorf("body %q, %v", body, err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	if report.Attempts != 1 || report.Stopped != retry.StopServerSaysNo {
		t.Errorf("%+v", report)
	}
}

func TestTheReasonReachesTheEvent(t *testing.T) {
	t.Parallel()
	base := stub.Answers(stub.Reply(409, "", "x-should-retry", "true", "retry-after", "0"), stub.Reply(529, limitBody), stub.Reply(200, "{}"))
	var reasons []retry.Reason
	cfg := retry.Config{
		Backoff: func() backoff.BackOff { return &backoff.ZeroBackOff{} },
		OnRetry: func(e retry.Event) { reasons = append(reasons, e.Reason) },
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com/v1/models", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := NewTransport(base, Config{Retry: cfg}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if len(reasons) != 2 || reasons[0] != retry.ReasonServerSaysYes || reasons[1] != retry.ReasonOverloaded {
		t.Errorf("reasons %v", reasons)
	}
}
