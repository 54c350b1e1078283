package openai

import (
	"slices"
	"strings"
	"testing"
)

// What events are made of, here.
var eventPieces = []string{
	"{", "}", "[", "]", ",", ":", " ", "\n", "null", "0", "1", "64", "true", `"`, `""`, `" "`, `"a"`, `"b\""`, `"c\\"`, `1x"`, `"longer than a short one\\"`,
	`"choices"`, `"delta"`, `"content"`, `"role"`, `"text"`, `"index"`, `"finish_reason"`, `"stop"`, `"usage"`, `"prompt_tokens"`,
	`"model"`, `"error"`, `"err\u006fr"`, `"padding"`, `{"choices":[`, `{"index":1,"delta":{"content":"x"}}`, `,"finish_reason":"stop"`, `"error":{"code":"x"}`, `[DONE]`, `{}`,
}

// Events to begin with, in such pieces.
var eventsToChange = []string{
	`{ "id" : "a" , "model" : "m" , "choices" : [ { "index" : 0 , "delta" : { "content" : "x" } , "finish_reason" : null } ] , "usage" : null , "padding" : "a" }`,
	`{ "choices" : [ { "index" : 0 , "delta" : { "role" : "assistant" , "content" : "x" , "refusal" : null } } , { "index" : 1 , "text" : "y" , "finish_reason" : "stop" } ] }`,
	`{ "choices" : [ { "delta" : { "tool_calls" : [ { "function" : { "arguments" : "x" } } ] , "content" : "z" } } ] , "usage" : { "prompt_tokens" : 1 } , "error" : "" }`,
	`{ "choices" : [ { "delta" : { "role" : "assistant" , "content" : "" } } ] , "padding" : "a" }`,
}

// FuzzTemplate: a stream of events, each of which differs from the one before
// in a piece, means the same to who reads each of them in full.
func FuzzTemplate(f *testing.F) {
	for which, event := range eventsToChange {
		for how := range byte(3) {
			var each []byte // change, twice, and back
			for at := range strings.Fields(event) {
				for piece := range eventPieces {
					each = append(each, how, byte(at), byte(piece), 4, 0, 0, 3, 0, 0)
				}
			}
			f.Add(uint8(which), each)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, changes []byte) {
		first := strings.Fields(eventsToChange[int(which)%len(eventsToChange)])
		with, without := &stream{reader: new(chunk)}, &stream{reader: new(chunk)}
		event := first
		for change := range slices.Chunk(changes, 3) {
			if len(change) < 3 || len(event) > 200 {
				break
			}
			event = changed(event, first, change[0], int(change[1]), eventPieces[int(change[2])%len(eventPieces)])
			data := trimSpace([]byte(strings.Join(event, "")))
			if len(data) == 0 {
				continue // no reader is asked
			}
			without.reader = new(chunk)
			got, want := with.reader.event(with, nil, data), without.reader.event(without, nil, data)
			if got != want || with.facts != without.facts || with.known != without.known || with.open != without.open || with.finished != without.finished || with.error != without.error {
				t.Fatalf("%q means %v, want %v; %+v, want %+v", data, got, want, with, without)
			}
		}
	})
}

// changed returns event with another piece, with one more or one less, or first, or event.
func changed(event, first []string, how byte, at int, piece string) []string {
	at %= len(event) + 1
	end := min(at+1, len(event))
	switch how % 5 {
	case 0:
		return slices.Replace(slices.Clone(event), at, end, piece)
	case 1:
		return slices.Insert(slices.Clone(event), at, piece)
	case 2:
		return slices.Delete(slices.Clone(event), at, end)
	case 3:
		return first
	}
	return event
}
