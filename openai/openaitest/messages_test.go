package openaitest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/internal/sse"
)

// askAnthropic makes a call as Anthropic's clients do.
func askAnthropic(t *testing.T, srv *Server, payload string) (resp *http.Response, body string, err error) {
	t.Helper()
	req := request(t.Context(), t, http.MethodPost, srv.URL+"/messages", payload)
	req.Header.Set("Anthropic-Version", "2023-06-01")
	if resp, err = srv.Client().Do(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

const tools = `"tools":[{"name":"f","input_schema":{"type":"object"}}]`

func TestHealthyMessages(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	for name, tt := range map[string]struct {
		payload  string
		contains []string // in this order
	}{
		"text":          {`{"model":"m"}`, []string{`"type":"message"`, `"model":"m"`, `"text":"Hello! How can I help you today?"`, `"stop_reason":"end_turn"`, `"input_tokens":9`, `"output_tokens":7`}},
		"model":         {`{}`, []string{`"model":"claude-sonnet-4-5"`}},
		"tool named":    {`{` + tools + `,"tool_choice":{"type":"tool","name":"g"}}`, []string{`"type":"tool_use"`, `"name":"g","input":{}`, `"stop_reason":"tool_use"`}},
		"tool required": {`{` + tools + `,"tool_choice":{"type":"any"}}`, []string{`"name":"f"`}},
		"tool allowed":  {`{` + tools + `,"tool_choice":{"type":"auto"}}`, []string{DefaultText}},
		"stream": {`{"stream":true}`, []string{
			"event: message_start\n", `"input_tokens":9`, "event: content_block_start\n", `"text":""`, "event: ping\n", "event: content_block_delta\n", `"text":"Hello! "`,
			`"text":"today?"`, "event: content_block_stop\n", "event: message_delta\n", `"stop_reason":"end_turn"`, `"output_tokens":7`, "event: message_stop\n",
		}},
		"stream of a tool": {`{"stream":true,` + tools + `,"tool_choice":{"type":"any"}}`, []string{`"type":"tool_use","id":"toolu_1","name":"f"`, `"partial_json":"{}"`, `"stop_reason":"tool_use"`, "message_stop"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body, err := askAnthropic(t, srv, tt.payload)
			if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Request-Id") == "" {
				t.Fatalf("%d, %v, %v", resp.StatusCode, resp.Header, err)
			}
			rest := body
			for _, want := range tt.contains {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Errorf("%s not in its place in %s", want, body)
				}
				rest = after
			}
			checkJSON(t, body)
		})
	}
}

// checkJSON holds that a body is JSON, or every event of it has some with the
// event's name in it.
func checkJSON(t *testing.T, body string) {
	t.Helper()
	if json.Valid([]byte(body)) {
		return
	}
	var s sse.Scanner
	for s.Feed([]byte(body)); s.Next(); {
		if !json.Valid(s.Data()) || !strings.HasPrefix(string(s.Data()), `{"type":`+quote(string(s.Name()))) {
			t.Errorf("event %s: %s", s.Name(), s.Data())
		}
	}
}

func TestErrorsOfMessagesAreAnthropics(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
		429: "rate_limit_error", 500: "api_error", 504: "timeout_error", 529: "overloaded_error",
	} {
		srv := start(t, NewServer)
		srv.Script(Messages, Status(status))
		resp, body, err := askAnthropic(t, srv, `{}`)
		if err != nil || resp.StatusCode != status || !strings.HasPrefix(body, `{"type":"error","error":{"type":"`+want+`"`) {
			t.Errorf("%d, %v: %s", resp.StatusCode, err, body)
		}
	}
}

func TestFaultsOfMessages(t *testing.T) {
	t.Parallel()
	const boom = `{"type":"error","error":{"type":"overloaded_error","message":"boom"}}`
	for name, tt := range map[string]struct {
		answer   Answer
		payload  string
		events   int
		contains string
		broken   bool
	}{
		"error":           {Error(529, "overloaded_error", "", "boom"), `{}`, 0, boom, false},
		"error in a 200":  {OK().ErrorAfter(0, "overloaded_error", "", "boom"), `{}`, 0, boom, false},
		"error event":     {OK().ErrorAfter(4, "overloaded_error", "", "boom"), `{"stream":true}`, 5, "event: error\ndata: " + boom + "\n\n", false},
		"not JSON":        {OK(), `{"model"`, 0, `"type":"invalid_request_error"`, false},
		"cut":             {OK().CutAfter(4), `{"stream":true}`, 4, "Hello! ", true},
		"cut, in a body":  {OK().CutAfter(9), `{}`, 0, `{"id":"ms`, true},
		"ended":           {OK().EndAfter(4), `{"stream":true}`, 4, "Hello! ", false},
		"corrupt":         {OK().CorruptAfter(3), `{"stream":true}`, 13, "message_stop", false},
		"another text":    {Say("Hm."), `{"stream":true}`, 7, `"text":"Hm."`, false},
		"own events":      {Stream(Event("ping", `{"type":"ping"}`)), `{}`, 1, "event: ping", false},
		"body instead":    {JSON(`{"a":1}`), `{"stream":true}`, 0, `{"a":1}`, false},
		"fault after one": {OK().ErrorAfter(1, "api_error", "", "boom").EndAfter(2), `{"stream":true}`, 2, "message_start", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t, NewServer)
			srv.Script(Messages, tt.answer)
			_, body, err := askAnthropic(t, srv, tt.payload)
			if (err != nil) != tt.broken || countEvents(body) != tt.events || !strings.Contains(body, tt.contains) {
				t.Errorf("%v, %d events in %s", err, countEvents(body), body)
			}
			if srv.Count(Messages) != 1 {
				t.Errorf("%d requests", srv.Count(Messages))
			}
		})
	}
}
