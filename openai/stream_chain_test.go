package openai_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

const (
	roleEvent  = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	tokenEvent = `data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}` + "\n\n"
	endEvent   = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
	comment    = ": alive\n\n"
)

// A part of a body comes after a silence.
type part struct {
	after time.Duration
	text  string
}

// timed is a base whose every answer is a stream of parts, in virtual time.
func timed(parts ...part) stub.Func {
	return func(req *http.Request) (*http.Response, error) {
		reader, writer := io.Pipe()
		go func() {
			for _, p := range parts {
				timer := time.NewTimer(p.after)
				select {
				case <-timer.C:
				case <-req.Context().Done():
					timer.Stop()
					_ = writer.CloseWithError(req.Context().Err())
					return
				}
				if _, err := writer.Write([]byte(p.text)); err != nil {
					return
				}
			}
			_ = writer.Close()
		}()
		return &http.Response{
			StatusCode: 200, ContentLength: -1, Body: reader,
			Header: http.Header{"Content-Type": {"text/event-stream"}},
		}, nil
	}
}

func chatRequest(ctx context.Context, t *testing.T) *http.Request {
	t.Helper()
	req, err := retry.NewRequest(ctx, http.MethodPost, "https://api.openai.com/v1/chat/completions", []byte(streamed))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// once turns retries off.
var once = retry.Config{MaxAttempts: 1}

func TestTimeLimitsOfAStream(t *testing.T) {
	t.Parallel()
	keepAlive := []part{{0, roleEvent + tokenEvent}}
	for range 20 {
		keepAlive = append(keepAlive, part{4 * time.Minute, comment})
	}
	keepAlive = append(keepAlive, part{time.Minute, endEvent + doneEvent})
	comments := []part{}
	for range 20 {
		comments = append(comments, part{time.Second, comment})
	}
	for name, row := range map[string]struct {
		cfg   openai.Config
		parts []part
		err   error
		limit string // that ended it, if it is none of the errors
		took  time.Duration
	}{
		"comments keep a stream alive":                      {openai.Config{}, keepAlive, nil, "", 81 * time.Minute},
		"silence ends a stream":                             {openai.Config{}, []part{{0, tokenEvent}, {6 * time.Minute, endEvent}}, openai.ErrStalled, "", 5 * time.Minute},
		"the limit may be set":                              {openai.Config{IdleTimeout: time.Second}, []part{{0, tokenEvent}, {2 * time.Second, endEvent}}, openai.ErrStalled, "", time.Second},
		"the limit may be off":                              {openai.Config{IdleTimeout: -1}, []part{{0, tokenEvent}, {24 * time.Hour, endEvent}}, nil, "", 24 * time.Hour},
		"thinking for ten minutes is no silence":            {openai.Config{}, []part{{10 * time.Minute, tokenEvent + endEvent}}, nil, "", 10 * time.Minute},
		"thinking after the role is no silence":             {openai.Config{}, []part{{0, roleEvent}, {10 * time.Minute, tokenEvent + endEvent}}, nil, "", 10 * time.Minute},
		"FirstEventTimeout counts before the first event":   {openai.Config{FirstEventTimeout: 10 * time.Second}, []part{{0, roleEvent}, {11 * time.Second, tokenEvent}}, nil, "FirstEventTimeout", 10 * time.Second},
		"comments do not reset FirstEventTimeout":           {openai.Config{FirstEventTimeout: 10 * time.Second}, comments, nil, "FirstEventTimeout", 10 * time.Second},
		"FirstEventTimeout is over after the first event":   {openai.Config{FirstEventTimeout: 10 * time.Second}, []part{{9 * time.Second, tokenEvent}, {time.Minute, endEvent}}, nil, "", 69 * time.Second},
		"FirstEventTimeout without IdleTimeout":             {openai.Config{FirstEventTimeout: 10 * time.Second, IdleTimeout: -1}, []part{{9 * time.Second, tokenEvent}, {time.Hour, endEvent}}, nil, "", time.Hour + 9*time.Second},
		"IdleTimeout does not count before the first event": {openai.Config{IdleTimeout: time.Second}, []part{{0, comment}, {time.Minute, tokenEvent + endEvent}}, nil, "", time.Minute},
	} {
		for _, mode := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole} {
			t.Run(name+"/"+mode.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cfg := row.cfg
					cfg.Delivery, cfg.Retry = mode, once
					cfg.Retry.MaxElapsed = -1
					start := time.Now()
					resp, err := openai.NewTransport(timed(row.parts...), cfg).RoundTrip(chatRequest(t.Context(), t))
					if err != nil {
						t.Fatal(err)
					}
					_, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if took := time.Since(start); took != row.took {
						t.Errorf("took %v, want %v", took, row.took)
					}
					switch {
					case row.limit != "":
						var timeout interface{ Timeout() bool }
						if !errors.As(err, &timeout) || !timeout.Timeout() || !strings.Contains(err.Error(), row.limit) {
							t.Errorf("error %v, want %s", err, row.limit)
						}
					case !errors.Is(err, row.err):
						t.Errorf("error %v, want %v", err, row.err)
					}
				})
			})
		}
	}
}

