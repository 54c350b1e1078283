package openai_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

const (
	streamed = `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}`
	asked    = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
)

// A scene is a provider, and a chain in front of it.
type scene struct {
	*testing.T

	srv    *openaitest.Server
	chain  *openai.Transport
	client *http.Client
}

func newScene(t *testing.T, cfg openai.Config) *scene {
	t.Helper()
	if cfg.Retry.Backoff == nil {
		cfg.Retry.Backoff = func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) }
	}
	srv := openaitest.NewServer()
	t.Cleanup(srv.Close)
	chain := openai.NewTransport(&http.Transport{}, cfg)
	t.Cleanup(func() {
		chain.CloseIdleConnections()
		_ = chain.Close()
	})
	return &scene{t, srv, chain, &http.Client{Transport: chain}}
}

func (s *scene) post(ctx context.Context, path, payload string) *http.Response {
	s.Helper()
	resp, err := s.try(ctx, path, payload)
	if err != nil {
		s.Fatal(err)
	}
	return resp
}

func (s *scene) try(ctx context.Context, path, payload string) (*http.Response, error) {
	s.Helper()
	req, err := retry.NewRequest(ctx, http.MethodPost, s.srv.URL+path, []byte(payload))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return s.client.Do(req)
}

// outcomes returns what the only breaker has counted.
func (s *scene) outcomes() breaker.Totals {
	s.Helper()
	all := s.chain.Snapshot().Breakers
	if len(all) != 1 {
		s.Fatalf("%d breakers, want 1", len(all))
	}
	return all[0].Totals
}

func TestFaultsByDelivery(t *testing.T) {
	t.Parallel()
	good := openaitest.OK()
	whole := func(t *testing.T, payload string) string {
		s := newScene(t, openai.Config{})
		body, err := io.ReadAll(s.post(t.Context(), "/chat/completions", payload).Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	const (
		retried = "retried" // the caller sees the good answer only
		passed  = "passed"  // the caller sees the fault
	)
	wholeStream, wholeJSON := whole(t, streamed), whole(t, asked)
	for name, row := range map[string]struct {
		payload string
		fault   openaitest.Answer
		results [3]string // FromFirstEvent, Immediate, Whole
		err     error     // of reading, where it passed
	}{
		"stream cut before an event":      {streamed, good.CutAfter(0), [3]string{retried, passed, retried}, io.ErrUnexpectedEOF},
		"stream cut after the opener":     {streamed, good.CutAfter(1), [3]string{retried, passed, retried}, io.ErrUnexpectedEOF},
		"stream cut after content":        {streamed, good.CutAfter(3), [3]string{passed, passed, retried}, io.ErrUnexpectedEOF},
		"stream ends after the opener":    {streamed, good.EndAfter(1), [3]string{retried, passed, retried}, openai.ErrTruncated},
		"stream ends after content":       {streamed, good.EndAfter(3), [3]string{passed, passed, retried}, openai.ErrTruncated},
		"stream stalls after content":     {streamed, good.StallAfter(3), [3]string{passed, passed, retried}, openai.ErrStalled},
		"error event after the opener":    {streamed, good.ErrorAfter(1, "server_error", "server_error", "m"), [3]string{retried, passed, retried}, openai.ErrTruncated},
		"error event after content":       {streamed, good.ErrorAfter(3, "server_error", "server_error", "m"), [3]string{passed, passed, retried}, openai.ErrTruncated},
		"corrupt event after the opener":  {streamed, good.CorruptAfter(1), [3]string{retried, passed, retried}, nil},
		"corrupt event after content":     {streamed, good.CorruptAfter(3), [3]string{passed, passed, retried}, nil},
		"JSON cut":                        {asked, good.CutAfter(40), [3]string{retried, passed, retried}, io.ErrUnexpectedEOF},
		"JSON ends early":                 {asked, good.EndAfter(40), [3]string{retried, passed, retried}, io.ErrUnexpectedEOF},
		"JSON corrupt":                    {asked, good.CorruptAfter(40), [3]string{retried, passed, retried}, io.ErrUnexpectedEOF},
		"JSON stalls":                     {asked, good.StallAfter(40), [3]string{retried, passed, retried}, openai.ErrStalled},
		"200 with an error object":        {asked, good.ErrorAfter(0, "server_error", "server_error", "m"), [3]string{retried, passed, retried}, io.ErrUnexpectedEOF},
		"stream answered by error object": {streamed, openaitest.JSON(`{"error":{"code":"server_error"}}`), [3]string{retried, passed, retried}, io.ErrUnexpectedEOF},
	} {
		for mode, want := range row.results {
			t.Run(name+"/"+openai.Delivery(mode).String(), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, openai.Config{Delivery: openai.Delivery(mode), IdleTimeout: 100 * time.Millisecond})
				s.srv.Script(openaitest.Chat, row.fault)
				resp := s.post(t.Context(), "/chat/completions", row.payload)
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				expected := wholeJSON
				if row.payload == streamed {
					expected = wholeStream
				}
				totals := s.outcomes()
				if want == retried {
					if err != nil || string(body) != expected || s.srv.Count(openaitest.Chat) != 2 || totals.Failure != 1 || totals.Success != 1 {
						t.Errorf("after %d requests: %d of %d bytes, error %v, %+v", s.srv.Count(openaitest.Chat), len(body), len(expected), err, totals)
					}
					return
				}
				if !errors.Is(err, row.err) || string(body) == expected || s.srv.Count(openaitest.Chat) != 1 || totals.Failure != 1 || totals.Success != 0 {
					t.Errorf("after %d requests: %d bytes, error %v, %+v", s.srv.Count(openaitest.Chat), len(body), err, totals)
				}
			})
		}
	}
}

