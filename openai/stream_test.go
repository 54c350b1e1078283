package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/retrip-go/retrip/breaker"
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
	"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n" +
		"data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\ndata: {\"type\":\"ping\"}\n\n" +
		"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"é\"}}\n\ndata: {\"type\":\"content_block_stop\"}\n\n" +
		"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
	"data: {\"type\":\"message_start\",\"message\":{}}\n\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\",\"error\":{\"code\":502}}]}\n\ndata: [DONE]\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"error\":\"overloaded\"}]}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"\"}],\"error\":{\"message\":\"\",\"code\":0}}\n\n",
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\ndata: [DONE]\n\n",
	"data: {\"prompt_progress\":{\"total\":9},\"choices\":[]}\n\ndata: {\"choices\":[{\"index\":0}]} {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]} [DONE]\n\n",
	"data: {\"type\":\"response.done\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"x\"}}}\n\n", "data: {\"type\":\"response.cancelled\"}\n\n",
	"data: {\"type\":\"mcp_call.failed\",\"error\":{\"code\":\"x\"}}\n\ndata: {\"type\":\"response.completed\"}\n\n", "data: {\"error\":{\"code\":\"x\"}}\n\n",
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

// readStream reads a stream of a call that asked for one choice, or for many.
func readStream(t *testing.T, path string, single bool, data []byte, size int) (end streamEnd) {
	t.Helper()
	a := streamTo(t, path, &pieces{data, size})
	a.stream.single = single
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
		if got := readStream(t, chatPath, false, []byte(begun+"data: "+row.chunk+"\n\n"), 100); got.outcome != row.want || got.early {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAnEventTooLongToParseBringsSomething(t *testing.T) {
	t.Parallel()
	data := []byte("data: " + strings.Repeat("x", sse.MaxLine) + "\n\ndata: [DONE]\n\n")
	got := readStream(t, chatPath, false, data, 1<<16)
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
		"an error beside it":   {token, `{"choices":[{"index":0,"delta":{"content":"x"}}],"error":{"code":"x"}}`, "truncated"}, // a remark
		"an error alone":       {token, `{"choices":[{"index":0,"delta":{"content":""}}],"error":{"code":"x"}}`, "error_event"},
		"an error behind it":   {token, token + ` {"error":{"code":"x"}}`, "error_event"},
		"another choice's end": {end("null"), strings.Replace(end(`"stop"`), "0", "1", 1), "truncated"},
	} {
		data := "data: " + row.first + "\n\ndata: " + row.second + "\n\n"
		if got := readStream(t, chatPath, false, []byte(data), 100); got.outcome != row.outcome {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWhatFailsAfterTheEndOfAStreamIsTheReadersAlone(t *testing.T) {
	t.Parallel()
	const whole = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	errTorn := errors.New("torn")
	a := streamTo(t, chatPath, io.NopCloser(io.MultiReader(strings.NewReader(whole), iotest.ErrReader(errTorn))))
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
	for end := range len(whole) {
		var want facts
		if cut := whole[:end]; strings.Contains(cut, `mini"`) {
			want.model = "gpt-5-mini"
		}
		if strings.Contains(whole[:end], `1234}`) {
			want.usage = usage{input: count{1234, true}}
		}
		if got := readStream(t, chatPath, false, []byte("data: "+whole[:end]+"\n\n"), 100); got.facts != want {
			t.Errorf("%s: %+v", whole[:end], got.facts)
		}
	}
}

// A meaningSlowly is what one event means, by encoding/json; ok is false if
// its JSON is none, of which nothing is known here.
type meaningSlowly func(data []byte) (m meaning, ok bool)

// outcomeSlowly returns how a stream ends; "" if it is not made of data lines
// alone, or has JSON that is none.
func outcomeSlowly(data string, meaningOf meaningSlowly, known, complete func() bool) string {
	useful, done, isFailed := false, false, false
	rest, whole := strings.CutSuffix(data, "\n\n")
	for event := range strings.SplitSeq(rest, "\n\n") {
		event, isData := strings.CutPrefix(event, "data:")
		if !whole || !isData || strings.ContainsAny(event, "\n\r") {
			return ""
		}
		event = strings.Trim(event, " \t")
		if event == "" {
			continue
		}
		m, ok := meaningOf([]byte(event))
		switch {
		case !ok:
			return ""
		case m == failed:
			isFailed = isFailed || !done && !complete()
		case m == terminal:
			useful, done = true, true
		case m == content:
			useful = true
		}
	}
	switch ended := done || complete(); {
	case isFailed:
		return "error_event"
	case (known() || !useful) && !ended:
		return "truncated"
	}
	return "complete"
}

// chatSlowly reads a stream of chat.
type chatSlowly struct {
	finished map[int]bool // by index, of all choices begun
	known    bool
	single   bool
}

func (c *chatSlowly) complete() bool {
	ended := 0
	for _, f := range c.finished {
		if f {
			ended++
		}
	}
	return ended > 0 && (ended == len(c.finished) || c.single)
}

func (c *chatSlowly) meaning(data []byte) (m meaning, ok bool) {
	for m = opener; len(data) > 0; {
		if after, isDone := bytes.CutPrefix(data, []byte("[DONE]")); isDone {
			m, data = max(m, terminal), bytes.Trim(after, jsonSpace)
			continue
		}
		if data[0] != '{' {
			return max(m, content), true
		}
		d := json.NewDecoder(bytes.NewReader(data))
		var event json.RawMessage
		if d.Decode(&event) != nil {
			return 0, false
		}
		of := c.event(event)
		if m = max(m, of); of == failed {
			return failed, true
		}
		data = bytes.Trim(data[d.InputOffset():], jsonSpace)
	}
	return m, true
}

const jsonSpace = " \t\r\n"

func (c *chatSlowly) event(data json.RawMessage) meaning {
	after, isChunk, brings := maps.Clone(c.finished), false, false
	var e errorSlowly
	keys, values := inOrder(data)
	for i, value := range values {
		switch keys[i] {
		case "choices":
			isChunk = true
			for _, choice := range elements(value) {
				brings = choiceSlowly(choice, after, &e) || brings
			}
		case "prompt_progress":
			brings = brings || saysSomething(value) && isContainerSlowly(value)
		case "error", "error_type", "object", "type", "code":
			e.top(keys[i], value)
		}
	}
	c.known = c.known || isChunk
	if e.fails(brings) {
		return failed
	}
	c.finished = after
	if brings || !isChunk {
		return content
	}
	return opener
}

// choiceSlowly notes whether a choice goes on or is finished for good, and
// reports whether it brings something.
func choiceSlowly(choice json.RawMessage, finished map[int]bool, e *errorSlowly) (brings bool) {
	if choice[0] != '{' {
		return false
	}
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
			ends = isContainerSlowly(value) || saysSomething(value)
			e.inChoice = e.inChoice || string(value) == `"error"`
		case "error":
			var of errorSlowly
			of.top("error", value)
			e.inChoice = e.inChoice || of.isError()
		case "text":
			brings = brings || isContainerSlowly(value) || saysSomething(value)
		case "delta", "message":
			members, said := inOrder(value)
			for i := range members {
				brings = brings || members[i] != "role" && saysSomething(said[i])
			}
		}
	}
	finished[index] = finished[index] || ends
	return brings || ends
}

// A typedSlowly reads a stream of events with a type.
type typedSlowly struct {
	known bool
	read  func(keys []string, values []json.RawMessage) (m meaning, known bool)
}

func (s *typedSlowly) meaning(data []byte) (meaning, bool) {
	if data[0] != '{' {
		return content, true
	}
	var event json.RawMessage
	if json.NewDecoder(bytes.NewReader(data)).Decode(&event) != nil {
		return 0, false
	}
	m, known := s.read(inOrder(event))
	s.known = s.known || known
	return m, true
}

func responseSlowly(keys []string, values []json.RawMessage) (m meaning, typed bool) {
	m, runFails := content, false
	var e errorSlowly
	for i, value := range values {
		e.top(keys[i], value)
		switch keys[i] {
		case "type":
			typed, m = true, content
			switch string(value) {
			case `"response.created"`, `"response.queued"`, `"response.in_progress"`, `"ping"`, `"keepalive"`:
				m = opener
			case `"response.completed"`, `"response.incomplete"`, `"response.cancelled"`, `"response.done"`:
				m = terminal
			case `"response.failed"`, `"error"`:
				m = failed
			}
		case "response":
			members, said := inOrder(value)
			for i := range members {
				if members[i] == "status" {
					runFails = string(said[i]) == `"failed"`
				}
			}
		}
	}
	if !typed && e.isError() || m == terminal && runFails {
		m = failed
	}
	return m, typed
}

func messageSlowly(keys []string, values []json.RawMessage) (m meaning, known bool) {
	m, full := content, false
	var e errorSlowly
	for i, value := range values {
		switch keys[i] {
		case "type":
			known = true
			switch string(value) {
			case `"message_start"`, `"ping"`, `"content_block_stop"`:
				m = opener
			case `"content_block_start"`, `"content_block_delta"`, `"message_delta"`:
				m = content
			case `"message_stop"`:
				m = terminal
			case `"error"`:
				m = failed
			default:
				m, known = content, false
			}
			e.top("type", value)
		case "error":
			e.top("error", value)
		case "content_block", "delta":
			members, said := inOrder(value)
			for i := range members {
				full = full || members[i] != "type" && saysSomething(said[i])
			}
		}
	}
	switch {
	case e.isError():
		m = failed
	case known && m == content && !full:
		m = opener
	}
	return m, known
}

// FuzzStream: whatever the pieces are that a stream comes in, its bytes pass
// unchanged, and it means the same: what encoding/json makes of it.
func FuzzStream(f *testing.F) {
	for i, s := range streamsOfEvents {
		for path := range 3 {
			f.Add([]byte(s), path, i)
			f.Add([]byte(s), path|0x100, i)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, which, size int) {
		single := which&0x100 == 0
		path := []string{chatPath, responsesPath, messagesPath}[(which&0xff)%3]
		want := readStream(t, path, single, bytes.Clone(data), len(data)+1)
		if want.body != string(data) || want.outcome == "closed_by_caller" || (want.reason == "") != (want.outcome == "complete") {
			t.Errorf("%q: %+v", data, want)
		}
		chat := &chatSlowly{finished: map[int]bool{}, single: single}
		typed := &typedSlowly{read: responseSlowly}
		meaningOf, known, complete := typed.meaning, func() bool { return typed.known }, func() bool { return false }
		switch path {
		case chatPath:
			meaningOf, known, complete = chat.meaning, func() bool { return chat.known }, chat.complete
		case messagesPath:
			typed.read = messageSlowly
		}
		if outcome := outcomeSlowly(string(data), meaningOf, known, complete); outcome != "" && want.outcome != outcome {
			t.Errorf("%s: %q ends as %+v, want %q", path, data, want, outcome)
		}
		for _, n := range []int{1, 2, 1 + (size&0x7fffffff)%(len(data)+1)} {
			if got := readStream(t, path, single, bytes.Clone(data), n); got != want {
				t.Errorf("%s: %q in pieces of %d: %+v, want %+v", path, data, n, got, want)
			}
		}
	})
}
