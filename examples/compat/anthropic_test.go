package compat

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// newAnthropic returns a client of the API at url, which ends in "/v1" as
// OpenAI's clients want it: Anthropic's add that themselves.
func newAnthropic(url string, client *http.Client, options ...option.RequestOption) anthropic.Client {
	return anthropic.NewClient(append([]option.RequestOption{
		option.WithBaseURL(strings.TrimSuffix(url, "/v1")), option.WithAPIKey("sk-ant-test"), option.WithHTTPClient(client),
		option.WithMaxRetries(0), // as the README says: retrip retries
	}, options...)...)
}

var paramsAnthropic = anthropic.MessageNewParams{
	Model: "claude-sonnet-4-5", MaxTokens: 64,
	Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(prompt))},
}

var messageUses = []use{
	{"anthropic-sdk-go/messages", openaitest.Messages, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		c := newAnthropic(url, client)
		message, err := c.Messages.New(ctx, paramsAnthropic)
		return rawJSON(message, err)
	}},
	{"anthropic-sdk-go/messages stream", openaitest.Messages, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		c := newAnthropic(url, client)
		return readMessageStream(ctx, &c, paramsAnthropic)
	}},
	{"anthropic-sdk-go/tools stream", openaitest.Messages, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		c := newAnthropic(url, client)
		params := paramsAnthropic
		params.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "get_weather"}}}
		params.ToolChoice = anthropic.ToolChoiceUnionParam{OfTool: &anthropic.ToolChoiceToolParam{Name: "get_weather"}}
		return readMessageStream(ctx, &c, params)
	}},
}

// readMessageStream returns the events of a stream, and the message that the
// SDK has put together of them.
func readMessageStream(ctx context.Context, c *anthropic.Client, params anthropic.MessageNewParams) (any, error) {
	stream := c.Messages.NewStreaming(ctx, params)
	defer stream.Close() //nolint:errcheck // reading told what there is to tell
	var whole anthropic.Message
	var events []string
	for stream.Next() {
		event := stream.Current()
		events = append(events, event.RawJSON())
		if err := whole.Accumulate(event); err != nil {
			return events, err
		}
	}
	for _, block := range whole.Content {
		events = append(events, block.Text+block.Name+string(block.Input))
	}
	return events, stream.Err()
}

func TestFaultsOfMessages(t *testing.T) {
	t.Parallel()
	ok := openaitest.OK()
	overloaded := func(n int) openaitest.Answer { return ok.ErrorAfter(n, "overloaded_error", "", "Overloaded") }
	retryable := [3]counts{mended, passed, mended}
	everywhere := func(c counts) [3]counts { return [3]counts{c, c, c} }
	onlyWhole := [3]counts{passed, passed, mended}
	const json, stream = 0, 1 // of messageUses
	for _, row := range []struct {
		fault   string
		use     int
		answer  openaitest.Answer
		becomes [3]counts // by Delivery: FromFirstEvent, Immediate, Whole
		fails   string    // where it is not mended
	}{
		{"529", json, openaitest.Status(529), everywhere(mended), ""},
		{"529", stream, openaitest.Status(529), everywhere(mended), ""},
		{"500", stream, openaitest.Status(500), everywhere(mended), ""},
		{"429", json, openaitest.Status(429).With("Retry-After-Ms", "1"), everywhere(waited), ""},
		{"400", json, openaitest.Status(400), everywhere(mistake), "HTTP Bad Request"},
		{"413", stream, openaitest.Status(413), everywhere(mistake), "HTTP Request Entity Too Large"},
		{"reset before headers", stream, openaitest.ResetBeforeHeaders(), everywhere(mended), ""},
		{"cut", json, ok.CutAfter(40), retryable, "unexpected EOF"},
		{"ends early", json, ok.EndAfter(40), retryable, "AnswerError"},
		{"empty", json, openaitest.JSON(""), retryable, "AnswerError"},
		{"error in a 200", json, overloaded(0), retryable, "AnswerError"},
		{"overloaded at once", stream, overloaded(0), retryable, "the provider's error"},
		{"overloaded after the openers", stream, overloaded(3), retryable, "the provider's error"},
		{"overloaded after content", stream, overloaded(5), onlyWhole, "the provider's error"},
		{"the caller's fault", stream, ok.ErrorAfter(1, "invalid_request_error", "", "m"), everywhere(mistake), "the provider's error"},
		{"cut after the openers", stream, ok.CutAfter(3), retryable, "unexpected EOF"},
		{"ends after the openers", stream, ok.EndAfter(3), retryable, "ErrTruncated"},
		{"ends after content", stream, ok.EndAfter(5), onlyWhole, "ErrTruncated"},
		{"stall after content", stream, ok.StallAfter(5), onlyWhole, "ErrStalled"},
		{"ends before message_stop", stream, ok.EndAfter(12), onlyWhole, "ErrTruncated"},
		{"compressed", stream, openaitest.Answer{Gzip: true}, everywhere(fine), "no error"},
	} {
		for delivery, becomes := range row.becomes {
			u, delivery := messageUses[row.use], retrip.Delivery(delivery)
			t.Run(u.name+"/"+row.fault+"/"+delivery.String(), func(t *testing.T) {
				t.Parallel()
				cfg := retrip.Config{Delivery: delivery}
				limitSilence(&cfg, row.fault)
				s := newScene(t, cfg)
				want := u.outcome(t, s.provider.URL, s.plain)
				before := s.provider.Count(openaitest.Messages)
				s.provider.Script(openaitest.Messages, row.answer)
				got := u.outcome(t, s.provider.URL, s.client)
				if becomes == mended || becomes == waited || becomes == fine {
					if got != want {
						t.Errorf("%+v\nwithout a fault:\n%+v", got, want)
					}
				} else if got.err != row.fails {
					t.Errorf("error %q, want %q", got.err, row.fails)
				}
				becomes.requests += before
				if got := s.counts(t); got != becomes {
					t.Errorf("%+v, want %+v", got, becomes)
				}
			})
		}
	}
}

