package openai_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

const streamOutcomes = "retrip.client.stream.outcomes"

// A blockedBody brings what it has, and then blocks until it is closed.
type blockedBody struct {
	text   string
	closed chan struct{}
	lost   chan struct{} // blocks the return after that, if it is not nil
}

func (b *blockedBody) Read(p []byte) (int, error) {
	if b.text != "" {
		n := copy(p, b.text)
		b.text = b.text[n:]
		return n, nil
	}
	<-b.closed
	return 0, errors.New("read on a closed body")
}

func (b *blockedBody) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
		if b.lost != nil {
			<-b.lost // the Read returns before Close does
		}
	}
	return nil
}

// What ends a Read because the caller closed the body beside it is the
// caller's doing, for the breaker, the stream's and the operation's metrics.
func TestCloseBesideReadIsNoFaultOfTheProvider(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ contentType, text string }{
		"stream": {"text/event-stream", roleEvent + tokenEvent},
		"JSON":   {"application/json", `{"object":`},
	} {
		for _, req := range []string{"Close", "Request.Cancel", "context"} {
			t.Run(name+"/"+req, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					body := &blockedBody{text: row.text, closed: make(chan struct{}), lost: make(chan struct{})}
					base := stub.Func(func(*http.Request) (*http.Response, error) {
						return &http.Response{StatusCode: 200, ContentLength: -1, Body: body, Header: http.Header{"Content-Type": {row.contentType}}}, nil
					})
					reader, provider := newReader()
					tr := newChain(t, base, openai.Config{Delivery: openai.Immediate, MeterProvider: provider})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					over := make(chan struct{})
					call := ask(t, ctx, "m")
					call.Cancel = over //nolint:staticcheck // SA1019: callers may use it still
					resp, err := tr.RoundTrip(call)
					if err != nil {
						t.Fatal(err)
					}
					go func() {
						_, _ = io.Copy(io.Discard, resp.Body)
						close(body.lost)
					}()
					synctest.Wait()
					switch req {
					case "Request.Cancel":
						close(over)
					case "context":
						cancel()
					}
					_ = resp.Body.Close()
					data := collect(t, reader)
					want := "-"
					if req == "context" && data.count(inferenceDuration, "error.type", "canceled") == 1 {
						want = "canceled" // the Read may be first to tell
					}
					if data.count(inferenceDuration, "error.type", want) != 1 || data.count(inferenceDuration) != 1 {
						t.Errorf("operations %+v", data.with(inferenceDuration))
					}
					if got := tr.Snapshot().Breakers[0].Totals; got.Failure != 0 {
						t.Errorf("the breaker counted %+v", got)
					}
					if name == "stream" && (data.sum(streamOutcomes) != 1 || data.sum(streamOutcomes, "retrip.stream.outcome", "closed_by_caller") != 1) {
						t.Errorf("streams %+v", data.with(streamOutcomes))
					}
				})
			})
		}
	}
}

// An answer that says that it failed, or is not whole, is no success, whatever
// HTTP makes of it.
func TestAnAnswerThatFailedIsAFailedOperation(t *testing.T) {
	t.Parallel()
	const stream = "text/event-stream"
	for name, row := range map[string]struct {
		contentType, body string
		close             bool
		want              string
	}{
		"a good answer":                   {"application/json", `{"ok":true,"error":null}`, false, "-"},
		"an empty error":                  {"application/json", `{"ok":true,"error":""}`, false, "-"},
		"an error object":                 {"application/json", `{"error":{"code":"x"}}`, false, "stream_error"},
		"an error text":                   {"application/json", `{"error":"x"}`, false, "stream_error"},
		"half a JSON value":               {"application/json", `{"ok":`, false, "truncated"},
		"an object that ends as an array": {"application/json", `{"ok":1]`, false, "truncated"},
		"a stream":                        {stream, tokenEvent + endEvent + doneEvent, false, "-"},
		"a stream's empty error":          {stream, tokenEvent + strings.ReplaceAll(endEvent, `{"choices`, `{"error":"","choices`), false, "-"},
		"an error event":                  {stream, tokenEvent + `data: {"error":{"code":"x"}}` + "\n\n" + doneEvent, false, "stream_error"},
		"an error event, then closed":     {stream, tokenEvent + `data: {"error":{"code":"x"}}` + "\n\n" + tokenEvent, true, "stream_error"},
		"a stream that is cut":            {stream, tokenEvent, false, "truncated"},
		"a stream without an event":       {stream, comment, false, "truncated"},
		"a stream closed before its end":  {stream, tokenEvent + doneEvent + comment, true, "-"},
	} {
		for _, mode := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole} {
			for _, known := range []int64{-1, int64(len(row.body))} {
				for _, disabled := range []bool{false, true} {
					if row.close && mode == openai.Whole {
						continue // which has read it all
					}
					reader, provider := newReader()
					tr := newChain(t, answers(replyWith(200, func() io.Reader { return strings.NewReader(row.body) }, known, "Content-Type", row.contentType)),
						openai.Config{Retry: once, Delivery: mode, MeterProvider: provider, DisableBreaker: disabled})
					resp, err := tr.RoundTrip(ask(t, t.Context(), "m"))
					if err != nil {
						t.Fatal(name, err)
					}
					if row.close {
						_, _ = io.ReadFull(resp.Body, make([]byte, len(row.body)-1))
					} else {
						_, _ = io.Copy(io.Discard, resp.Body)
					}
					_ = resp.Body.Close()
					data := collect(t, reader)
					if data.count(inferenceDuration) != 1 || data.count(inferenceDuration, "error.type", row.want) != 1 {
						t.Errorf("%s, %v, length %d: want error.type %s: %+v", name, mode, known, row.want, data.with(inferenceDuration))
					}
				}
			}
		}
	}
}

