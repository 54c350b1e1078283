package compat

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// What can become of a call.
var (
	fine    = counts{requests: 1, success: 1}             // nothing went wrong that matters
	mended  = counts{requests: 2, success: 1, failure: 1} // retried: the caller sees the good answer alone
	waited  = counts{requests: 2, success: 1, ignored: 1} // the same, and no failure: a rate limit
	passed  = counts{requests: 1, failure: 1}             // the caller sees the fault
	mistake = counts{requests: 1, ignored: 1}             // the caller's own
)

// silence is how long the tests bear it: longer than a busy machine needs to
// answer.
const silence = 300 * time.Millisecond

func TestEachFaultByDeliveryAndSDK(t *testing.T) {
	t.Parallel()
	const whole = openaitest.DefaultText
	ok := openaitest.OK()
	serverError := func(n int) openaitest.Answer {
		return ok.ErrorAfter(n, "server_error", "server_error", "The server had an error")
	}
	retryable := [3]counts{mended, passed, mended}
	everywhere := func(c counts) [3]counts { return [3]counts{c, c, c} }

	for _, row := range []struct {
		fault    string
		streamed bool
		answer   openaitest.Answer
		becomes  [3]counts // by Delivery: FromFirstEvent, Immediate, Whole
		sees     string    // by the caller, where it is not mended: a part of the text and an error
	}{
		// Before the headers, and by status, a stream is as good as any answer.
		{"none", false, ok, everywhere(fine), whole + "|no error"},
		{"none", true, ok, everywhere(fine), whole + "|no error"},
		{"500", false, openaitest.Status(500), everywhere(mended), ""},
		{"500", true, openaitest.Status(500), everywhere(mended), ""},
		{"502", false, openaitest.Status(502), everywhere(mended), ""},
		{"503", false, openaitest.Status(503), everywhere(mended), ""},
		{"503", true, openaitest.Status(503), everywhere(mended), ""},
		{"504", false, openaitest.Status(504), everywhere(mended), ""},
		{"408", false, openaitest.Status(408), everywhere(mended), ""},
		{"503 without end", false, openaitest.EndlessBody(503), everywhere(mended), ""},
		{"503 without end", true, openaitest.EndlessBody(503), everywhere(mended), ""},
		{"429 with a hint", false, openaitest.Status(429).With("Retry-After-Ms", "1"), everywhere(waited), ""},
		{"429 with a hint", true, openaitest.Status(429).With("Retry-After-Ms", "1"), everywhere(waited), ""},
		{"400", false, openaitest.Status(400), everywhere(mistake), "|HTTP Bad Request"},
		{"400", true, openaitest.Status(400), everywhere(mistake), "|HTTP Bad Request"},
		{"401", true, openaitest.Status(401), everywhere(mistake), "|HTTP Unauthorized"},
		{"reset before headers", false, openaitest.ResetBeforeHeaders(), everywhere(mended), ""},
		{"reset before headers", true, openaitest.ResetBeforeHeaders(), everywhere(mended), ""},
		{"EOF before headers", false, openaitest.EOFBeforeHeaders(), everywhere(mended), ""},
		{"EOF before headers", true, openaitest.EOFBeforeHeaders(), everywhere(mended), ""},
		{"stall before headers", false, openaitest.StallBeforeHeaders(), everywhere(passed), "|timeout"},
		{"stall before headers", true, openaitest.StallBeforeHeaders(), everywhere(passed), "|timeout"},

		// JSON is held until it is whole, so that what breaks in it is mended.
		{"cut", false, ok.CutAfter(40), retryable, "|unexpected EOF"},
		{"reset", false, ok.ResetAfter(40), retryable, "|reset"},
		{"ends early", false, ok.EndAfter(40), retryable, "|AnswerError"},
		{"stall", false, ok.StallAfter(40), retryable, "|ErrStalled"},
		{"corrupt", false, ok.CorruptAfter(40), retryable, "|AnswerError"},
		{"error in a 200", false, serverError(0), retryable, "|AnswerError"}, // but for a decoder that reads no further than the value
		{"empty", false, openaitest.Answer{Body: []byte{}, Chunked: true}.With("Content-Type", "application/json"), retryable, "|AnswerError"},
		{"compressed", false, openaitest.Answer{Gzip: true}, everywhere(fine), whole + "|no error"},
		{"compressed, cut", false, openaitest.Answer{Gzip: true}.CutAfter(40), retryable, "|unexpected EOF"},
		{"chunked", false, openaitest.Answer{Chunked: true}, everywhere(fine), whole + "|no error"},
		{"chunked, cut", false, openaitest.Answer{Chunked: true}.CutAfter(40), retryable, "|unexpected EOF"},

		// Before a stream's first content: event 0 is a role without any.
		{"cut before an event", true, ok.CutAfter(0), retryable, "|unexpected EOF"},
		{"cut after the opener", true, ok.CutAfter(1), retryable, "|unexpected EOF"},
		{"reset after the opener", true, ok.ResetAfter(1), retryable, "|reset"},
		{"ends after the opener", true, ok.EndAfter(1), retryable, "|ErrTruncated"},
		{"no event at all", true, openaitest.Stream(), retryable, "|ErrTruncated"},
		{"stall after the opener", true, ok.StallAfter(1), everywhere(passed), "|timeout"},
		{"stall with comments after the opener", true, openaitest.Answer{KeepAlive: 20 * time.Millisecond}.StallAfter(1), everywhere(passed), "|timeout"},
		{"error after the opener", true, serverError(1), retryable, "|the provider's error"},
		{"corrupt after the opener", true, ok.CorruptAfter(1), retryable, "|syntax"},
		{"JSON error for a stream", true, openaitest.Error(200, "server_error", "server_error", "The server had an error"), retryable, "|AnswerError"},

		// After it only Whole can take back what the caller has seen.
		{"cut after content", true, ok.CutAfter(3), [3]counts{passed, passed, mended}, "Hello! How |unexpected EOF"},
		{"reset after content", true, ok.ResetAfter(3), [3]counts{passed, passed, mended}, "Hello! How |reset"},
		{"ends after content", true, ok.EndAfter(3), [3]counts{passed, passed, mended}, "Hello! How |ErrTruncated"},
		{"stall after content", true, ok.StallAfter(3), [3]counts{passed, passed, mended}, "Hello! How |ErrStalled"},
		{"error after content", true, serverError(3), [3]counts{passed, passed, mended}, "Hello! How |the provider's error"},
		{"corrupt after content", true, ok.CorruptAfter(3), [3]counts{passed, passed, mended}, "Hello! How |syntax"},
		{"compressed", true, openaitest.Answer{Gzip: true}, everywhere(fine), whole + "|no error"},
		{"compressed, cut after content", true, openaitest.Answer{Gzip: true}.CutAfter(3), [3]counts{passed, passed, mended}, "Hello! How |unexpected EOF"},

		// What fails after finish_reason is the caller's to see, the answer is whole. Who
		// holds it until then has another attempt bring it without the error.
		{"cut before [DONE]", true, ok.CutAfter(9), [3]counts{fine, fine, mended}, whole + "|unexpected EOF"},
		{"ends before [DONE]", true, ok.EndAfter(9), everywhere(fine), whole + "|no error"},
		{"cut after [DONE]", true, ok.CutAfter(99), everywhere(fine), whole + "|no error"},
		{"no end after [DONE]", true, openaitest.EndlessBody(200), everywhere(fine), whole + "|no error"},
	} {
		shape := "JSON"
		if row.streamed {
			shape = "stream"
		}
		for delivery, want := range row.becomes {
			for _, sdk := range sdks {
				delivery := retrip.Delivery(delivery)
				t.Run(shape+"/"+row.fault+"/"+delivery.String()+"/"+sdk.name, func(t *testing.T) {
					t.Parallel()
					cfg := retrip.Config{Delivery: delivery}
					limitSilence(&cfg, row.fault)
					s := newScene(t, cfg)
					s.provider.Script(openaitest.Chat, row.answer)
					call := sdk.chat
					if row.streamed {
						call = sdk.stream
					}
					text, err := call(t.Context(), s.provider.URL, s.client)
					sees := row.sees
					if sdk.blind && row.fault == "error in a 200" {
						sees = "|no error"
					}
					if want == mended || want == waited {
						sees = whole + "|no error"
					}
					if got := text + "|" + kind(err); got != sees {
						t.Errorf("the caller gets %q (%v), want %q", got, err, sees)
					}
					if got := s.counts(t); got != want {
						t.Errorf("%+v, want %+v", got, want)
					}
				})
			}
		}
	}
}

