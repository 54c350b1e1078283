package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A span is what is printed of one, in the names that the exporter writes.
type span struct {
	Name        string
	SpanContext struct{ SpanID string }
	Parent      struct{ SpanID string }
	StartTime   time.Time
	EndTime     time.Time
	Attributes  []keyValue
	Events      []event
}

type event struct {
	Name       string
	Time       time.Time
	Attributes []keyValue
}

type keyValue struct {
	Key   string
	Value struct{ Value any }
}

// printTree prints spans, a line of JSON each, as a tree with the events in
// between, by time.
func printTree(w io.Writer, spans []byte) error {
	var all []span
	decoder := json.NewDecoder(bytes.NewReader(spans))
	for {
		var s span
		err := decoder.Decode(&s)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	root := slices.IndexFunc(all, func(s span) bool { return strings.Trim(s.Parent.SpanID, "0") == "" })
	if root < 0 {
		return errors.New("no span is the first")
	}
	p := printer{w, all[root].StartTime}
	p.line(0, all[root].StartTime, fmt.Sprintf("%s, %d ms", all[root].Name, length(all[root])))
	p.below(all, all[root])
	return nil
}

// length is how long a span took, in milliseconds.
func length(s span) int64 { return s.EndTime.Sub(s.StartTime).Milliseconds() }

type printer struct {
	w     io.Writer
	start time.Time
}

func (p printer) line(depth int, at time.Time, text string) {
	fmt.Fprintf(p.w, "%5d ms  %s%s\n", at.Sub(p.start).Milliseconds(), strings.Repeat("   ", depth), text)
}

// below prints what happened during a span, in its order.
func (p printer) below(all []span, of span) {
	type entry struct {
		at   time.Time
		text string
	}
	var entries []entry
	for _, e := range of.Events {
		entries = append(entries, entry{e.Time, "· " + e.Name + " " + list(e.Attributes, "")})
	}
	for _, s := range all {
		if s.Parent.SpanID == of.SpanContext.SpanID {
			entries = append(entries, entry{s.StartTime, fmt.Sprintf("└─ %s, %d ms: %s", s.Name, length(s), list(s.Attributes, "retrip. http.response. error."))})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return a.at.Compare(b.at) })
	for _, e := range entries {
		p.line(1, e.at, e.text)
	}
}

// list writes attributes; only those that begin with one of the prefixes, if there
// are any.
func list(attributes []keyValue, prefixes string) string {
	var texts []string
	for _, a := range attributes {
		wanted := func(prefix string) bool { return strings.HasPrefix(a.Key, prefix) }
		if prefixes == "" || slices.ContainsFunc(strings.Fields(prefixes), wanted) {
			texts = append(texts, fmt.Sprintf("%s=%v", a.Key, a.Value.Value))
		}
	}
	return strings.Join(texts, " ")
}
