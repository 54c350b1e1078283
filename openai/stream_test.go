package openai

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/internal/call"
)

var streamsOfEvents = []string{
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n" +
		"data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"é\"},\"finish_reason\":null}]}\n\n" +
		"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" +
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"},{\"index\":99,\"text\":\"x\"}]}\r\n\r\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"error\":{\"code\":\"x\"}}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"choi\n\n",
	"event: error\ndata: {\"message\":\"x\"}\n\n", "event: ping\ndata: {}\n\n: comment\n\ndata\n\n", "data: {\n\n", "data: [DONE]", "\ufeffdata: hello\r\rdata:x", "",
	"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\ndata: {\"type\":\"response.output_text.delta\"}\n\n" +
		"data: {\"type\":\"response.completed\",\"response\":{\"model\":\"m\",\"usage\":{\"input_tokens\":9,\"output_tokens\":7}}}\n\n",
	"data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"},\"response\":{\"response\":{}}}}\n\n",
	"data: {\"type\":\"error\",\"code\":\"x\",\"message\":null}\n\n", "data: {\"error\":\"\",\"choices\":[null,1,[],{}]}\n\ndata: {\"choices\":{}}\n\n",
}

// A pieces is a body that comes in pieces of one size.
type pieces struct {
	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pieces) Close() error { return nil }

// What came of a stream.
type streamEnd struct {
	body, err, outcome, reason string
	early, useful              bool
	facts                      facts
}

func readStream(t *testing.T, r *operationRecorder, s shape, data []byte, size int) (end streamEnd) {
	t.Helper()
	ctx := new(call.Call).Init(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://x/chat/completions", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{src: &pieces{data, size}, kind: streamAnswer, request: req, watcher: &watcher{metrics: r}, stream: &stream{shape: s}}
	body, err := io.ReadAll(a)
	end = streamEnd{body: string(body), outcome: a.outcome(), early: a.early.Load(), useful: a.useful.Load(), facts: a.stream.facts}
	if err != nil {
		end.err = err.Error()
	}
	if failure := a.failed.Load(); failure != nil {
		end.reason = failure.Error()
	}
	return end
}

// FuzzStream: whatever the pieces are that a stream comes in, its bytes pass
// unchanged, and it means the same.
func FuzzStream(f *testing.F) {
	for i, s := range streamsOfEvents {
		for shape := range 3 {
			f.Add([]byte(s), shape, i)
		}
	}
	recorder := newOperationRecorder(noop.NewMeterProvider())
	f.Fuzz(func(t *testing.T, data []byte, which, size int) {
		s := shape((which & 0xff) % 3)
		want := readStream(t, recorder, s, bytes.Clone(data), len(data)+1)
		if want.body != string(data) || want.outcome == "closed_by_caller" || (want.reason == "") != (want.outcome == "complete") {
			t.Errorf("%q: %+v", data, want)
		}
		for _, n := range []int{1, 2, 1 + (size&0x7fffffff)%(len(data)+1)} {
			if got := readStream(t, recorder, s, bytes.Clone(data), n); got != want {
				t.Errorf("%q in pieces of %d: %+v, want %+v", data, n, got, want)
			}
		}
	})
}