func TestNothingIsHeldAfterTheFirstEvent(t *testing.T) {
	t.Parallel()
	s := newScene(t, openai.Config{})
	gate := make(chan struct{})
	answer := openaitest.OK()
	answer.Gate = gate
	s.srv.Script(openaitest.Chat, answer)
	const events = 10 // an opener, seven tokens, the finish, [DONE]
	go func() { gate <- struct{}{}; gate <- struct{}{} }()
	resp := s.post(t.Context(), "/chat/completions", streamed)
	var seen strings.Builder
	buffer := make([]byte, 4096)
	for sent, err := 2, error(nil); err == nil; {
		var n int
		n, err = resp.Body.Read(buffer)
		seen.Write(buffer[:n])
		// The next event is sent only once the last was seen.
		if sent < events && strings.Count(seen.String(), "\n\n") == sent {
			gate <- struct{}{}
			sent++
		}
	}
	if !strings.Contains(seen.String(), "[DONE]") {
		t.Errorf("the stream ended as %q", seen.String())
	}
	_ = resp.Body.Close()
}

func TestErrStalledIsANetError(t *testing.T) {
	t.Parallel()
	var network net.Error
	if !errors.As(openai.ErrStalled, &network) || !network.Timeout() || !errors.Is(openai.ErrTruncated, io.ErrUnexpectedEOF) {
		t.Error("ErrStalled is no net.Error, or ErrTruncated no io.ErrUnexpectedEOF")
	}
}

// An empty 200 brings nothing that could be taken for an answer, however
// orderly it ends.
func TestAnEmptyAnswerIsRetriedWhereOneIsExpected(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		method, path, media, encoding string
		retried                       bool
	}{
		"JSON":                {http.MethodPost, "/v1/chat/completions", "application/json", "", true},
		"a stream":            {http.MethodPost, "/v1/chat/completions", "text/event-stream", "", true},
		"said to be zipped":   {http.MethodPost, "/v1/chat/completions", "application/json", "gzip", true},
		"of no type":          {http.MethodPost, "/v1/chat/completions", "", "", true},
		"of another endpoint": {http.MethodPost, "/v1/audio/speech", "audio/mpeg", "", false},
		"not of a POST":       {http.MethodDelete, "/v1/chat/completions", "application/json", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				chain := openai.NewTransport(stub.Func(func(*http.Request) (*http.Response, error) {
					calls++
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {row.media}, "Content-Encoding": {row.encoding}}, Body: http.NoBody}, nil
				}), openai.Config{Retry: retry.Config{MaxAttempts: 2}})
				req, err := http.NewRequestWithContext(t.Context(), row.method, "https://api.example.com"+row.path, strings.NewReader(asked))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := chain.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				failures := chain.Snapshot().Breakers[0].Totals.Failure
				if len(body) != 0 || (calls == 2) != row.retried || (failures == 2) != row.retried {
					t.Errorf("%d calls, %d failures, %d bytes, %v", calls, failures, len(body), err)
				}
			})
		})
	}
}

func TestErrorsOfBodiesNameTheirType(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{openai.ErrTruncated: "truncated", openai.ErrStalled: "timeout"} {
		var typed interface{ ErrorType() string }
		if !errors.As(err, &typed) || typed.ErrorType() != want {
			t.Errorf("%v is no %s", err, want)
		}
	}
}
