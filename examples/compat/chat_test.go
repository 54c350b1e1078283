package compat

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	sashabaranov "github.com/sashabaranov/go-openai"

	retrip "github.com/retrip-go/retrip/openai"
)

// An sdk asks for a chat completion, in one piece or as a stream. Beside an
// error it returns the text that came before.
type sdk struct {
	name         string
	blind        bool // to what follows a JSON value
	chat, stream func(ctx context.Context, url string, client *http.Client) (string, error)
}

var sdks = [2]sdk{
	{"openai-go", false, chatOpenAI, streamOpenAI},
	{"sashabaranov", true, chatSashabaranov, streamSashabaranov},
}

func newOpenAI(url string, client *http.Client, options ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(url), option.WithAPIKey("sk-test"), option.WithHTTPClient(client),
		option.WithMaxRetries(0), // as the README says: retrip retries
	}, options...)...)
}

var paramsOpenAI = openai.ChatCompletionNewParams{
	Model:    model,
	Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
}

func chatOpenAI(ctx context.Context, url string, client *http.Client) (string, error) {
	o := newOpenAI(url, client)
	completion, err := o.Chat.Completions.New(ctx, paramsOpenAI)
	if err != nil || len(completion.Choices) == 0 {
		return "", err
	}
	return completion.Choices[0].Message.Content, nil
}

func streamOpenAI(ctx context.Context, url string, client *http.Client) (string, error) {
	o := newOpenAI(url, client)
	stream := o.Chat.Completions.NewStreaming(ctx, paramsOpenAI)
	defer stream.Close() //nolint:errcheck // reading told what there is to tell
	var text strings.Builder
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			text.WriteString(choice.Delta.Content)
		}
	}
	return text.String(), stream.Err()
}

func newSashabaranov(url string, client *http.Client) *sashabaranov.Client {
	config := sashabaranov.DefaultConfig("sk-test")
	config.BaseURL, config.HTTPClient = url, client
	return sashabaranov.NewClientWithConfig(config)
}

func requestSashabaranov() sashabaranov.ChatCompletionRequest {
	return sashabaranov.ChatCompletionRequest{
		Model:    model,
		Messages: []sashabaranov.ChatCompletionMessage{{Role: sashabaranov.ChatMessageRoleUser, Content: prompt}},
	}
}

func chatSashabaranov(ctx context.Context, url string, client *http.Client) (string, error) {
	completion, err := newSashabaranov(url, client).CreateChatCompletion(ctx, requestSashabaranov())
	if err != nil || len(completion.Choices) == 0 {
		return "", err
	}
	return completion.Choices[0].Message.Content, nil
}

func streamSashabaranov(ctx context.Context, url string, client *http.Client) (string, error) {
	stream, err := newSashabaranov(url, client).CreateChatCompletionStream(ctx, requestSashabaranov())
	if err != nil {
		return "", err
	}
	defer stream.Close() //nolint:errcheck // reading told what there is to tell
	var text strings.Builder
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return text.String(), nil
		}
		if err != nil {
			return text.String(), err
		}
		for _, choice := range chunk.Choices {
			text.WriteString(choice.Delta.Content)
		}
	}
}

// kind names an error as a caller would tell it from others: by type, through
// all that the SDK has wrapped around it.
func kind(err error) string {
	var (
		status   *openai.Error
		statusA  *anthropic.Error
		statusS  *sashabaranov.APIError
		statusSR *sashabaranov.RequestError
		event    *ssestream.StreamError
		syntax   *json.SyntaxError
		network  net.Error
	)
	switch {
	case err == nil:
		return "no error"
	case errors.Is(err, retrip.ErrStalled):
		return "ErrStalled"
	case errors.Is(err, retrip.ErrTruncated):
		return "ErrTruncated"
	case isAnswerError(err):
		return "AnswerError"
	case errors.As(err, &status):
		return "HTTP " + http.StatusText(status.StatusCode)
	case errors.As(err, &statusA) && statusA.StatusCode >= http.StatusBadRequest:
		return "HTTP " + cmp.Or(http.StatusText(statusA.StatusCode), strconv.Itoa(statusA.StatusCode))
	case errors.As(err, &statusS) && statusS.HTTPStatusCode != 0:
		return "HTTP " + http.StatusText(statusS.HTTPStatusCode)
	case errors.As(err, &statusSR):
		return "HTTP " + http.StatusText(statusSR.HTTPStatusCode)
	case errors.As(err, &event), errors.As(err, &statusS), errors.As(err, &statusA):
		return "the provider's error"
	case errors.As(err, &syntax):
		return "syntax"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "unexpected EOF"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return err.Error()
}

// isAnswerError reports whether the chain says that a 2xx is no answer.
func isAnswerError(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if fmt.Sprintf("%T", err) == "*openai.AnswerError" {
			return true
		}
	}
	return false
}