// limitSilence sets the limit that a stall runs into, and no other: a busy
// machine must not run into it.
func limitSilence(cfg *retrip.Config, fault string) {
	switch {
	case fault == "stall before headers":
		cfg.Retry.AttemptTimeout = silence
	case strings.HasPrefix(fault, "stall") && strings.HasSuffix(fault, "opener"):
		cfg.FirstEventTimeout = silence
	case strings.HasPrefix(fault, "stall"):
		cfg.IdleTimeout = silence
	}
}

func TestErrorEventAfterARoleIsNeverSeen(t *testing.T) {
	t.Parallel()
	for _, sdk := range sdks {
		t.Run(sdk.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, retrip.Config{})
			raw := &recorder{base: s.chain}
			good := read(t, raw, s, sdk)
			if !strings.Contains(good, "[DONE]") {
				t.Fatalf("the good stream is %q", good)
			}
			s.provider.Script(openaitest.Chat, openaitest.OK().ErrorAfter(1, "server_error", "server_error", "The server had an error"))
			if got := read(t, raw, s, sdk); got != good {
				t.Errorf("the caller sees\n%s\nwant\n%s", got, good)
			}
			if got, want := s.counts(t), (counts{requests: 3, success: 2, failure: 1}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// read streams a whole answer, and returns the bytes the client was given.
func read(t *testing.T, raw *recorder, s *scene, sdk sdk) string {
	t.Helper()
	raw.seen.Reset()
	text, err := sdk.stream(t.Context(), s.provider.URL, &http.Client{Transport: raw})
	if err != nil || text != openaitest.DefaultText {
		t.Errorf("%q, %v", text, err)
	}
	return raw.seen.String()
}

func TestErrorEventAfterContentIsPassedOnAndCounted(t *testing.T) {
	t.Parallel()
	const message = "The server had an error while processing your request"
	fault := openaitest.OK().ErrorAfter(3, "server_error", "server_error", message)
	for _, sdk := range sdks {
		t.Run(sdk.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, retrip.Config{})
			raw := &recorder{base: s.chain}
			s.provider.Script(openaitest.Chat, fault)
			text, err := sdk.stream(t.Context(), s.provider.URL, &http.Client{Transport: raw})
			if text != "Hello! How " || err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%q, %v", text, err)
			}
			if !strings.Contains(raw.seen.String(), `{"error":{"message":"`+message) {
				t.Errorf("the event is not in %q", &raw.seen)
			}
			if got := s.counts(t); got != passed {
				t.Errorf("%+v, want %+v", got, passed)
			}
		})
	}
}

