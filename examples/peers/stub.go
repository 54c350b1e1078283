package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// A stub is a base without a network, which costs next to nothing.
type stub struct {
	kind     string // the answer's Content-Type
	answer   []byte
	failures int64 // 503s before each answer, for one call at a time
	requests atomic.Int64
}

func newStub(kind string, answer []byte, failures int64) *stub {
	return &stub{kind: kind, answer: answer, failures: failures}
}

// payloadBuffers are what payloads are read into.
var payloadBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (s *stub) RoundTrip(req *http.Request) (*http.Response, error) {
	err := readPayload(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	status, answer, kind := http.StatusOK, s.answer, s.kind
	if s.failures > 0 && s.requests.Add(1)%(s.failures+1) != 0 {
		status, answer, kind = http.StatusServiceUnavailable, down, "application/json"
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {kind}}, Request: req,
		ContentLength: int64(len(answer)), Body: &answerBody{*bytes.NewReader(answer)},
	}, nil
}

// readPayload is no io.Copy, which would spare those who send a bytes.Reader the reading.
func readPayload(body io.Reader) error {
	buffer := payloadBuffers.Get().(*[32 << 10]byte)
	defer payloadBuffers.Put(buffer)
	for {
		if _, err := body.Read(buffer[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
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
