package openai

import (
	"bytes"
	"testing"
)

// sniffSlowly returns what a body is.
func sniffSlowly(data []byte, label kind) kind {
	const space = " \t\r\n"
	data = bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(data, space), []byte("\ufeff")), space)
	for begin, is := range map[string]kind{
		"{": jsonBody, "[": jsonBody, "<": htmlBody,
		":": eventBody, "data:": eventBody, "event:": eventBody, "id:": eventBody, "retry:": eventBody, "error:": eventBody,
	} {
		if bytes.HasPrefix(data, []byte(begin)) {
			return is
		}
	}
	if label == undecided {
		return opaque
	}
	return label
}

// sniffed returns what a sniffer makes of a body that comes in pieces.
func sniffed(data []byte, label kind, size int) kind {
	s := sniffer{label: label}
	for piece := range chunks(data, size) {
		if k, _ := s.add(piece); k != undecided {
			return k
		}
	}
	return s.end()
}

// FuzzSniff: the first bytes decide where they can, else the label does,
// whatever the pieces are that they come in.
func FuzzSniff(f *testing.F) {
	for label := range 4 {
		for i, data := range noAnswers {
			f.Add([]byte(data), uint8(label), i%3)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, which uint8, size int) {
		label := []kind{undecided, jsonBody, eventBody, htmlBody}[which%4]
		want := sniffSlowly(data, label)
		for _, n := range []int{1, 1 + (size&0x7fffffff)%(len(data)+1), len(data) + 1} {
			if got := sniffed(data, label, n); got != want {
				t.Errorf("%q, labelled %v, in pieces of %d is %v, want %v", data, label, n, got, want)
			}
		}
	})
}