func TestFaultThatStaysReachesTheCallerAsItIs(t *testing.T) {
	t.Parallel()
	const attempts = 3
	ok := openaitest.OK()
	for _, row := range []struct {
		fault    string
		streamed bool
		answer   openaitest.Answer
		sees     string
		requests int
	}{
		{"503", false, openaitest.Status(503), "|HTTP Service Unavailable", attempts},
		{"503", true, openaitest.Status(503), "|HTTP Service Unavailable", attempts},
		{"reset before headers", false, openaitest.ResetBeforeHeaders(), "|reset", attempts},
		{"EOF before headers", true, openaitest.EOFBeforeHeaders(), "|EOF", attempts},
		{"cut", false, ok.CutAfter(40), "|unexpected EOF", attempts},
		{"stall", false, ok.StallAfter(40), "|ErrStalled", attempts},
		{"stall after the opener", true, ok.StallAfter(1), "|timeout", 1},
		{"ends after the opener", true, ok.EndAfter(1), "|ErrTruncated", attempts},
		{"error after the opener", true, ok.ErrorAfter(1, "server_error", "server_error", "m"), "|the provider's error", attempts},
	} {
		for _, sdk := range sdks {
			t.Run(row.fault+"/"+sdk.name, func(t *testing.T) {
				t.Parallel()
				var cfg retrip.Config
				limitSilence(&cfg, row.fault)
				cfg.Retry.MaxAttempts = attempts
				s := newScene(t, cfg)
				s.provider.Always(openaitest.Chat, row.answer)
				call := sdk.chat
				if row.streamed {
					call = sdk.stream
				}
				text, err := call(t.Context(), s.provider.URL, s.client)
				if got := text + "|" + kind(err); got != row.sees {
					t.Errorf("the caller gets %q (%v), want %q", got, err, row.sees)
				}
				if got, want := s.counts(t), (counts{requests: row.requests, failure: uint64(row.requests)}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			})
		}
	}
}

func TestFaultOfAResponsesStreamIsPassedOnAndCounted(t *testing.T) {
	t.Parallel()
	ok := openaitest.OK()
	for _, row := range []struct {
		fault  string
		answer openaitest.Answer
		sees   string
	}{
		// Events 0 to 3 only announce the answer; it may be stored all the same.
		{"cut after the openers", ok.CutAfter(2), "|unexpected EOF"},
		{"ends after the openers", ok.EndAfter(2), "|ErrTruncated"},
		{"error after the openers", ok.ErrorAfter(2, "server_error", "server_error", "m"), "[error]|no error"}, // openai-go hands it over as an event
		{"cut after content", ok.CutAfter(6), "Hello! How |unexpected EOF"},
		{"ends after content", ok.EndAfter(6), "Hello! How |ErrTruncated"},
		{"stall after content", ok.StallAfter(6), "Hello! How |ErrStalled"},
		{"error after content", ok.ErrorAfter(6, "server_error", "server_error", "m"), "Hello! How [error]|no error"},
	} {
		for _, delivery := range []retrip.Delivery{retrip.FromFirstEvent, retrip.Immediate, retrip.Whole} {
			t.Run(row.fault+"/"+delivery.String(), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, retrip.Config{Delivery: delivery, IdleTimeout: silence})
				s.provider.Script(openaitest.Responses, row.answer)
				o := newOpenAI(s.provider.URL, s.client)
				stream := o.Responses.NewStreaming(t.Context(), paramsOfResponse())
				defer stream.Close() //nolint:errcheck // reading told what there is to tell
				var text strings.Builder
				for stream.Next() {
					switch event := stream.Current(); event.Type {
					case "response.output_text.delta":
						text.WriteString(event.Delta)
					case "error":
						text.WriteString("[error]")
					}
				}
				if got := text.String() + "|" + kind(stream.Err()); got != row.sees {
					t.Errorf("the caller gets %q (%v), want %q", got, stream.Err(), row.sees)
				}
				if got := s.counts(t); got != passed {
					t.Errorf("%+v, want %+v", got, passed)
				}
			})
		}
	}
}