// A limit is neither late nor early, whoever reads when.
// Another attempt at the same place would multiply the wait, and may be billed twice.
func TestAFirstEventTimeoutIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		silent := timed(part{0, comment + roleEvent}, part{time.Hour, tokenEvent})
		tr := openai.NewTransport(stub.Func(func(req *http.Request) (*http.Response, error) {
			requests++
			return silent(req)
		}), openai.Config{FirstEventTimeout: 10 * time.Second})
		resp, err := tr.RoundTrip(chatRequest(t.Context(), t))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil || requests != 1 {
			t.Errorf("%d requests, %v", requests, err)
		}
	})
}

func TestFirstEventTimeoutCountsTheTimeInReads(t *testing.T) {
	t.Parallel()
	comments := func(n int, every time.Duration) (parts []part) {
		for range n {
			parts = append(parts, part{every, comment})
		}
		return parts
	}
	for name, row := range map[string]struct {
		parts []part
		pause time.Duration // of the reader, before each Read
		took  time.Duration
	}{
		"a reader who is always there":       {[]part{{time.Hour, tokenEvent}}, 0, 10 * time.Second},
		"comments until the very instant":    {comments(100, 5*time.Second), 0, 10 * time.Second},
		"a reader who comes late":            {[]part{{time.Hour, tokenEvent}}, time.Minute, 70 * time.Second},
		"a reader who was away when it came": {[]part{{15 * time.Second, tokenEvent + endEvent}}, time.Minute, 2 * time.Minute},
		"a reader who waits and is away":     {[]part{{14 * time.Second, comment}, {time.Hour, tokenEvent}}, 8 * time.Second, 26 * time.Second},
		"a reader who is away now and then":  {[]part{{0, comment}, {0, comment}, {time.Hour, tokenEvent}}, 8 * time.Second, 34 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				tr := newChain(t, timed(row.parts...), openai.Config{Delivery: openai.Immediate, FirstEventTimeout: 10 * time.Second, Retry: once})
				resp, err := tr.RoundTrip(chatRequest(t.Context(), t))
				if err != nil {
					t.Fatal(err)
				}
				for buffer := make([]byte, 1024); err == nil; {
					time.Sleep(row.pause)
					_, err = resp.Body.Read(buffer)
				}
				if took := time.Since(start); took != row.took {
					t.Errorf("ended with %v after %v, want %v", err, took, row.took)
				}
				_ = resp.Body.Close()
			})
		})
	}
}

func TestASlowReaderIsNoSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := timed(part{0, tokenEvent}, part{time.Second, tokenEvent}, part{time.Second, endEvent})
		resp, err := openai.NewTransport(base, openai.Config{IdleTimeout: time.Minute}).RoundTrip(chatRequest(t.Context(), t))
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 1024)
		for err == nil {
			time.Sleep(time.Hour)
			_, err = resp.Body.Read(buffer)
		}
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		_ = resp.Body.Close()
	})
}

func TestRoundTripReturnsAfter30SecondsWithoutAUsefulEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		base := timed(part{0, roleEvent}, part{time.Minute, tokenEvent}, part{0, endEvent})
		resp, err := openai.NewTransport(base, openai.Config{}).RoundTrip(chatRequest(t.Context(), t))
		if err != nil || time.Since(start) != 30*time.Second {
			t.Fatalf("error %v after %v", err, time.Since(start))
		}
		body, err := io.ReadAll(resp.Body)
		if string(body) != roleEvent+tokenEvent+endEvent || err != nil || time.Since(start) != time.Minute {
			t.Errorf("body %q, error %v, after %v", body, err, time.Since(start))
		}
		_ = resp.Body.Close()
	})
}

