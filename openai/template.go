package openai

import (
	"bytes"

	"github.com/retrip-go/retrip/internal/json"
)

// A template is an event of a stream without the strings in it that mean
// nothing but that they are there: the tokens, mostly. The events of one stream
// are so alike that nearly all fit the one before, which is found out much
// faster than what they say. The zero value fits nothing.
type template struct {
	event []byte
	gaps  []span // where in event another string may stand, in order
}

// A span is a part of an event.
type span struct{ start, end int }

// The events that a template is for have one token each. Longer ones, and those with
// more gaps, are rare, and are parsed. The bounds keep the memory of a stream small.
const (
	maxTemplate = 4 << 10
	maxGaps     = 4
)

// fits reports whether event is like the template, but for what stands in the
// gaps: strings that are not empty. All else must be the same byte for byte, so that an
// event that fits means what the template meant. A token-by-token stream costs a
// comparison for each event then, and no parser.
func (t *template) fits(event []byte) bool {
	if len(t.gaps) == 0 {
		return false
	}
	at, from := 0, 0
	for _, gap := range t.gaps {
		if fixed := t.event[from:gap.start]; !bytes.HasPrefix(event[at:], fixed) {
			return false
		}
		at += gap.start - from
		if at == len(event) || event[at] != '"' {
			return false
		}
		end, ok := json.EndOfString(event, at)
		if !ok || end-at <= len(`""`) {
			return false
		}
		at, from = end, gap.end
	}
	return bytes.Equal(event[at:], t.event[from:])
}

// begin empties the template, and keeps its buffer.
func (t *template) begin() { t.gaps = t.gaps[:0] }

// leave makes a gap of the value that s reports, if it is a string that is not
// empty. One gap too many is enough to know of.
func (t *template) leave(s *json.Scanner) {
	value := s.Value()
	if len(t.gaps) <= maxGaps && len(value) > len(`""`) && value[0] == '"' {
		start := int(s.Offset())
		t.gaps = append(t.gaps, span{start, start + len(value)})
	}
}

// end keeps the event that the gaps are in. It copies the event, because the scanner
// overwrites its buffer with the next one.
func (t *template) end(event []byte) {
	if len(t.gaps) > maxGaps || len(event) > maxTemplate {
		t.gaps = t.gaps[:0]
		return
	}
	t.event = append(t.event[:0], event...)
}
