package json

import (
	"fmt"
	"strings"
	"testing"
)

// answer is what a chat call is answered with: 1 KiB.
var answer = `{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"message":` +
	`{"role":"assistant","content":"` + strings.Repeat("x", 806) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}`

// chunk is an event of a stream.
const chunk = `{"id":"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx","object":"chat.completion.chunk","created":1763900000,"model":"gpt-5",` +
	`"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}],"usage":null}`

// withImage is a payload of 10 MiB whose model stands behind an image.
func withImage() []byte {
	const size = 10 << 20
	head := `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,`
	tail := `"}}]}],"stream":true,"model":"gpt-5"}`
	return []byte(head + strings.Repeat("iVBORw0K", (size-len(head)-len(tail))/8) + tail)
}

// conversation is a payload of many short messages.
func conversation() []byte {
	return []byte(`{"messages":[` + strings.Repeat(`{"role":"user","content":"What is \"this\"?"},`, 20000) + `{}],"stream":true,"model":"gpt-5"}`)
}

// vector is an answer of numbers.
func vector() []byte {
	return []byte(`{"data":[{"embedding":[` + strings.Repeat("-0.0123456,", 3072) + `0]}],"model":"gpt-5","usage":{"prompt_tokens":9}}`)
}

// lookUp reads the top level as the payload of a call is read.
func lookUp(s *Scanner) (model, stream int) {
	for s.Next() {
		if s.Depth() == 0 {
			s.Enter()
			continue
		}
		switch string(s.Key()) {
		case "model":
			model = len(s.Value())
		case "stream":
			stream = len(s.Value())
		}
	}
	return model, stream
}

func oldLookUp(in []byte) (model, stream int) {
	members(in, func(key, value []byte) {
		switch string(key) {
		case "model":
			model = len(value)
		case "stream":
			stream = len(value)
		}
	})
	return model, stream
}

// BenchmarkLookup compares with what was there before.
func BenchmarkLookup(b *testing.B) {
	for _, row := range []struct {
		name string
		in   []byte
	}{{"image", withImage()}, {"conversation", conversation()}, {"vector", vector()}, {"answer", []byte(answer)}, {"event", []byte(chunk)}} {
		b.Run(row.name+"/old", func(b *testing.B) {
			b.SetBytes(int64(len(row.in)))
			b.ReportAllocs()
			for b.Loop() {
				if model, _ := oldLookUp(row.in); model == 0 {
					b.Fatal("no model")
				}
			}
		})
		b.Run(row.name+"/new", func(b *testing.B) {
			b.SetBytes(int64(len(row.in)))
			b.ReportAllocs()
			for b.Loop() {
				var s Scanner
				s.Feed(row.in)
				if model, _ := lookUp(&s); model == 0 || !s.Whole() {
					b.Fatal("no model")
				}
			}
		})
	}
}

// check reads what the check of an answer reads.
func check(s *Scanner, c *oldCheck) {
	for s.Next() {
		switch s.Depth() {
		case 0:
			s.Enter()
		case 1:
			switch string(s.Key()) {
			case "error":
				c.failed = c.failed || s.Kind() == Object || s.Kind() == String && len(s.Value()) > 2
			case "model":
				c.facts.model = oldName(s.Value())
			case "usage":
				s.Enter()
			}
		case 2:
			switch string(s.Key()) {
			case "prompt_tokens":
				c.facts.input, _ = Count(s.Value())
			case "completion_tokens":
				c.facts.output, _ = Count(s.Value())
			}
		}
	}
}

// BenchmarkAnswer compares with jsonCheck, by the length of the pieces.
func BenchmarkAnswer(b *testing.B) {
	long := []byte(strings.Replace(answer, "x", strings.Repeat("A long answer, \\n that goes on. ", 8000), 1))
	for _, row := range []struct {
		name string
		in   []byte
		size int
	}{{"1KiB", []byte(answer), 2048}, {"1KiB", []byte(answer), 512}, {"256KiB", long, 4096}, {"vector", vector(), 4096}} {
		name := fmt.Sprintf("%s in %d", row.name, row.size)
		b.Run(name+"/old", func(b *testing.B) {
			b.SetBytes(int64(len(row.in)))
			b.ReportAllocs()
			for b.Loop() {
				var c oldCheck
				for rest := row.in; len(rest) > 0; {
					n := min(row.size, len(rest))
					c.feed(rest[:n])
					rest = rest[n:]
				}
				if !c.whole() || c.facts.input != 9 {
					b.Fatal(c.facts)
				}
			}
		})
		b.Run(name+"/new", func(b *testing.B) {
			b.SetBytes(int64(len(row.in)))
			b.ReportAllocs()
			for b.Loop() {
				var s Scanner
				var c oldCheck
				for rest := row.in; len(rest) > 0; {
					n := min(row.size, len(rest))
					s.Feed(rest[:n])
					check(&s, &c)
					rest = rest[n:]
				}
				if !s.Whole() || c.facts.input != 9 {
					b.Fatal(c.facts)
				}
			}
		})
	}
}

// An event is what is read of a chunk.
type event struct{ model, index, finish, content int }

func (e *event) scan(s *Scanner) {
	inDelta := false
	for s.Next() {
		switch s.Depth() {
		case 0:
			s.Enter()
		case 1:
			switch string(s.Key()) {
			case "choices":
				s.Enter()
			case "model":
				e.model = len(s.Value())
			}
		case 2:
			s.Enter()
		case 3:
			inDelta = false
			switch string(s.Key()) {
			case "index":
				e.index = len(s.Value())
			case "finish_reason":
				e.finish = len(s.Value())
			case "delta":
				inDelta = true
				s.Enter()
			}
		case 4:
			if inDelta && string(s.Key()) != "role" {
				e.content = len(s.Value())
			}
		}
	}
}

func (e *event) look(l *lookup) {
	for more := l.open('{', '}'); more; more = l.more('}') {
		switch string(l.key()) {
		case "choices":
			for more := l.open('[', ']'); more; more = l.more(']') {
				e.lookChoice(l)
			}
		case "model":
			e.model = len(l.value())
		default:
			l.value()
		}
	}
}

func (e *event) lookChoice(l *lookup) {
	for more := l.open('{', '}'); more; more = l.more('}') {
		switch string(l.key()) {
		case "index":
			e.index = len(l.value())
		case "finish_reason":
			e.finish = len(l.value())
		case "delta":
			for more := l.open('{', '}'); more; more = l.more('}') {
				if key, value := l.key(), l.value(); string(key) != "role" {
					e.content = len(value)
				}
			}
		default:
			l.value()
		}
	}
}

// BenchmarkEvent reads what a stream's event brings.
func BenchmarkEvent(b *testing.B) {
	in := []byte(chunk)
	b.Run("old", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var e event
			l := lookup{data: in}
			if e.look(&l); l.bad || e.content != 8 {
				b.Fatal(e)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var e event
			var s Scanner
			s.Feed(in)
			if e.scan(&s); !s.Whole() || e.content != 8 {
				b.Fatal(e)
			}
		}
	})
}