// undialled fails as net/http does when it gets no connection, which proves that
// nothing was sent.
func undialled(req *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(req.Context()).GetConn(req.URL.Host)
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

// An answer that was given up for an attempt that then was never sent is the
// call's answer after all.
func TestAnAnswerDeliveredForWantOfABetterIsTheOperations(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	tr := newChain(t, answers(reply(200, `{"model":"m-1","error":{"code":"server_error"}}`), undialled),
		openai.Config{MeterProvider: provider, Retry: retry.Config{Backoff: at(time.Millisecond), MaxAttempts: 2}})
	var wrong *openai.AnswerError
	if got := do(t, tr, ask(t, t.Context(), "m")); !errors.As(got.err, &wrong) || wrong.Code != "server_error" || got.status != 200 {
		t.Errorf("got %+v", got)
	}
	data := collect(t, reader)
	if data.count(inferenceDuration) != 1 || data.count(inferenceDuration, "error.type", "stream_error", "gen_ai.response.model", "m-1") != 1 {
		t.Errorf("operations %+v", data.with(inferenceDuration))
	}
}

// Whatever words the connection's error has, an HTTP/2 stream's too.
func TestALostConnectionHasItsErrorType(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	body := func() io.Reader {
		return io.MultiReader(strings.NewReader(tokenEvent), errReader{errors.New("stream error: stream ID 1; INTERNAL_ERROR")})
	}
	tr := newChain(t, answers(replyWith(200, body, -1, "Content-Type", "text/event-stream")), openai.Config{MeterProvider: provider})
	do(t, tr, ask(t, t.Context(), "m"))
	if data := collect(t, reader); data.count(inferenceDuration, "error.type", "connection_error") != 1 {
		t.Errorf("operations %+v", data.with(inferenceDuration))
	}
}

// A stream of known length ends, for the breaker, before its reader has asked
// for more: its last event counts without a blank line all the same.
func TestTheLastEventOfAStreamOfKnownLengthCounts(t *testing.T) {
	t.Parallel()
	reader, provider := newReader()
	tr := newChain(t, answers(reply(200, tokenEvent+"data: [DONE]\n", "Content-Type", "text/event-stream")), openai.Config{MeterProvider: provider})
	if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil {
		t.Errorf("got %+v", got)
	}
	if got := tr.Snapshot().Breakers[0].Totals; got.Success != 1 || got.Failure != 0 {
		t.Errorf("the breaker counted %+v", got)
	}
	if data := collect(t, reader); data.sum(streamOutcomes, "retrip.stream.outcome", "complete") != 1 {
		t.Errorf("streams %+v", data.with(streamOutcomes))
	}
}

// Choices that come one after the other: that the first is whole is not the
// end of the stream.
func TestWholeHoldsChoicesThatComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	second := strings.ReplaceAll(tokenEvent, `"index":0`, `"index":1`)
	secondEnd := strings.ReplaceAll(endEvent, `"index":0`, `"index":1`)
	stream := func(parts ...string) stub.Func {
		return replyWith(200, func() io.Reader { return &slowBody{pieces: parts} }, -1, "Content-Type", "text/event-stream")
	}
	base := answers(stream(tokenEvent, endEvent, second), stream(tokenEvent, endEvent, second, secondEnd, doneEvent))
	tr := newChain(t, base, openai.Config{Delivery: openai.Whole, Retry: retry.Config{Backoff: at(time.Millisecond)}})
	want := tokenEvent + endEvent + second + secondEnd + doneEvent
	if got := do(t, tr, request(t, t.Context(), http.MethodPost, chatURL, `{"model":"m","n":2}`)); got.err != nil || got.body != want || len(base.Payloads()) != 2 {
		t.Errorf("after %d requests: %+v", len(base.Payloads()), got)
	}
}

