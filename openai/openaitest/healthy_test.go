package openaitest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/retrip-go/retrip/internal/sse"
)

func TestEndpointOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/v1/chat/completions":                        Chat,
		"/chat/completions/":                          Chat,
		"/openai/deployments/gpt-4o/chat/completions": Chat,
		"/openai/deployments/gpt-4o/embeddings":       Embeddings,
		"/api/v1/completions":                         Completions,
		"/v1/responses":                               Responses,
		"/v1/responses/resp_1":                        Other,
		"/v1/moderations":                             Moderations,
		"/v1/files":                                   Files,
		"/v1/models":                                  Models,
		"/v1/models/org/name":                         Models,
		"/v1/audio/speech":                            Other,
		"/v1/messages":                                Other,
		"/":                                           Other,
		"":                                            Other,
	} {
		if got := endpointOf(path, http.Header{}); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestMessagesAreAnthropicsByTheirHeader(t *testing.T) {
	t.Parallel()
	versioned := http.Header{"Anthropic-Version": {"2023-06-01"}}
	for path, want := range map[string]string{
		"/v1/messages":              Messages,
		"/anthropic/v1/messages/":   Messages,
		"/v1/messages/count_tokens": Other,
		"/v1/chat/completions":      Chat,
	} {
		if got := endpointOf(path, versioned); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestHealthyBodies(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	tests := []struct {
		name, path, body, contains string
	}{
		{"chat", "/chat/completions", chatCall, `"content":"Hello! How can I help you today?","refusal":null`},
		{"chat, model", "/chat/completions", chatCall, `"model":"m"`},
		{"chat, usage", "/chat/completions", chatCall, `"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16`},
		{"chat, two choices", "/chat/completions", `{"n":2}`, `{"index":1,"message":`},
		{"tool required", "/chat/completions", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required"}`, `"function":{"name":"f","arguments":"{}"}`},
		{"tool named", "/chat/completions", `{"tools":[{"function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"g"}}}`, `"name":"g"`},
		{"tool not required", "/chat/completions", `{"tools":[{"function":{"name":"f"}}],"tool_choice":"auto"}`, DefaultText},
		{"completions", "/completions", `{"prompt":"a"}`, `"choices":[{"text":"Hello!`},
		{"responses", "/responses", `{"input":"a"}`, `"content":[{"type":"output_text","text":"Hello!`},
		{"moderations", "/moderations", `{"input":["a","b"]}`, `"harassment/threatening":false`},
		{"embeddings", "/embeddings", `{"input":["a","b"],"dimensions":2}`, `{"object":"embedding","index":1,"embedding":[0.03125,0.0625]}`},
		{"embeddings of tokens", "/embeddings", `{"input":[1,2,3]}`, `"usage":{"prompt_tokens":9,"total_tokens":9}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			status, body, err := ask(t, srv, tt.path, tt.body)
			if err != nil || status != 200 || !json.Valid([]byte(body)) || !strings.Contains(body, tt.contains) {
				t.Errorf("%d, %v: %s", status, err, body)
			}
		})
	}
}

func TestHealthyStreams(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	tests := []struct {
		name, path, body string
		events           int
		contains         []string // in this order
	}{
		{
			"chat", "/chat/completions", streamCall, 10,
			[]string{`"delta":{"role":"assistant"`, `"delta":{"content":"Hello! "}`, `"delta":{"content":"today?"}`, `"delta":{},"logprobs":null,"finish_reason":"stop"}]}`, "[DONE]"},
		},
		{
			"chat with usage", "/chat/completions", `{"stream":true,"stream_options":{"include_usage":true}}`, 11,
			[]string{`"usage":null}`, `"finish_reason":"stop"`, `"choices":[],"usage":{"prompt_tokens":9,`, "[DONE]"},
		},
		{
			"tool call", "/chat/completions", `{"stream":true,"tools":[{"function":{"name":"f"}}],"tool_choice":"required"}`, 4,
			[]string{`"name":"f","arguments":""`, `"arguments":"{}"`, `"finish_reason":"tool_calls"`, "[DONE]"},
		},
		{
			"completions", "/completions", `{"stream":true}`, 9,
			[]string{`"text":"Hello! "`, `"text":"","index":0,"logprobs":null,"finish_reason":"stop"`, "[DONE]"},
		},
		{
			"responses", "/responses", `{"stream":true}`, 15,
			[]string{
				"event: response.created\n", `"sequence_number":0`, "event: response.in_progress\n", "event: response.output_item.added\n",
				"event: response.content_part.added\n", "event: response.output_text.delta\n", "event: response.output_text.done\n",
				"event: response.content_part.done\n", "event: response.output_item.done\n", "event: response.completed\n", `"usage":{"input_tokens":9,`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			status, body, err := ask(t, srv, tt.path, tt.body)
			if err != nil || status != 200 || countEvents(body) != tt.events {
				t.Errorf("%d, %v, %d events: %s", status, err, countEvents(body), body)
			}
			rest := body
			for _, want := range tt.contains {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Errorf("%s not in its place in %s", want, body)
				}
				rest = after
			}
			var s sse.Scanner
			for s.Feed([]byte(body)); s.Next(); {
				if string(s.Data()) != "[DONE]" && !json.Valid(s.Data()) {
					t.Errorf("not JSON: %s", s.Data())
				}
			}
		})
	}
}

func TestResponsesReportErrorsInTheirForm(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	srv.Script(Responses, OK().ErrorAfter(1, "server_error", "x", "boom"))
	_, body, err := ask(t, srv, "/responses", `{"stream":true}`)
	const want = `event: error` + "\n" + `data: {"type":"error","sequence_number":1,"code":"x","message":"boom","param":null}` + "\n\n"
	if err != nil || !strings.HasSuffix(body, want) {
		t.Errorf("%v: %s", err, body)
	}
}

func TestSay(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	srv.Script(Chat, Say(`"one" <two>`), Say(`"one" <two>`))
	var answer struct {
		Choices []struct {
			Message struct{ Content string }
		}
		Usage struct {
			Tokens int `json:"completion_tokens"`
		}
	}
	_, body, err := ask(t, srv, "/chat/completions", chatCall)
	if err != nil || json.Unmarshal([]byte(body), &answer) != nil || answer.Choices[0].Message.Content != `"one" <two>` || answer.Usage.Tokens != 2 {
		t.Errorf("%v: %s", err, body)
	}
	if _, body, err := ask(t, srv, "/chat/completions", streamCall); err != nil || countEvents(body) != 5 {
		t.Errorf("%v: %s", err, body)
	}
}

func TestEmbeddingsInBase64AreTheSame(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	var floats struct {
		Data []struct{ Embedding []float32 }
	}
	var coded struct {
		Data []struct{ Embedding string }
	}
	for format, into := range map[string]any{"float": &floats, "base64": &coded} {
		_, body, err := ask(t, srv, "/embeddings", `{"input":"a","encoding_format":"`+format+`"}`)
		if err != nil || json.Unmarshal([]byte(body), into) != nil {
			t.Fatalf("%s: %v: %s", format, err, body)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(coded.Data[0].Embedding)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, len(raw)/4)
	if _, err := binary.Decode(raw, binary.LittleEndian, got); err != nil || len(got) == 0 || !slices.Equal(got, floats.Data[0].Embedding) {
		t.Errorf("%v, want %v; %v", got, floats.Data[0].Embedding, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	tests := []struct {
		name, method, path, body string
		status                   int
		contains                 string
	}{
		{"unknown path", http.MethodPost, "/nothing", "{}", 404, `"code":"unknown_url"`},
		{"wrong method", http.MethodGet, "/chat/completions", "", 405, `"code":"method_not_supported"`},
		{"no JSON", http.MethodPost, "/chat/completions", `{"model"`, 400, `"type":"invalid_request_error"`},
		{"no form", http.MethodPost, "/files", "{}", 400, `"type":"invalid_request_error"`},
		{"models", http.MethodGet, "/models", "", 200, `"id":"gpt-4o"`},
		{"one model", http.MethodGet, "/models/org/name", "", 200, `"id":"org/name"`},
		{"only its head", http.MethodHead, "/models", "", 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp, err := srv.Client().Do(request(t.Context(), t, tt.method, srv.URL+tt.path, tt.body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var body bytes.Buffer
			if _, err := body.ReadFrom(resp.Body); err != nil || resp.StatusCode != tt.status || !strings.Contains(body.String(), tt.contains) {
				t.Errorf("%d, %v: %s", resp.StatusCode, err, body.String())
			}
		})
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	srv := start(t, NewServer)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	file, err := w.CreateFormFile("file", "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = file.Write([]byte("abc"))
	_ = w.WriteField("purpose", "assistants")
	_ = w.Close()
	req := request(t.Context(), t, http.MethodPost, srv.URL+"/files", form.String())
	req.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		ID, Filename, Purpose string
		Bytes                 int
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.ID != "file-1" || got.Filename != "a.txt" || got.Purpose != "assistants" || got.Bytes != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}
