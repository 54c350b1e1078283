package openai_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// An outcome is what a caller sees of a call.
type outcome struct {
	status   int
	err      error // which RoundTrip or the body's last Read has matched; nil if none
	requests int   // that the provider has seen
}

// TestWhatHappensWhen tries the rows of the table of that name in the README.
func TestWhatHappensWhen(t *testing.T) {
	t.Parallel()
	well := outcome{status: 200, requests: 2}
	tests := []struct {
		name    string
		stream  bool
		cfg     openai.Config
		answers []openaitest.Answer
		want    outcome
	}{
		{name: "a connection is lost", answers: []openaitest.Answer{openaitest.ResetBeforeHeaders()}, want: well},
		{
			name: "four attempts fail", want: outcome{status: 503, requests: 4},
			answers: slices.Repeat([]openaitest.Answer{openaitest.Status(503)}, 4),
		},
		{name: "a 429 says when to come back", answers: []openaitest.Answer{openaitest.Status(429).With("Retry-After-Ms", "20")}, want: well},
		{
			name: "that is too long", want: outcome{status: 429, requests: 1},
			answers: []openaitest.Answer{openaitest.Status(429).With("Retry-After", "3600")},
		},
		{
			name: "a quota is used up", want: outcome{status: 429, requests: 1},
			answers: []openaitest.Answer{openaitest.Error(429, "insufficient_quota", "insufficient_quota", "")},
		},
		{
			name: "a 200 holds an error", want: well,
			answers: []openaitest.Answer{openaitest.JSON(`{"error":{"message":"overloaded","type":"server_error"}}`)},
		},
		{name: "a 200 is cut", answers: []openaitest.Answer{openaitest.OK().CutAfter(30)}, want: well},
		{name: "a 200 is no JSON", answers: []openaitest.Answer{openaitest.JSON("<html>")}, want: well},
		{
			name: "no 200 is an answer", want: outcome{status: 200, err: new(openai.AnswerError), requests: 4},
			answers: slices.Repeat([]openaitest.Answer{openaitest.JSON("<html>")}, 4),
		},
		{name: "a stream breaks before its first token", stream: true, answers: []openaitest.Answer{openaitest.OK().CutAfter(1)}, want: well},
		{
			name: "a stream's connection is lost later", stream: true, want: outcome{status: 200, err: io.ErrUnexpectedEOF, requests: 1},
			answers: []openaitest.Answer{openaitest.OK().CutAfter(3)},
		},
		{
			name: "a stream ends too early", stream: true, want: outcome{status: 200, err: openai.ErrTruncated, requests: 1},
			answers: []openaitest.Answer{openaitest.OK().EndAfter(3)},
		},
		{
			name: "it is held until it is whole", stream: true, cfg: openai.Config{Delivery: openai.Whole}, want: well,
			answers: []openaitest.Answer{openaitest.OK().CutAfter(3)},
		},
		{
			name: "an answer falls silent", stream: true, cfg: openai.Config{IdleTimeout: 50 * time.Millisecond},
			answers: []openaitest.Answer{openaitest.OK().StallAfter(3)}, want: outcome{status: 200, err: openai.ErrStalled, requests: 1},
		},
	}
	for _, status := range []int{408, 429, 500, 502, 503, 504, 521, 522, 523, 529} {
		tests = append(tests, tests[0])
		added := &tests[len(tests)-1]
		added.name, added.answers = http.StatusText(status), []openaitest.Answer{openaitest.Status(status)}
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := openaitest.NewServer()
			defer srv.Close()
			srv.Script(openaitest.Chat, test.answers...)
			test.cfg.Retry.Backoff = func() backoff.BackOff { return &backoff.ZeroBackOff{} }
			client := openai.NewClient(test.cfg)
			defer client.CloseIdleConnections()
			got := callOnce(t, client, srv, test.stream)
			if got.status != test.want.status || got.requests != test.want.requests || !matches(got.err, test.want.err) {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// Whatever breaks a stream off, its last Read says so, on HTTP/2 too: an answer is
// whole if there is no error.
func TestHalfAnAnswerEndsInAnError(t *testing.T) {
	t.Parallel()
	srv := openaitest.NewTLSServer()
	defer srv.Close()
	srv.Always(openaitest.Chat, openaitest.OK().CutAfter(3)) // resets the request's stream
	base := openai.BaseTransport()
	openaitest.Trust(base, srv)
	transport := openai.NewTransport(base, openai.Config{})
	defer transport.CloseIdleConnections()
	got := callOnce(t, &http.Client{Transport: transport}, srv, true)
	if got.status != 200 || got.err == nil || got.requests != 1 {
		t.Errorf("%+v, want an error of the body of the only request", got)
	}
}

// An outage that lasts ends calls at once, in an error that says when to come back.
func TestAnOutageEndsCallsAtOnce(t *testing.T) {
	t.Parallel()
	srv := openaitest.NewServer()
	defer srv.Close()
	transport := openai.NewTransport(nil, openai.Config{})
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	_ = callOnce(t, client, srv, false)
	transport.Breaker(transport.Snapshot().Breakers[0].Key).Trip()
	got := callOnce(t, client, srv, false)
	var open *breaker.OpenError
	if !errors.As(got.err, &open) || open.RetryAfter <= 0 || got.requests != 1 {
		t.Errorf("%+v, want a *breaker.OpenError with a RetryAfter", got)
	}
}

func callOnce(t *testing.T, client *http.Client, srv *openaitest.Server, stream bool) (got outcome) {
	t.Helper()
	payload := story
	if !stream {
		payload = strings.Replace(story, `"stream":true`, `"stream":false`, 1)
	}
	req, err := retry.NewRequest(t.Context(), http.MethodPost, srv.URL+"/chat/completions", []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err == nil {
		got.status = resp.StatusCode
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	got.err = err
	got.requests = srv.Count(openaitest.Chat)
	return got
}

// matches reports whether err is want; any AnswerError is another.
func matches(err, want error) bool {
	var answer, wanted *openai.AnswerError
	if errors.As(want, &wanted) {
		return errors.As(err, &answer)
	}
	return errors.Is(err, want)
}