// Whoever leaves the SDK's own retries on loses none of them where the chain
// does not retry, and none are added where it does.
func TestRetriesOfAnthropicsSDK(t *testing.T) {
	t.Parallel()
	busy := openaitest.Status(529).With("Retry-After-Ms", "1")
	for name, row := range map[string]struct {
		path     string // the endpoint that is called
		attempts int    // of the chain
		retries  int    // of the SDK
		failures int
		requests int
		fails    string
	}{
		"the chain's":                    {openaitest.Messages, 0, 0, 2, 3, "no error"},
		"both":                           {openaitest.Messages, 0, 2, 2, 3, "no error"},
		"both, in an outage":             {openaitest.Messages, 0, 2, 99, 4, "HTTP 529"},
		"the SDK's, the chain's are off": {openaitest.Messages, 1, 2, 2, 3, "no error"},
		"none":                           {openaitest.Messages, 1, 0, 2, 1, "HTTP 529"},
		"the SDK's, of a call that the chain does not repeat": {openaitest.Other, 0, 2, 2, 3, "no error"},
		"none, of a call that the chain does not repeat":      {openaitest.Other, 0, 0, 2, 1, "HTTP 529"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cfg retrip.Config
			cfg.Retry.MaxAttempts = row.attempts
			s := newScene(t, cfg)
			s.provider.Script(row.path, slices.Repeat([]openaitest.Answer{busy}, row.failures)...)
			if row.path == openaitest.Other {
				s.provider.Always(row.path, openaitest.JSON(`{"input_tokens":14}`))
			}
			c := newAnthropic(s.provider.URL, s.client, option.WithMaxRetries(row.retries))
			var err error
			if row.path == openaitest.Other {
				_, err = c.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: paramsAnthropic.Model, Messages: paramsAnthropic.Messages})
			} else {
				_, err = c.Messages.New(t.Context(), paramsAnthropic)
			}
			if kind(err) != row.fails || s.provider.Count(row.path) != row.requests {
				t.Errorf("%v after %d requests, want %s after %d", err, s.provider.Count(row.path), row.fails, row.requests)
			}
		})
	}
}

func TestErrorInA200IsAnErrorWithItsCode(t *testing.T) {
	t.Parallel()
	for endpoint, call := range map[string]func(*scene) error{
		openaitest.Chat: func(s *scene) error {
			_, err := chatOpenAI(t.Context(), s.provider.URL, s.client)
			return err
		},
		openaitest.Messages: func(s *scene) error {
			_, err := messageUses[0].do(t.Context(), s.provider.URL, s.client)
			return err
		},
	} {
		t.Run(endpoint, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, retrip.Config{})
			s.provider.Always(endpoint, openaitest.OK().ErrorAfter(0, "overloaded_error", "overloaded", "secret"))
			err := call(s)
			if kind(err) != "AnswerError" || !strings.Contains(err.Error(), "overloaded") || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v", err)
			}
			if got := s.provider.Count(endpoint); got != 4 {
				t.Errorf("%d requests", got)
			}
		})
	}
}

// What go-openai and langchaingo make of it is what they make of it without the
// chain: their decoders read no further than the value.
func TestErrorInA200IsNotSeenByDecodersThatReadNoFurther(t *testing.T) {
	t.Parallel()
	for _, u := range uses {
		if u.name != "sashabaranov/chat" && u.name != "langchaingo/chat" {
			continue
		}
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, retrip.Config{})
			s.provider.Always(u.endpoint, openaitest.OK().ErrorAfter(0, "server_error", "server_error", "m"))
			if got, want := u.outcome(t, s.provider.URL, s.client), u.outcome(t, s.provider.URL, s.plain); got != want || strings.Contains(got.err, "AnswerError") {
				t.Errorf("%+v, without the chain %+v", got, want)
			}
		})
	}
}
