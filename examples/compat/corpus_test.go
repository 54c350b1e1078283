package compat

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicparam "github.com/anthropics/anthropic-sdk-go/packages/param"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"
	sashabaranov "github.com/sashabaranov/go-openai"

	"github.com/retrip-go/retrip/internal/corpus"
	retrip "github.com/retrip-go/retrip/openai"
)

// A reader makes the call of an exchange with an SDK, and returns all that the
// SDK makes of the answer.
type reader struct {
	name string
	tail string // of the paths that it can call
	head bool   // its decoder reads no further than the end of a JSON value
	read func(ctx context.Context, c corpusCall) (any, error)
}

// A corpusCall is what a reader calls.
type corpusCall struct {
	base    string // of the URL
	query   string
	payload []byte
	stream  bool
	client  *http.Client
}

func (c corpusCall) openAI() openai.Client {
	options := []option.RequestOption{}
	for pair := range strings.SplitSeq(c.query, "&") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			options = append(options, option.WithQuery(key, value))
		}
	}
	return newOpenAI(c.base, c.client, options...)
}

var readers = []reader{
	{"openai-go", "/chat/completions", false, func(ctx context.Context, c corpusCall) (any, error) {
		o, params := c.openAI(), param.Override[openai.ChatCompletionNewParams](json.RawMessage(c.payload))
		if c.stream {
			return readEvents(o.Chat.Completions.NewStreaming(ctx, params))
		}
		answer, err := o.Chat.Completions.New(ctx, params)
		return rawJSON(answer, err)
	}},
	{"openai-go", "/v1/completions", false, func(ctx context.Context, c corpusCall) (any, error) {
		o, params := c.openAI(), param.Override[openai.CompletionNewParams](json.RawMessage(c.payload))
		if c.stream {
			return readEvents(o.Completions.NewStreaming(ctx, params))
		}
		answer, err := o.Completions.New(ctx, params)
		return rawJSON(answer, err)
	}},
	{"openai-go", "/responses", false, func(ctx context.Context, c corpusCall) (any, error) {
		o, params := c.openAI(), param.Override[responses.ResponseNewParams](json.RawMessage(c.payload))
		if c.stream {
			return readEvents(o.Responses.NewStreaming(ctx, params))
		}
		answer, err := o.Responses.New(ctx, params)
		return rawJSON(answer, err)
	}},
	{"openai-go", "/embeddings", false, func(ctx context.Context, c corpusCall) (any, error) {
		o := c.openAI()
		answer, err := o.Embeddings.New(ctx, param.Override[openai.EmbeddingNewParams](json.RawMessage(c.payload)))
		return rawJSON(answer, err)
	}},
	{"openai-go", "/moderations", false, func(ctx context.Context, c corpusCall) (any, error) {
		o := c.openAI()
		answer, err := o.Moderations.New(ctx, param.Override[openai.ModerationNewParams](json.RawMessage(c.payload)))
		return rawJSON(answer, err)
	}},
	{"openai-go", "/images/generations", false, func(ctx context.Context, c corpusCall) (any, error) {
		o, params := c.openAI(), param.Override[openai.ImageGenerateParams](json.RawMessage(c.payload))
		if c.stream {
			return readEvents(o.Images.GenerateStreaming(ctx, params))
		}
		answer, err := o.Images.Generate(ctx, params)
		return rawJSON(answer, err)
	}},
	{"sashabaranov", "/chat/completions", true, func(ctx context.Context, c corpusCall) (any, error) {
		var request sashabaranov.ChatCompletionRequest
		if err := json.Unmarshal(c.payload, &request); err != nil {
			return nil, err
		}
		o := newSashabaranov(c.base, c.client)
		if !c.stream {
			return o.CreateChatCompletion(ctx, request)
		}
		stream, err := o.CreateChatCompletionStream(ctx, request)
		if err != nil {
			return nil, err
		}
		defer stream.Close() //nolint:errcheck // reading told what there is to tell
		return collect(stream.Recv)
	}},
	{"sashabaranov", "/embeddings", true, func(ctx context.Context, c corpusCall) (any, error) {
		var request sashabaranov.EmbeddingRequest
		if err := json.Unmarshal(c.payload, &request); err != nil {
			return nil, err
		}
		return newSashabaranov(c.base, c.client).CreateEmbeddings(ctx, request)
	}},
	{"anthropic-sdk-go", "/v1/messages", false, func(ctx context.Context, c corpusCall) (any, error) {
		a, params := newAnthropic(c.base, c.client), anthropicparam.Override[anthropic.MessageNewParams](json.RawMessage(c.payload))
		if c.stream {
			return readEvents(a.Messages.NewStreaming(ctx, params))
		}
		answer, err := a.Messages.New(ctx, params)
		return rawJSON(answer, err)
	}},
}

