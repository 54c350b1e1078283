package openaitest

import (
	"cmp"
	"fmt"
	"strings"
)

// promptTokens is what every prompt costs; an answer costs a token a word.
const promptTokens = 9

// done is the last event of chat and completions.
const done = "data: [DONE]\n\n"

// words returns the tokens of a text: its words, with the space behind.
func words(text string) []string { return strings.SplitAfter(text, " ") }

// usage returns the usage of chat and completions. Each choice costs its tokens.
func usage(text string, choices int) string {
	tokens := len(words(text)) * choices
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,`+
		`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},`+
		`"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`,
		promptTokens, tokens, promptTokens+tokens)
}

// chat returns the body of a chat completion, with a tool call if the request demands one.
func (c *call) chat(text string) string {
	message := `{"role":"assistant","content":` + quote(text) + `,"refusal":null,"annotations":[]}`
	reason := "stop"
	if name := c.toolName(); name != "" {
		message = `{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":` +
			quote(name) + `,"arguments":"{}"}}],"refusal":null,"annotations":[]}`
		reason = "tool_calls"
	}
	choices := list(c.N, func(i int) string {
		return fmt.Sprintf(`{"index":%d,"message":%s,"logprobs":null,"finish_reason":%q}`, i, message, reason)
	})
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":%d,"model":%s,"choices":%s,"usage":%s,`+
		`"service_tier":"default","system_fingerprint":"fp_1"}`, created, quote(c.Model), choices, usage(text, c.N))
}

// chatStream returns the events of a chat completion, as OpenAI sends them: a chunk with
// the role, one for each token, and one with the finish_reason. The choices take turns.
func (c *call) chatStream(text string) []string {
	deltas := []string{`{"role":"assistant","content":"","refusal":null}`}
	reason := "stop"
	if name := c.toolName(); name != "" {
		deltas = []string{
			`{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":` +
				quote(name) + `,"arguments":""}}],"refusal":null}`,
			`{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`,
		}
		reason = "tool_calls"
	} else {
		for _, word := range words(text) {
			deltas = append(deltas, `{"content":`+quote(word)+`}`)
		}
	}
	var choices []string
	add := func(delta, reason string) {
		for i := range c.N {
			choices = append(choices, fmt.Sprintf(`[{"index":%d,"delta":%s,"logprobs":null,"finish_reason":%s}]`, i, delta, reason))
		}
	}
	for _, delta := range deltas {
		add(delta, "null")
	}
	add("{}", quote(reason))
	head := fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":%d,"model":%s,`+
		`"service_tier":"default","system_fingerprint":"fp_1","choices":`, created, quote(c.Model))
	return c.chunks(head, choices, text)
}

// completion returns the body of a completion.
func (c *call) completion(text string) string {
	choices := list(c.N, func(i int) string {
		return fmt.Sprintf(`{"text":%s,"index":%d,"logprobs":null,"finish_reason":"stop"}`, quote(text), i)
	})
	return fmt.Sprintf(`{"id":"cmpl-1","object":"text_completion","created":%d,"model":%s,"choices":%s,"usage":%s}`,
		created, quote(c.Model), choices, usage(text, c.N))
}

// completionStream returns the events of a completion.
func (c *call) completionStream(text string) []string {
	var choices []string
	add := func(text, reason string) {
		for i := range c.N {
			choices = append(choices, fmt.Sprintf(`[{"text":%s,"index":%d,"logprobs":null,"finish_reason":%s}]`, quote(text), i, reason))
		}
	}
	for _, word := range words(text) {
		add(word, "null")
	}
	add("", `"stop"`)
	head := fmt.Sprintf(`{"id":"cmpl-1","object":"text_completion","created":%d,"model":%s,"choices":`, created, quote(c.Model))
	return c.chunks(head, choices, text)
}

// chunks puts a stream of chat or completions together. Where usage is asked
// for, each chunk has the key, and one behind the choices has the value.
func (c *call) chunks(head string, choices []string, text string) []string {
	tail := "}"
	if c.StreamOptions.IncludeUsage {
		tail = `,"usage":null}`
	}
	events := make([]string, 0, len(choices)+2)
	for _, choice := range choices {
		events = append(events, Event("", head+choice+tail))
	}
	if c.StreamOptions.IncludeUsage {
		events = append(events, Event("", head+`[],"usage":`+usage(text, c.N)+"}"))
	}
	return append(events, done)
}

// response returns the response object in the given status; only when
// completed it has output and usage.
func (c *call) response(status, text string) string {
	output, used := "[]", "null"
	if status == "completed" {
		output = "[" + outputItem(status, text) + "]"
		tokens := len(words(text))
		used = fmt.Sprintf(`{"input_tokens":%d,"input_tokens_details":{"cached_tokens":0},"output_tokens":%d,`+
			`"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}`, promptTokens, tokens, promptTokens+tokens)
	}
	if c.Background {
		used += `,"background":true`
	}
	return fmt.Sprintf(`{"id":%q,"object":"response","created_at":%d,"status":%q,"error":null,"incomplete_details":null,`+
		`"instructions":null,"max_output_tokens":null,"model":%s,"output":%s,"parallel_tool_calls":true,"previous_response_id":null,`+
		`"reasoning":{"effort":null,"summary":null},"store":true,"temperature":1.0,"text":{"format":{"type":"text"}},`+
		`"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":%s,"user":null,"metadata":{}}`,
		cmp.Or(c.id, "resp_1"), created, status, quote(c.Model), output, used)
}

// outputItem returns the message in a response, without its text until it is completed.
func outputItem(status, text string) string {
	parts := "[]"
	if status == "completed" {
		parts = "[" + outputText(text) + "]"
	}
	return fmt.Sprintf(`{"id":"msg_1","type":"message","status":%q,"role":"assistant","content":%s}`, status, parts)
}

// outputText returns the part of a message that has its text.
func outputText(text string) string {
	return `{"type":"output_text","text":` + quote(text) + `,"annotations":[],"logprobs":[]}`
}

// responseStream returns the events of a response, numbered from 0: clients resume a
// stream by these numbers.
func (c *call) responseStream(text string) []string {
	var events []string
	add := func(name, rest string) {
		events = append(events, Event(name, fmt.Sprintf(`{"type":%q,"sequence_number":%d,%s}`, name, len(events), rest)))
	}
	const part = `"item_id":"msg_1","output_index":0,"content_index":0,`
	add("response.created", `"response":`+c.response("in_progress", text))
	add("response.in_progress", `"response":`+c.response("in_progress", text))
	add("response.output_item.added", `"output_index":0,"item":`+outputItem("in_progress", text))
	add("response.content_part.added", part+`"part":`+outputText(""))
	for _, word := range words(text) {
		add("response.output_text.delta", part+`"delta":`+quote(word)+`,"logprobs":[]`)
	}
	add("response.output_text.done", part+`"text":`+quote(text)+`,"logprobs":[]`)
	add("response.content_part.done", part+`"part":`+outputText(text))
	add("response.output_item.done", `"output_index":0,"item":`+outputItem("completed", text))
	add("response.completed", `"response":`+c.response("completed", text))
	return events
}
