package openaitest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
)

// created is the time of all objects, in seconds since 1970.
const created = 1700000000

// A call is what the healthy answers look at in a request.
type call struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	Background    bool   `json:"background"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	N              int             `json:"n"`
	Tools          []tool          `json:"tools"`
	ToolChoice     json.RawMessage `json:"tool_choice"`
	Input          json.RawMessage `json:"input"`
	EncodingFormat string          `json:"encoding_format"`
	Dimensions     int             `json:"dimensions"`

	id string // of a response; "" = "resp_1"
}

// A tool, or the choice of one, is OpenAI's or Anthropic's.
type tool struct {
	Type     string `json:"type"`
	Name     string `json:"name"` // Anthropic's
	Function struct {
		Name string `json:"name"`
	} `json:"function"`
}

// maxDimensions is that of the largest embedding model there is, maxChoices
// the API's own limit: a request cannot make the server run out of memory.
const (
	maxDimensions = 3072
	maxChoices    = 128
)

// healthy returns what a provider in good health answers; events is nil if it
// is a body.
func healthy(text string, req *Request) (status int, body string, events []string) {
	if req.Endpoint == Other {
		return http.StatusNotFound, invalid(req.Endpoint, "unknown_url", "Invalid URL ("+req.Method+" "+req.Path+")"), nil
	}
	want := http.MethodPost
	if req.Endpoint == Models {
		want = http.MethodGet
	}
	if req.Method != want && (req.Method != http.MethodHead || want != http.MethodGet) {
		return http.StatusMethodNotAllowed, invalid(req.Endpoint, "method_not_supported", "Not allowed to "+req.Method+" on "+req.Path+"."), nil
	}
	switch req.Endpoint {
	case Models:
		return http.StatusOK, models(req.Path), nil
	case Files:
		body, err := upload(req)
		if err != nil {
			return http.StatusBadRequest, invalid(req.Endpoint, "", err.Error()), nil
		}
		return http.StatusOK, body, nil
	}
	var c call
	if err := json.Unmarshal(req.Body, &c); err != nil {
		return http.StatusBadRequest, invalid(req.Endpoint, "", "We could not parse the JSON body of your request: "+err.Error()), nil
	}
	if c.Model == "" {
		c.Model = "gpt-4o"
		if req.Endpoint == Messages {
			c.Model = "claude-sonnet-4-5"
		}
	}
	c.N = min(max(c.N, 1), maxChoices)
	if text == "" {
		text = DefaultText
	}
	switch req.Endpoint {
	case Embeddings:
		body = c.embeddings()
	case Moderations:
		body = c.moderations()
	default:
		body, events = c.generate(req.Endpoint, text)
	}
	return http.StatusOK, body, events
}

// generate returns the answer of a language model, in the format of its endpoint.
func (c *call) generate(endpoint, text string) (body string, events []string) {
	switch {
	case endpoint == Chat && c.Stream:
		events = c.chatStream(text)
	case endpoint == Chat:
		body = c.chat(text)
	case endpoint == Completions && c.Stream:
		events = c.completionStream(text)
	case endpoint == Completions:
		body = c.completion(text)
	case endpoint == Messages && c.Stream:
		events = c.messageStream(text)
	case endpoint == Messages:
		body = c.message(text)
	case c.Stream:
		events = c.responseStream(text)
	default:
		body = c.response("completed", text)
	}
	return body, events
}

// toolName returns the function the answer has to call, "" if it may speak.
func (c *call) toolName() string {
	if len(c.Tools) == 0 {
		return ""
	}
	if named := c.choice(); named.Function.Name != "" {
		return named.Function.Name
	}
	if string(c.ToolChoice) == `"required"` {
		return c.Tools[0].Function.Name
	}
	return ""
}

// choice returns the tool_choice if it is an object.
func (c *call) choice() (named tool) {
	_ = json.Unmarshal(c.ToolChoice, &named)
	return named
}

// inputs returns how many inputs there are: one, or a list of texts or token
// lists. A list of numbers is one input.
func (c *call) inputs() int {
	var list []json.RawMessage
	if json.Unmarshal(c.Input, &list) != nil || len(list) == 0 {
		return 1
	}
	if first := list[0][0]; first != '"' && first != '[' && first != '{' {
		return 1
	}
	return len(list)
}

// embeddings returns one vector for each input. The official SDKs ask for base64, which
// other clients do not read.
func (c *call) embeddings() string {
	size := min(c.Dimensions, maxDimensions)
	if size <= 0 {
		size = 8
	}
	vector := make([]float32, size)
	for i := range vector {
		vector[i] = float32(i%16+1) / 32
	}
	value := quote(vector)
	if c.EncodingFormat == "base64" {
		var raw []byte
		for _, x := range vector {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
		value = quote(base64.StdEncoding.EncodeToString(raw))
	}
	data := list(c.inputs(), func(i int) string {
		return fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, i, value)
	})
	tokens := promptTokens * c.inputs()
	return fmt.Sprintf(`{"object":"list","data":%s,"model":%s,"usage":{"prompt_tokens":%d,"total_tokens":%d}}`,
		data, quote(c.Model), tokens, tokens)
}

// moderations returns a result for each input, in which nothing is flagged.
func (c *call) moderations() string {
	categories := []string{
		"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
		"self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors", "violence", "violence/graphic",
	}
	object := func(value string) string {
		pairs := make([]string, len(categories))
		for i, name := range categories {
			pairs[i] = quote(name) + ":" + value
		}
		return "{" + strings.Join(pairs, ",") + "}"
	}
	results := list(c.inputs(), func(int) string {
		return `{"flagged":false,"categories":` + object("false") + `,"category_scores":` + object("0.0001") +
			`,"category_applied_input_types":` + object(`["text"]`) + `}`
	})
	return fmt.Sprintf(`{"id":"modr-1","model":%s,"results":%s}`, quote(c.Model), results)
}

// models returns the model that a path names, or a list of models.
func models(path string) string {
	model := func(name string) string {
		return fmt.Sprintf(`{"id":%s,"object":"model","created":%d,"owned_by":"openaitest"}`, quote(name), created)
	}
	if _, name, ok := strings.Cut(path, "/models/"); ok && name != "" {
		return model(name)
	}
	return `{"object":"list","data":[` + model("gpt-4o") + "," + model("text-embedding-3-small") + `]}`
}

// upload returns the file object of an upload. It keeps nothing of the file.
func upload(req *Request) (string, error) {
	_, params, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil {
		return "", err
	}
	form := multipart.NewReader(bytes.NewReader(req.Body), params["boundary"])
	var name, purpose string
	var size int
	for {
		part, err := form.NextPart()
		if err == io.EOF { //nolint:errorlint // NextPart wraps only other errors
			break
		}
		if err != nil {
			return "", err
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return "", err
		}
		switch part.FormName() {
		case "file":
			name, size = part.FileName(), len(value)
		case "purpose":
			purpose = string(value)
		}
	}
	return fmt.Sprintf(`{"id":"file-1","object":"file","bytes":%d,"created_at":%d,"filename":%s,"purpose":%s,"status":"processed"}`,
		size, created, quote(name), quote(purpose)), nil
}

// quote returns v as JSON. It is called with what JSON can say.
func quote(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// list returns a JSON array.
func list(n int, item func(i int) string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = item(i)
	}
	return "[" + strings.Join(items, ",") + "]"
}