func TestACallThatIsRefusedBeforeItBeginsIsAnOperation(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	noURL := ask(t, t.Context(), "m")
	noURL.URL = nil
	for _, row := range []struct {
		req    *http.Request
		metric string
		attrs  []string
	}{
		{ask(t, cancelled, "m"), inferenceDuration, []string{"error.type", "canceled", "gen_ai.operation.name", "chat", "server.address", "api.example.com", "server.port", "443", "gen_ai.request.model", "-"}},
		{ask(t, late, "m"), inferenceDuration, []string{"error.type", "timeout", "gen_ai.operation.name", "chat"}},
		{noURL, "gen_ai.client.operation.duration", []string{"error.type", "_OTHER", "gen_ai.operation.name", "other", "server.address", "-", "server.port", "-", "gen_ai.provider.name", "-"}},
	} {
		reader, provider := newReader()
		tr := newChain(t, answers(reply(200, `{}`)), openai.Config{MeterProvider: provider})
		body := &stub.Body{Reader: strings.NewReader(hello)}
		row.req.Body = body
		if got := do(t, tr, row.req); got.err == nil || body.Closed() != 1 {
			t.Errorf("got %+v, the body was closed %d times", got, body.Closed())
		}
		data := collect(t, reader)
		if data.count(row.metric) != 1 || data.count(row.metric, row.attrs...) != 1 {
			t.Errorf("%v: %+v", row.attrs, data)
		}
	}
}

// Of two chains, one in the other, each knows its own call: the outer one sees
// an answer, whatever the inner one has mended.
func TestAChainWithinAChainKeepsItsOwnBooks(t *testing.T) {
	t.Parallel()
	innerReader, innerProvider := newReader()
	outerReader, outerProvider := newReader()
	body := tokenEvent + endEvent + usageEvent + doneEvent
	base := answers(reply(503, "busy"), reply(200, roleEvent, "Content-Type", "text/event-stream"), reply(200, body, "Content-Type", "text/event-stream"))
	inner := newChain(t, base, openai.Config{MeterProvider: innerProvider, Retry: retry.Config{Backoff: at(time.Millisecond)}})
	outer := newChain(t, inner, openai.Config{MeterProvider: outerProvider})
	if got := do(t, outer, ask(t, t.Context(), "m")); got.err != nil || got.body != body {
		t.Errorf("got %+v", got)
	}
	for name, row := range map[string]struct {
		data     collected
		attempts uint64
		streams  float64
	}{"inner": {collect(t, innerReader), 3, 2}, "outer": {collect(t, outerReader), 1, 1}} {
		d := row.data
		if d.count(inferenceDuration, "gen_ai.response.model", "m-1", "error.type", "-") != 1 || d.sum(inputTokens)+d.sum(outputTokens) != 16 ||
			d.count(attemptDuration) != row.attempts || d.sum(streamOutcomes) != row.streams || d.sum(streamOutcomes, "retrip.stream.outcome", "complete") != 1 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// What an attempt's answer said is told of the response that the caller gets,
// and of no other.
func TestAnOperationIsWhatItsResponseSays(t *testing.T) {
	t.Parallel()
	const failed = `{"model":"m-1","error":{"code":"server_error"}}`
	for name, row := range map[string]struct {
		second              stub.Func
		status              int
		errorType, answered string
	}{
		"the second attempt's": {reply(500, ""), 500, "500", "-"},
		"the first one's, as the second was not sent": {
			undialled, 200, "stream_error", "m-1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reader, provider := newReader()
				tr := newChain(t, answers(reply(200, failed), row.second), openai.Config{
					MeterProvider: provider, Retry: retry.Config{MaxAttempts: 2},
				})
				got := do(t, tr, ask(t, t.Context(), "m"))
				data := collect(t, reader)
				if got.status != row.status || data.count(inferenceDuration) != 1 ||
					data.count(inferenceDuration, "error.type", row.errorType, "gen_ai.response.model", row.answered) != 1 {
					t.Errorf("status %d: %+v", got.status, data.with(inferenceDuration))
				}
			})
		})
	}
}

func TestAReaderWhoStopsAtTheLastByteOfAnErrorHasSeenIt(t *testing.T) {
	t.Parallel()
	const failed = `{"error":{"code":"x"}}`
	reader, provider := newReader()
	tr := newChain(t, answers(replyWith(200, func() io.Reader { return strings.NewReader(failed) }, -1)), openai.Config{
		Delivery: openai.Immediate, MeterProvider: provider,
	})
	resp, err := tr.RoundTrip(ask(t, t.Context(), "m"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, len(failed))); err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
	if data := collect(t, reader); data.count(inferenceDuration, "error.type", "stream_error") != 1 {
		t.Errorf("%+v", data.with(inferenceDuration))
	}
}

// A user's Inspect is for what the chain finds nothing wrong with.
func TestAUsersInspectIsAskedLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		tr := newChain(t, answers(reply(200, `{"error":{"code":"server_error"}}`), reply(200, `{"ok":true}`)), openai.Config{Retry: retry.Config{
			Inspect: func(*retry.Attempt) error { asked++; return nil },
		}})
		if got := do(t, tr, ask(t, t.Context(), "m")); got.err != nil || got.body != `{"ok":true}` || asked != 1 {
			t.Errorf("%+v, asked %d times", got, asked)
		}
	})
}
