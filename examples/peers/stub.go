package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A stub is a base without a network, which costs next to nothing. It is for
// one call at a time.
type stub struct {
	kind     string // the answer's Content-Type
	answer   []byte
	failures int // 503s before each answer
	failed   int
	buffer   []byte // that payloads are read into
}

func newStub(kind string, answer []byte, failures int) *stub {
	return &stub{kind: kind, answer: answer, failures: failures, buffer: make([]byte, 32<<10)}
}

func (s *stub) RoundTrip(req *http.Request) (*http.Response, error) {
	// io.Copy would spare those who send a bytes.Reader the reading.
	for {
		if _, err := req.Body.Read(s.buffer); err == io.EOF {
			break
		} else if err != nil {
			req.Body.Close()
			return nil, err
		}
	}
	req.Body.Close()
	status, answer, kind := http.StatusOK, s.answer, s.kind
	if s.failed < s.failures {
		s.failed++
		status, answer, kind = http.StatusServiceUnavailable, down, "application/json"
	} else {
		s.failed = 0
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {kind}}, Request: req,
		ContentLength: int64(len(answer)), Body: &answerBody{*bytes.NewReader(answer)},
	}, nil
}

var down = []byte(`{"error":{"message":"overloaded","type":"server_error"}}`)

// An answerBody is read by copying only, as a connection's is.
type answerBody struct{ r bytes.Reader }

func (b *answerBody) Read(p []byte) (int, error) { return b.r.Read(p) }

func (b *answerBody) Close() error { return nil }

// chat is a request of about that size.
func chat(size int, stream bool) []byte {
	const before, after = `{"model":"m","stream":%t,"messages":[{"role":"user","content":"`, `"}]}`
	return []byte(fmt.Sprintf(before, stream) + strings.Repeat("x", max(0, size-len(before)-len(after))) + after)
}

// completion is a small answer.
func completion() []byte {
	const before = `{"id":"c-1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"`
	const after = `"}}],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}`
	return []byte(before + strings.Repeat("x", small-len(before)-len(after)) + after)
}

// stream is an answer of n events and its end.
func stream(n int) []byte {
	var b bytes.Buffer
	for range n {
		b.WriteString(`data: {"id":"c-1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"several words of it"}}]}` + "\n\n")
	}
	b.WriteString(`data: {"id":"c-1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n")
	b.WriteString("data: [DONE]\n\n")
	return b.Bytes()
}
