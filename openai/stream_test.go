package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/sse"
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
	"data: {\"error\":{\"code\":\"server_error\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n", // OpenRouter
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n" +
		"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"error\"}],\"error\":{\"code\":\"server_error\"}}\n\n",
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

func TestAChunkThatFailsCompletesNothing(t *testing.T) {
	t.Parallel()
	const begun = `data: {"choices":[{"index":0,"delta":{"content":"x"}}]}` + "\n\n"
	for name, row := range map[string]struct{ chunk, want string }{
		"an end":              {`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, "complete"},
		"an error and an end": {`{"error":{"code":502},"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`, "error_event"},
		"an end and an error": {`{"choices":[{"index":0,"delta":{},"finish_reason":"error"}],"error":{"code":502}}`, "error_event"},
		"an end, and cut":     {`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usa`, "error_event"},
	} {
		recorder := newOperationRecorder(noop.NewMeterProvider())
		if got := readStream(t, recorder, choicesShape, []byte(begun+"data: "+row.chunk+"\n\n"), 100); got.outcome != row.want || got.early {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAnEventTooLongToParseBringsSomething(t *testing.T) {
	t.Parallel()
	data := []byte("data: " + strings.Repeat("x", sse.MaxLine) + "\n\ndata: [DONE]\n\n")
	got := readStream(t, newOperationRecorder(noop.NewMeterProvider()), choicesShape, data, 1<<16)
	if !got.useful || got.outcome != "complete" || got.body != string(data) {
		t.Errorf("%d of %d bytes, %s, %s", len(got.body), len(data), got.outcome, got.reason)
	}
}

func TestAnEventLikeTheOneBeforeIsReadWhereItDiffers(t *testing.T) {
	t.Parallel()
	const token = `{"choices":[{"index":0,"delta":{"content":"x"}}]}`
	many := `{"choices":[` + strings.Repeat(`{"index":0,"delta":{"content":"x"}},`, 9) + `null]}`
	end := func(reason string) string {
		return `{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":` + reason + `}]}`
	}
	for name, row := range map[string]struct {
		first, second string
		outcome       string
	}{
		"another token":        {token, `{"choices":[{"index":0,"delta":{"content":"yy"}}]}`, "truncated"},
		"many choices":         {many, many, "truncated"},
		"cut":                  {token, token[:len(token)-1], "error_event"},
		"a token without end":  {token, `{"choices":[{"index":0,"delta":{"content":"x}}]}`, "error_event"},
		"an end":               {end("null"), end(`"stop"`), "complete"},
		"an error beside it":   {token, `{"choices":[{"index":0,"delta":{"content":"x"}}],"error":{"code":"x"}}`, "error_event"},
		"another choice's end": {end("null"), strings.Replace(end(`"stop"`), "0", "1", 1), "truncated"},
	} {
		recorder := newOperationRecorder(noop.NewMeterProvider())
		data := "data: " + row.first + "\n\ndata: " + row.second + "\n\n"
		if got := readStream(t, recorder, choicesShape, []byte(data), 100); got.outcome != row.outcome {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWhatFailsAfterTheEndOfAStreamIsTheReadersAlone(t *testing.T) {
	t.Parallel()
	const whole = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	errTorn := errors.New("torn")
	ctx := new(call.Call).Init(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://x/chat/completions", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	src := io.NopCloser(io.MultiReader(strings.NewReader(whole), iotest.ErrReader(errTorn)))
	a := &answer{src: src, kind: streamAnswer, request: req, watcher: &watcher{metrics: newOperationRecorder(noop.NewMeterProvider())}, stream: &stream{shape: choicesShape}}
	if _, err := io.ReadAll(a); !errors.Is(err, errTorn) {
		t.Errorf("its reader was told %v", err)
	}
	if failure := a.failed.Load(); failure != nil || a.outcome() != "complete" || a.End(errTorn) != breaker.Success {
		t.Errorf("%v, %s", failure, a.outcome())
	}
}

// Half a name is another model, half a number another count.
func TestAnEventThatIsCutSaysNothingOfItself(t *testing.T) {
	t.Parallel()
	const whole = `{"choices":[],"model":"gpt-5-mini","usage":{"prompt_tokens":1234}}`
	recorder := newOperationRecorder(noop.NewMeterProvider())
	for end := range len(whole) {
		var want facts
		if cut := whole[:end]; strings.Contains(cut, `mini"`) {
			want.model = "gpt-5-mini"
		}
		if strings.Contains(whole[:end], `1234}`) {
			want.usage = usage{input: 1234, hasInput: true}
		}
		if got := readStream(t, recorder, choicesShape, []byte("data: "+whole[:end]+"\n\n"), 100); got.facts != want {
			t.Errorf("%s: %+v", whole[:end], got.facts)
		}
	}
}

// outcomeSlowly returns how a chat stream ends, by encoding/json; "" if it is
// not made of data lines alone, or has JSON that is none.
func outcomeSlowly(data string) string {
	finished := map[int]bool{} // by index, of all choices begun
	known, useful, done, failed := false, false, false, false
	complete := func() bool {
		for _, f := range finished {
			if !f {
				return done
			}
		}
		return done || len(finished) > 0
	}
	rest, whole := strings.CutSuffix(data, "\n\n")
	for event := range strings.SplitSeq(rest, "\n\n") {
		event, isData := strings.CutPrefix(event, "data:")
		if !whole || !isData || strings.ContainsAny(event, "\n\r") {
			return ""
		}
		switch event = strings.TrimSpace(event); {
		case event == "":
		case event == "[DONE]":
			done = true
		case event[0] != '{':
			useful = true
		case !json.Valid([]byte(event)):
			return ""
		default:
			before := complete()
			after, isError, isChunk := maps.Clone(finished), false, false
			keys, values := inOrder([]byte(event))
			for i, value := range values {
				switch keys[i] {
				case "error":
					isError = isError || value[0] == '{' || value[0] == '"' && string(value) != `""`
				case "choices":
					isChunk = true
					finishSlowly(value, after)
				case "usage":
					isChunk = true
				}
			}
			known = known || isError || isChunk
			useful = useful || !known
			if isError {
				failed = failed || !before
			} else {
				finished = after
			}
		}
	}
	switch {
	case failed:
		return "error_event"
	case (known || !useful) && !complete():
		return "truncated"
	}
	return "complete"
}

// finishSlowly notes which choices go on, and which are finished for good.
func finishSlowly(choices json.RawMessage, finished map[int]bool) {
	var all []json.RawMessage
	if json.Unmarshal(choices, &all) != nil {
		return
	}
	for _, choice := range all {
		index, ends := 0, false
		keys, values := inOrder(choice)
		for i, value := range values {
			switch keys[i] {
			case "index":
				n, ok := countSlowly(string(value))
				if index = int(min(n, 63)); !ok {
					index = 63 // shares the last place
				}
			case "finish_reason":
				ends = string(value) != "null"
			}
		}
		finished[index] = finished[index] || ends
	}
}

// FuzzStream: whatever the pieces are that a stream comes in, its bytes pass
// unchanged, and it means the same: what encoding/json makes of it.
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
		if outcome := outcomeSlowly(string(data)); s == choicesShape && outcome != "" && want.outcome != outcome {
			t.Errorf("%q ends as %+v, want %q", data, want, outcome)
		}
		for _, n := range []int{1, 2, 1 + (size&0x7fffffff)%(len(data)+1)} {
			if got := readStream(t, recorder, s, bytes.Clone(data), n); got != want {
				t.Errorf("%q in pieces of %d: %+v, want %+v", data, n, got, want)
			}
		}
	})
}