// The chain holds 16 MiB of such a body, then it is the caller's.
func TestBodyWithoutEndIsEndedByTheCaller(t *testing.T) {
	t.Parallel()
	const patience = 17 << 20
	for _, delivery := range []retrip.Delivery{retrip.FromFirstEvent, retrip.Immediate, retrip.Whole} {
		for _, sdk := range sdks {
			t.Run(delivery.String()+"/"+sdk.name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, retrip.Config{Delivery: delivery})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				impatient := &recorder{base: s.chain, limit: patience, exceeded: cancel}
				s.provider.Script(openaitest.Chat, openaitest.EndlessBody(200))
				text, err := sdk.chat(ctx, s.provider.URL, &http.Client{Transport: impatient})
				if text != "" || kind(err) != "canceled" {
					t.Errorf("%q, %v", text, err)
				}
				if got := s.counts(t); got != mistake {
					t.Errorf("%+v, want %+v", got, mistake)
				}
			})
		}
	}
}

// A recorder stands above the chain and keeps what the client reads, or calls
// exceeded when that is more than the limit.
type recorder struct {
	base     http.RoundTripper
	limit    int // 0 = keep all
	exceeded func()
	seen     strings.Builder
	count    int
	body     io.ReadCloser
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	response, err := r.base.RoundTrip(req)
	if err == nil {
		r.body, response.Body = response.Body, r
	}
	return response, err
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.count += n
	switch {
	case r.limit == 0:
		r.seen.Write(p[:n])
	case r.count > r.limit:
		r.exceeded()
	}
	return n, err
}

func (r *recorder) Close() error { return r.body.Close() }
