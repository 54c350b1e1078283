package compat

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	einoopenai "github.com/cloudwego/eino-ext/components/model/openai"
	"github.com/cloudwego/eino/schema"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	sashabaranov "github.com/sashabaranov/go-openai"
	"github.com/tmc/langchaingo/llms"
	langchain "github.com/tmc/langchaingo/llms/openai"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// A use is what somebody does with a client. It returns all that the client
// has made of the answer.
type use struct {
	name     string
	endpoint string
	once     bool // stateful: what may have been stored is not sent twice
	do       func(ctx context.Context, url string, client *http.Client) (any, error)
}

var uses = []use{
	{"openai-go/chat", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		completion, err := o.Chat.Completions.New(ctx, paramsOpenAI)
		return rawJSON(completion, err)
	}},
	{"openai-go/chat stream", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		params := paramsOpenAI
		params.StreamOptions.IncludeUsage = openai.Bool(true)
		stream := o.Chat.Completions.NewStreaming(ctx, params)
		defer stream.Close() //nolint:errcheck // reading told what there is to tell
		var whole openai.ChatCompletionAccumulator
		var events []string
		for stream.Next() {
			whole.AddChunk(stream.Current())
			events = append(events, stream.Current().RawJSON())
		}
		return append(events, fmt.Sprint(whole.Usage.TotalTokens, whole.Choices)), stream.Err()
	}},
	{"openai-go/tools", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		completion, err := o.Chat.Completions.New(ctx, paramsWithTool())
		return rawJSON(completion, err)
	}},
	{"openai-go/tools stream", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		stream := o.Chat.Completions.NewStreaming(ctx, paramsWithTool())
		defer stream.Close() //nolint:errcheck // reading told what there is to tell
		var whole openai.ChatCompletionAccumulator
		var called []string
		for stream.Next() {
			whole.AddChunk(stream.Current())
			if tool, ok := whole.JustFinishedToolCall(); ok {
				called = append(called, tool.Name+tool.Arguments)
			}
		}
		return called, stream.Err()
	}},
	{"openai-go/embeddings", openaitest.Embeddings, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		answer, err := o.Embeddings.New(ctx, openai.EmbeddingNewParams{
			Model: openai.EmbeddingModelTextEmbedding3Small,
			Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}},
		})
		return rawJSON(answer, err)
	}},
	{"openai-go/models", openaitest.Models, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		answer, err := o.Models.Get(ctx, model)
		return rawJSON(answer, err)
	}},
	{"openai-go/responses", openaitest.Responses, true, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		answer, err := o.Responses.New(ctx, paramsOfResponse())
		return rawJSON(answer, err)
	}},
	{"openai-go/responses stream", openaitest.Responses, true, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		stream := o.Responses.NewStreaming(ctx, paramsOfResponse())
		defer stream.Close() //nolint:errcheck // reading told what there is to tell
		var events []string
		for stream.Next() {
			events = append(events, stream.Current().RawJSON())
		}
		return events, stream.Err()
	}},
	{"openai-go/file upload", openaitest.Files, true, func(ctx context.Context, url string, client *http.Client) (any, error) {
		o := newOpenAI(url, client)
		answer, err := o.Files.New(ctx, openai.FileNewParams{
			File:    openai.File(strings.NewReader(strings.Repeat("{}\n", 10_000)), "batch.jsonl", "application/jsonl"),
			Purpose: openai.FilePurposeBatch,
		})
		return rawJSON(answer, err)
	}},
	{"sashabaranov/chat", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		answer, err := newSashabaranov(url, client).CreateChatCompletion(ctx, requestSashabaranov())
		answer.SetHeader(nil) // the request's number is in it
		return answer, err
	}},
	{"sashabaranov/chat stream", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		stream, err := newSashabaranov(url, client).CreateChatCompletionStream(ctx, requestSashabaranov())
		if err != nil {
			return nil, err
		}
		defer stream.Close() //nolint:errcheck // reading told what there is to tell
		return collect(stream.Recv)
	}},
	{"sashabaranov/embeddings", openaitest.Embeddings, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		answer, err := newSashabaranov(url, client).CreateEmbeddings(ctx, sashabaranov.EmbeddingRequestStrings{
			Model: sashabaranov.SmallEmbedding3, Input: []string{"one", "two"},
		})
		answer.SetHeader(nil)
		return answer, err
	}},
	{"langchaingo/chat", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		return generateLangchain(ctx, url, client)
	}},
	{"langchaingo/chat stream", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		var chunks []string
		answer, err := generateLangchain(ctx, url, client, llms.WithStreamingFunc(func(_ context.Context, chunk []byte) error {
			chunks = append(chunks, string(chunk))
			return nil
		}))
		return []any{answer, chunks}, err
	}},
	{"eino/chat", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		chat, err := newEino(ctx, url, client)
		if err != nil {
			return nil, err
		}
		return chat.Generate(ctx, []*schema.Message{schema.UserMessage(prompt)})
	}},
	{"eino/chat stream", openaitest.Chat, false, func(ctx context.Context, url string, client *http.Client) (any, error) {
		chat, err := newEino(ctx, url, client)
		if err != nil {
			return nil, err
		}
		stream, err := chat.Stream(ctx, []*schema.Message{schema.UserMessage(prompt)})
		if err != nil {
			return nil, err
		}
		defer stream.Close()
		return collect(stream.Recv)
	}},
}

