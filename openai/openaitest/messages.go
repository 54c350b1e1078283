package openaitest

import "fmt"

// message returns a message of Anthropic's.
func (c *call) message(text string) string {
	content := `{"type":"text","text":` + quote(text) + `}`
	if name := c.anthropicTool(); name != "" {
		content = toolUse(name)
	}
	return c.messageObject("["+content+"]", quote(c.stopReason()), len(words(text)))
}

// messageObject returns the object that a message is, or begins as.
func (c *call) messageObject(content, stopReason string, tokens int) string {
	return fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":%s,"content":%s,"stop_reason":%s,"stop_sequence":null,`+
		`"usage":{"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":%d}}`,
		quote(c.Model), content, stopReason, promptTokens, tokens)
}

// toolUse returns the block of a tool call.
func toolUse(name string) string {
	return `{"type":"tool_use","id":"toolu_1","name":` + quote(name) + `,"input":{}}`
}

// stopReason returns why the message ends, which clients decide by whether to run a tool.
func (c *call) stopReason() string {
	if c.anthropicTool() != "" {
		return "tool_use"
	}
	return "end_turn"
}

// anthropicTool returns the tool the answer has to use, "" if it may speak.
func (c *call) anthropicTool() string {
	if len(c.Tools) == 0 {
		return ""
	}
	switch choice := c.choice(); choice.Type {
	case "tool":
		return choice.Name
	case "any":
		return c.Tools[0].Name
	}
	return ""
}

// messageStream returns the events of a message: each of its blocks begins
// empty, and usage is in the first and the last but one.
func (c *call) messageStream(text string) []string {
	var events []string
	add := func(name, rest string) {
		events = append(events, Event(name, `{"type":`+quote(name)+rest+`}`))
	}
	block, deltas := `{"type":"text","text":""}`, []string(nil)
	if name := c.anthropicTool(); name != "" {
		block = toolUse(name)
		deltas = append(deltas, `{"type":"input_json_delta","partial_json":"{}"}`)
	} else {
		for _, word := range words(text) {
			deltas = append(deltas, `{"type":"text_delta","text":`+quote(word)+`}`)
		}
	}
	add("message_start", `,"message":`+c.messageObject("[]", "null", 1))
	add("content_block_start", `,"index":0,"content_block":`+block)
	add("ping", "")
	for _, delta := range deltas {
		add("content_block_delta", `,"index":0,"delta":`+delta)
	}
	add("content_block_stop", `,"index":0`)
	add("message_delta", fmt.Sprintf(`,"delta":{"stop_reason":%q,"stop_sequence":null},"usage":{"output_tokens":%d}`, c.stopReason(), len(words(text))))
	add("message_stop", "")
	return events
}