// readEvents returns the JSON of all events of a stream.
func readEvents[T interface{ RawJSON() string }](stream interface {
	Next() bool
	Current() T
	Err() error
	Close() error
},
) (any, error) {
	defer stream.Close() //nolint:errcheck // reading told what there is to tell
	events := []string{}
	for stream.Next() {
		events = append(events, stream.Current().RawJSON())
	}
	return events, stream.Err()
}

// canRead reports whether the reader can make the call of an exchange.
func (r *reader) canRead(x *corpus.Exchange) bool {
	path, _, _ := strings.Cut(x.Request.Path, "?")
	return x.Request.Method == http.MethodPost && strings.HasSuffix(path, r.tail) && x.Request.Header.Get("Content-Type") == "application/json" &&
		(r.name != "anthropic-sdk-go" || x.Request.Header.Get("Anthropic-Version") != "") &&
		x.Request.Header.Get("Accept-Encoding") == "" // the SDKs leave that to net/http
}

// hear makes the call of x over what chain makes of the connections to its
// provider.
func (r *reader) hear(t *testing.T, x *corpus.Exchange, chain func(http.RoundTripper) http.RoundTripper) outcome {
	t.Helper()
	server := corpus.NewServer(x)
	base := server.Transport()
	defer server.Wait()
	defer base.CloseIdleConnections()
	path, query, _ := strings.Cut(x.Request.Path, "?")
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	answer, err := r.read(ctx, corpusCall{
		base: "http://provider.test" + strings.TrimSuffix(path, strings.TrimPrefix(r.tail, "/v1")), query: query, payload: x.Request.Payload,
		stream: strings.Contains(string(x.Request.Payload), `"stream":true`), client: &http.Client{Transport: chain(base)},
	})
	said, failure := json.Marshal(answer)
	if failure != nil {
		t.Fatal(failure)
	}
	return outcome{string(said), kind(err)}
}

// TestCorpusIsReadAsWithoutTheChain lets every SDK read the files of the corpus
// that it can read. An answer that passes is to the SDK what it is without the
// chain; one that the chain knows to be none is an error.
func TestCorpusIsReadAsWithoutTheChain(t *testing.T) {
	t.Parallel()
	all, err := corpus.Load(os.DirFS("../../openai/testdata/corpus"))
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	read := map[string]int{}
	for _, x := range all {
		for _, r := range readers {
			if !r.canRead(x) {
				continue
			}
			read[r.name]++
			for i, delivery := range []retrip.Delivery{retrip.FromFirstEvent, retrip.Immediate, retrip.Whole} {
				t.Run(r.name+"/"+x.Name+"/"+delivery.String(), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { checkReader(t, &r, x, delivery, x.Wants[i]) })
				})
			}
		}
	}
	for _, r := range readers {
		if read[r.name] < 30 {
			t.Errorf("%s reads %d files only", r.name, read[r.name])
		}
	}
}

func checkReader(t *testing.T, r *reader, x *corpus.Exchange, delivery retrip.Delivery, want corpus.Want) {
	t.Helper()
	if _, set := x.Config["InBandErrors"]; set {
		return // the chain's own tests do that
	}
	got := r.hear(t, x, func(base http.RoundTripper) http.RoundTripper {
		cfg := retrip.Config{Delivery: delivery}
		if idle, err := time.ParseDuration(x.Config["IdleTimeout"]); err == nil {
			cfg.IdleTimeout = idle
		}
		chain := retrip.NewTransport(base, cfg)
		t.Cleanup(func() { _ = chain.Close() })
		return chain
	})
	delivered := *x
	delivered.Answers = []corpus.Answer{*x.AnswerTo(want.Requests)}
	plain := r.hear(t, &delivered, func(base http.RoundTripper) http.RoundTripper { return base })
	fails := slices.ContainsFunc(want.Read, func(end string) bool { return end != "EOF" })
	switch {
	case delivered.Answers[0].End == corpus.Open && !fails:
		// Without the chain it would never end.
		if got.err != "no error" {
			t.Errorf("error %s", got.err)
		}
	case fails && got.err != "no error":
	case (!fails || r.head || slices.Contains(want.Read, "EOF")) && got == plain:
	default:
		t.Errorf("%+v\nwithout the chain:\n%+v", got, plain)
	}
}