func TestWhatCompletesAStream(t *testing.T) {
	t.Parallel()
	second := strings.ReplaceAll(tokenEvent, `"index":0`, `"index":1`)
	secondEnd := strings.ReplaceAll(endEvent, `"index":0`, `"index":1`)
	filter := `data: {"choices":[{"index":0,"content_filter_results":{"hate":{"filtered":false}}}]}` + "\n\n"
	response := func(typ string) string { return `data: {"type":"response.` + typ + `"}` + "\n\n" }
	for name, row := range map[string]struct {
		endpoint, body string
		complete       bool
	}{
		"[DONE]":                      {"chat/completions", tokenEvent + doneEvent, true},
		"[DONE] without blank line":   {"chat/completions", tokenEvent + "data: [DONE]", true},
		"a finish_reason":             {"chat/completions", tokenEvent + endEvent, true},
		"neither":                     {"chat/completions", tokenEvent, false},
		"one choice of two":           {"chat/completions?n=2", tokenEvent + second + endEvent, false},
		"one choice, counted on":      {"chat/completions", tokenEvent + second + endEvent, true}, // as TGI does
		"both choices":                {"chat/completions?n=2", tokenEvent + second + secondEnd + endEvent, true},
		"filter results at the end":   {"chat/completions?n=2", tokenEvent + second + secondEnd + endEvent + filter, true}, // of Azure
		"completions":                 {"completions", `data: {"choices":[{"index":0,"text":"x","finish_reason":"length"}]}` + "\n\n", true},
		"completions cut":             {"completions", `data: {"choices":[{"index":0,"text":"x","finish_reason":null}]}` + "\n\n", false},
		"response.completed":          {"responses", response("output_text.delta") + response("completed"), true},
		"response.incomplete":         {"responses", response("output_text.delta") + response("incomplete"), true},
		"response.failed":             {"responses", response("output_text.delta") + response("failed"), true},
		"a response cut":              {"responses", response("output_text.delta"), false},
		"no event at all":             {"chat/completions", "", false},
		"comments only":               {"chat/completions", comment, false},
		"a shape that is not known":   {"chat/completions", "data: {\"token\":\"x\"}\n\n", true},
		"text that is no JSON":        {"chat/completions", "data: hello\n\n", true},
		"an endpoint that is unknown": {"generate", tokenEvent, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := stub.Func(func(*http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader(row.body)),
					Header: http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}},
				}, nil
			})
			payload := streamed
			path, two := strings.CutSuffix(row.endpoint, "?n=2")
			if two {
				payload = strings.Replace(payload, "{", `{"n":2,`, 1)
			}
			req := request(t, t.Context(), http.MethodPost, "http://x/v1/"+path, payload)
			resp, err := openai.NewTransport(base, openai.Config{Retry: once}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if string(body) != row.body || errors.Is(err, openai.ErrTruncated) == row.complete || row.complete && err != nil {
				t.Errorf("read %q, error %v", body, err)
			}
		})
	}
}

func TestStreamsThatDieOpenTheBreaker(t *testing.T) {
	t.Parallel()
	const rounds = breaker.DefaultFailureThreshold // streams that die together are one failure
	for _, parallel := range []int{1, 5} {
		for _, healthy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d at a time, healthy %v", parallel, healthy), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					parts := []part{{100 * time.Millisecond, tokenEvent}, {time.Second, tokenEvent}}
					if healthy {
						parts = append(parts, part{0, doneEvent})
					}
					chain := openai.NewTransport(timed(parts...), openai.Config{})
					var wait sync.WaitGroup
					for range parallel {
						wait.Go(func() {
							for range rounds {
								resp, err := chain.RoundTrip(chatRequest(t.Context(), t))
								if err != nil {
									return
								}
								_, _ = io.ReadAll(resp.Body)
								_ = resp.Body.Close()
							}
						})
					}
					wait.Wait()
					want := breaker.Open
					if healthy {
						want = breaker.Closed
					}
					if got := chain.Snapshot().Breakers[0]; got.State != want {
						t.Errorf("after %d streams: %+v", rounds*parallel, got)
					}
				})
			})
		}
	}
}

func TestAbandonedStreamsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	s := newScene(t, openai.Config{})
	calls := 1000
	if testing.Short() {
		calls = 100
	}
	endless := openaitest.OK().StallAfter(4)
	s.srv.Always(openaitest.Chat, endless)
	work := make(chan int)
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for n := range work {
				ctx, cancel := context.WithCancel(t.Context())
				resp, err := s.try(ctx, "/chat/completions", streamed)
				if err != nil {
					t.Error(err)
					cancel()
					continue
				}
				_, _ = resp.Body.Read(make([]byte, 64))
				if n%2 == 0 {
					cancel()
					_, _ = io.ReadAll(resp.Body)
				}
				_ = resp.Body.Close()
				cancel()
			}
		})
	}
	for n := range calls {
		work <- n
	}
	close(work)
	wait.Wait()
	if err := s.srv.Wait(t.Context(), func() bool { return s.srv.Abandoned() == calls }); err != nil {
		t.Errorf("the provider saw %d of %d leave: %v", s.srv.Abandoned(), calls, err)
	}
	if got := s.outcomes(); got.Failure != 0 || s.chain.Snapshot().Breakers[0].State != breaker.Closed {
		t.Errorf("the breaker was hurt: %+v", got)
	}
}

func TestAnAbandonedProbeGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fail := true
		stream := timed(part{0, roleEvent}, part{time.Hour, tokenEvent})
		chain := openai.NewTransport(stub.Func(func(req *http.Request) (*http.Response, error) {
			if fail {
				return nil, io.ErrUnexpectedEOF
			}
			return stream(req)
		}), openai.Config{Retry: once})
		for range 5 {
			_, _ = chain.RoundTrip(chatRequest(t.Context(), t))
			time.Sleep(apart)
		}
		fail = false
		time.Sleep(31 * time.Second)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if resp, err := chain.RoundTrip(chatRequest(ctx, t)); !errors.Is(err, context.DeadlineExceeded) && resp == nil {
				t.Errorf("error %v: the place of the probe is not free", err)
			} else if resp != nil {
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			cancel()
		}
		if got := chain.Snapshot().Breakers[0]; got.State != breaker.HalfOpen || got.Probes != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAStreamTooLargeToHoldIsHandedOver(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		return
	}
	event := []byte("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + strings.Repeat("y", 32<<10) + "\"},\"finish_reason\":null}]}\n\n")
	const events = 70 << 20 / (32 << 10)
	sent := 0
	base := stub.Func(func(*http.Request) (*http.Response, error) {
		reader, writer := io.Pipe()
		go func() {
			for range events {
				if _, err := writer.Write(event); err != nil {
					return
				}
				sent += len(event)
			}
			_, _ = writer.Write([]byte(doneEvent))
			_ = writer.Close()
		}()
		return &http.Response{
			StatusCode: 200, ContentLength: -1, Body: reader, Header: http.Header{"Content-Type": {"text/event-stream"}},
		}, nil
	})
	resp, err := openai.NewTransport(base, openai.Config{Delivery: openai.Whole}).RoundTrip(chatRequest(t.Context(), t))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil || n != int64(events*len(event)+len(doneEvent)) || sent != events*len(event) {
		t.Errorf("read %d bytes, error %v", n, err)
	}
}

func TestWhatIsNotUnderstoodPassesUnharmed(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]openaitest.Answer{
		"compressed stream": {Gzip: true},
		"trailers":          {Trailer: http.Header{"X-Sum": {"1"}}},
		"206":               {Status: 206, Body: []byte(`{"choi`)},
	} {
		for _, server := range []func() *openaitest.Server{openaitest.NewServer, openaitest.NewTLSServer} {
			for _, mode := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole} {
				srv := server()
				t.Cleanup(srv.Close)
				base := srv.Client().Transport
				read := func(over http.RoundTripper) (string, *http.Response) {
					srv.Script(openaitest.Chat, answer)
					req, err := retry.NewRequest(t.Context(), http.MethodPost, srv.URL+"/chat/completions", []byte(streamed))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Accept-Encoding", "identity")
					resp, err := over.RoundTrip(req)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					body, err := io.ReadAll(resp.Body)
					if err = errors.Join(err, resp.Body.Close()); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					return string(body), resp
				}
				want, bare := read(base)
				got, resp := read(openai.NewTransport(base, openai.Config{Delivery: mode}))
				if got != want || resp.StatusCode != bare.StatusCode || resp.Proto != bare.Proto || len(resp.Trailer) != len(bare.Trailer) {
					t.Errorf("%s over %s: %d bytes, want %d; trailers %v, want %v", name, resp.Proto, len(got), len(want), resp.Trailer, bare.Trailer)
				}
			}
		}
	}
}

func TestHEADPassesUnharmed(t *testing.T) {
	t.Parallel()
	for _, server := range []func() *openaitest.Server{openaitest.NewServer, openaitest.NewTLSServer} {
		srv := server()
		t.Cleanup(srv.Close)
		chain := openai.NewTransport(srv.Client().Transport, openai.Config{})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, srv.URL+"/models", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := chain.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if len(body) != 0 || err != nil || resp.Request != req || chain.Snapshot().Breakers[0].Totals.Failure != 0 {
			t.Errorf("%d with %d bytes, error %v", resp.StatusCode, len(body), err)
		}
	}
}
