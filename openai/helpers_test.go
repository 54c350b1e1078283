package openai

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/retry"
)

// made returns a response with the headers given as names and values.
func made(code int, body string, header ...string) *http.Response {
	response := &http.Response{
		StatusCode: code, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
	for i := 0; i < len(header); i += 2 {
		response.Header.Set(header[i], header[i+1])
	}
	return response
}

// noCancel is the attempt of a response that nobody ends.
var noCancel = cancelFunc(func(error) {})

type cancelFunc func(error)

func (f cancelFunc) Cancel(cause error) { f(cause) }

// attemptWith returns the attempt that a response came of, as the layers of the
// chain see it.
func attemptWith(t *testing.T, response *http.Response, attempt prefetch.Canceler, err error) *retry.Attempt {
	t.Helper()
	c := new(call.Call).Init(context.Background())
	if response.StatusCode >= http.StatusBadRequest {
		c.Answer = &errorAnswer{response: response, attempt: attempt}
	}
	req, wrong := http.NewRequestWithContext(c, http.MethodPost, "https://api.example.com/v1/chat/completions", http.NoBody)
	if wrong != nil {
		t.Fatal(wrong)
	}
	response.Request = req
	return &retry.Attempt{Request: req, Response: response, Err: err}
}