func rawJSON(answer interface{ RawJSON() string }, err error) (any, error) {
	if err != nil || reflect.ValueOf(answer).IsNil() { // as an SDK makes it of a 204
		return nil, err
	}
	return answer.RawJSON(), nil
}

func collect[T any](receive func() (T, error)) (any, error) {
	var all []T
	for {
		item, err := receive()
		if err == io.EOF { //nolint:errorlint // all of them return it bare
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, item)
	}
}

func paramsWithTool() openai.ChatCompletionNewParams {
	params := paramsOpenAI
	params.Tools = []openai.ChatCompletionToolUnionParam{
		openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "get_weather"}),
	}
	params.ToolChoice = openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "get_weather"})
	return params
}

func paramsOfResponse() responses.ResponseNewParams {
	return responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(prompt)}}
}

func generateLangchain(ctx context.Context, url string, client *http.Client, options ...llms.CallOption) (any, error) {
	llm, err := langchain.New(langchain.WithToken("sk-test"), langchain.WithBaseURL(url), langchain.WithModel(model), langchain.WithHTTPClient(client))
	if err != nil {
		return nil, err
	}
	return llm.GenerateContent(ctx, []llms.MessageContent{llms.TextParts(llms.ChatMessageTypeHuman, prompt)}, options...)
}

func newEino(ctx context.Context, url string, client *http.Client) (*einoopenai.ChatModel, error) {
	return einoopenai.NewChatModel(ctx, &einoopenai.ChatModelConfig{APIKey: "sk-test", BaseURL: url, Model: model, HTTPClient: client})
}

// an outcome is what a client returned, ready to be compared.
type outcome struct{ answer, err string }

func (u use) outcome(t *testing.T, url string, client *http.Client) outcome {
	t.Helper()
	answer, err := u.do(t.Context(), url, client)
	said, failure := json.Marshal(answer)
	if failure != nil {
		t.Fatal(failure)
	}
	return outcome{string(said), kind(err)}
}

func TestAnswersAreAsWithoutTheChain(t *testing.T) {
	t.Parallel()
	for _, u := range slices.Concat(uses, messageUses) {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, retrip.Config{})
			plain := u.outcome(t, s.provider.URL, s.plain)
			if plain.err != "no error" || len(plain.answer) < len(`["get_weather{}"]`) {
				t.Fatalf("without the chain: %+v", plain)
			}
			for _, delivery := range []retrip.Delivery{retrip.FromFirstEvent, retrip.Immediate, retrip.Whole} {
				s := newScene(t, retrip.Config{Delivery: delivery})
				if got := u.outcome(t, s.provider.URL, s.client); got != plain {
					t.Errorf("%v:\n%+v\nwithout the chain:\n%+v", delivery, got, plain)
				}
				if got := s.counts(t); got != fine {
					t.Errorf("%v: %+v, want %+v", delivery, got, fine)
				}
			}
		})
	}
}

func TestFaultsAreMendedForEveryClient(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name    string
		answer  openaitest.Answer
		becomes counts
		once    counts // where it is not repeated
	}{
		{"503", openaitest.Status(503), mended, passed},
		{"reset", openaitest.ResetBeforeHeaders(), mended, passed},
		{"429", openaitest.Status(429).With("Retry-After-Ms", "1"), waited, mistake},
	} {
		for _, u := range slices.Concat(uses, messageUses) {
			t.Run(fault.name+"/"+u.name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, retrip.Config{})
				want, becomes := u.outcome(t, s.provider.URL, s.plain), fault.becomes
				if u.once {
					// The client gets what it would get without the chain.
					s.provider.Script(u.endpoint, fault.answer)
					want, becomes = u.outcome(t, s.provider.URL, s.plain), fault.once
				}
				before := s.provider.Count(u.endpoint)
				s.provider.Script(u.endpoint, fault.answer)
				if got := u.outcome(t, s.provider.URL, s.client); got != want {
					t.Errorf("%+v\nwithout the chain:\n%+v", got, want)
				}
				got := s.counts(t)
				if got.requests -= before; got != becomes {
					t.Errorf("%+v, want %+v", got, becomes)
				}
				sent := s.provider.Requests()
				if first := sent[before]; u.endpoint != openaitest.Files { // whose boundary is random
					for _, r := range sent[before:] {
						if !reflect.DeepEqual(r.Body, sent[0].Body) || r.Header.Get("Authorization") != first.Header.Get("Authorization") {
							t.Errorf("request %d carries\n%s\nwant\n%s", r.Number, r.Body, sent[0].Body)
						}
					}
				}
			})
		}
	}
}
