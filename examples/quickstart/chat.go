package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/retry"
)

// A chat asks a model with net/http alone: what an SDK would do, as far as this
// program needs it.
type chat struct {
	client *http.Client
	url    string // ends in /v1
	key    string
	model  string
}

// A statusError is an answer with the status of an error.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("the provider answers with %d", int(e)) }

// A piece is the part of an answer, or of a stream's event, that is read here.
type piece struct {
	Choices []struct {
		Message struct{ Content string }
		Delta   struct{ Content string }
	}
}

func (c *chat) ask(ctx context.Context, prompt string) (string, error) {
	resp, err := c.post(ctx, prompt, false)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer piece
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // a broken answer says so at its end
		return "", err
	}
	if len(answer.Choices) == 0 {
		return "", errors.New("the answer has no choices")
	}
	return answer.Choices[0].Message.Content, nil
}

// stream hands each token to got as it arrives.
func (c *chat) stream(ctx context.Context, prompt string, got func(token string)) error {
	resp, err := c.post(ctx, prompt, true)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var event piece
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return err
		}
		for _, choice := range event.Choices {
			if choice.Delta.Content != "" {
				got(choice.Delta.Content)
			}
		}
	}
	return lines.Err() // retrip.ErrTruncated, if the stream ended too early
}

func (c *chat) post(ctx context.Context, prompt string, stream bool) (*http.Response, error) {
	payload, err := json.Marshal(map[string]any{
		"model":    c.model,
		"messages": []any{map[string]string{"role": "user", "content": prompt}},
		"stream":   stream,
	})
	if err != nil {
		return nil, err
	}
	// NewRequest shares the payload among all attempts; http.NewRequest would do, too.
	req, err := retry.NewRequest(ctx, http.MethodPost, c.url+"/chat/completions", payload)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, statusError(resp.StatusCode)
	}
	return resp, nil
}
