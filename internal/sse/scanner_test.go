package sse

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

type event struct {
	Name, Data string
	Oversize   bool
}

func TestScanner(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		in      string
		want    []event
		pending bool
	}{
		{name: "nothing"},
		{name: "one", in: "data: a\n\n", want: []event{{Data: "a"}}},
		{name: "CRLF", in: "data: a\r\n\r\ndata: b\r\n\r\n", want: []event{{Data: "a"}, {Data: "b"}}},
		{name: "CR", in: "data: a\r\rdata: b\r\r", want: []event{{Data: "a"}, {Data: "b"}}},
		{name: "mixed line ends", in: "data: a\r\ndata: b\rdata: c\n\r", want: []event{{Data: "a\nb\nc"}}},
		{name: "LF CR is two line ends", in: "data: a\n\rdata: b\n\r", want: []event{{Data: "a"}, {Data: "b"}}},
		{name: "named", in: "event: ping\ndata: {}\n\n", want: []event{{Name: "ping", Data: "{}"}}},
		{name: "the last name counts", in: "event: a\nevent: b\ndata\n\n", want: []event{{Name: "b"}}},
		{name: "a name is for one event", in: "event: a\ndata: 1\n\ndata: 2\n\n", want: []event{{Name: "a", Data: "1"}, {Data: "2"}}},
		{name: "no data, no event", in: "event: a\nid: 1\n\ndata: 2\n\n", want: []event{{Data: "2"}}},
		{name: "empty data is data", in: "data:\n\ndata: \n\ndata\n\n", want: []event{{}, {}, {}}},
		{name: "two empty lines of data", in: "data\ndata\n\n", want: []event{{Data: "\n"}}},
		{name: "one space is stripped", in: "data:  a \n\ndata:b\n\ndata:\tc\n\n", want: []event{{Data: " a "}, {Data: "b"}, {Data: "\tc"}}},
		{name: "comments", in: ": a\n\n:\n\ndata: 1\n:data: 2\ndata: 3\n\n", want: []event{{Data: "1\n3"}}},
		{name: "other fields", in: "id: 1\nretry: 2\ndatum: 3\ndat\ndata2: 4\n data: 5\nData: 6\n\n"},
		{name: "byte order mark", in: "\ufeffdata: a\n\n\ufeffdata: b\n\n", want: []event{{Data: "a"}}},
		{name: "byte order mark alone", in: "\ufeff\n\ufeffdata: b\n\n"},
		{name: "byte order mark, comment", in: "\ufeff: a\ndata: b\n\n", want: []event{{Data: "b"}}},
		{name: "UTF-8", in: "data: äöü€😀\n\n", want: []event{{Data: "äöü€😀"}}},
		{name: "no end", in: "data: a\n\ndata: b\n", want: []event{{Data: "a"}}, pending: true},
		{name: "no line end", in: "data: a\n\nda", want: []event{{Data: "a"}}, pending: true},
		{name: "a name without an end", in: "event: a\n", pending: true},
		{name: "a comment without an end", in: "data: a\n\n: b", want: []event{{Data: "a"}}},
		{name: "a comment with byte order mark", in: "\ufeff: b"},
		{name: "only blank lines", in: "\n\r\n\r"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for size := 1; size <= len(tt.in)+1; size++ {
				got, pending := scan(t, &Scanner{}, pieces(tt.in, func() int { return size }))
				if !reflect.DeepEqual(got, tt.want) || pending != tt.pending {
					t.Errorf("in pieces of %d: got %+v, pending %v; want %+v, %v", size, got, pending, tt.want, tt.pending)
				}
			}
		})
	}
}

func TestScannerOversize(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxLine)
	fits := long[:MaxLine-len("data:")]
	tests := []struct {
		name string
		in   string
		want []event
	}{
		{"the longest line", "data:" + fits + "\n\n", []event{{Data: fits}}},
		{"one byte more", "data: " + fits + "\n\ndata: b\n\n", []event{{Oversize: true}, {Data: "b"}}},
		{"CRLF is not of the line", "data:" + fits + "\r\n\r\n", []event{{Data: fits}}},
		{"among other lines", "event: e\ndata: a\ndata: " + long + "\ndata: b\n\n", []event{{Name: "e", Oversize: true}}},
		{"the name", "event: " + long + "\ndata: a\ndata\n\n", []event{{Data: "a\n", Oversize: true}}},
		{"the name, no data", "event: " + long + "\n\ndata: a\n\n", []event{{Data: "a"}}},
		{"a comment", ":" + long + long + "\ndata: a\n\n", []event{{Data: "a"}}},
		{"another field", "id: " + long + "\ndata: a\n\n", []event{{Data: "a"}}},
		{"data of many lines", strings.Repeat("data: "+long[:1<<16]+"\n", 17) + "\ndata: b\n\n", []event{{Oversize: true}, {Data: "b"}}},
		{"data of two lines that fits", "data:" + fits + "\ndata:xxxx\n\n", []event{{Data: fits + "\nxxxx"}}},
		{"data of two lines, one byte more", "data:" + fits + "\ndata:xxxxx\n\n", []event{{Oversize: true}}},
		{"behind a byte order mark", "\ufeffdata: " + long + "\n\n", []event{{Oversize: true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{100, 4096, len(tt.in)} {
				var s Scanner
				got, pending := scan(t, &s, pieces(tt.in, func() int { return size }))
				if !reflect.DeepEqual(got, tt.want) || pending {
					t.Errorf("in pieces of %d: %d events, pending %v; want %d, false", size, len(got), pending, len(tt.want))
				}
				if kept := cap(s.line) + cap(s.nameBuf) + cap(s.dataBuf); kept > 4*MaxLine {
					t.Errorf("in pieces of %d: %d bytes are kept", size, kept)
				}
			}
		})
	}
}

func TestScannerDoesNotCopyWholeEvents(t *testing.T) {
	t.Parallel()
	in := []byte("event: e\ndata: abc\n\n")
	var s Scanner
	s.Feed(in)
	if !s.Next() || &s.Name()[0] != &in[7] || &s.Data()[0] != &in[15] {
		t.Error("name and data are not those of the bytes fed")
	}
}

func TestScannerCompletesWhatIsPending(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"data: [DONE]", "data: [DONE]\n", "data: [DONE]\r", "data: [DONE]\r\n"} {
		got, _ := scan(t, &Scanner{}, [][]byte{[]byte(in), []byte("\n\n")})
		if want := []event{{Data: "[DONE]"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v", in, got)
		}
	}
}

// FuzzScanner compares a Scanner with the reference: over all splits of short
// inputs, over random splits of long ones.
func FuzzScanner(f *testing.F) {
	for _, in := range []string{
		"data: a\n\n", "data:\r\r\n", "\ufeffdata\n\n", "event: e\r\ndata: 1\rdata: 2\n\n", ": c\n\ndata: €\n\n",
		"data: 12345678901234567890\ndata: x\n\n", "event: 12345678901234567890\ndata:\ndata: x\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n",
	} {
		f.Add([]byte(in), uint64(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		before := bytes.Clone(in)
		for _, limit := range []int{MaxLine, 16} {
			want, pending := reference(string(in), limit)
			check := func(parts [][]byte) {
				t.Helper()
				got, gotPending := scan(t, &Scanner{limit: limit}, parts)
				if !reflect.DeepEqual(got, want) || gotPending != pending {
					t.Fatalf("limit %d, %q: got %+v, pending %v; want %+v, %v", limit, parts, got, gotPending, want, pending)
				}
			}
			check([][]byte{in})
			if len(in) <= 9 {
				for mask := range 1 << max(0, len(in)-1) {
					var parts [][]byte
					start := 0
					for i := 1; i <= len(in); i++ {
						if i == len(in) || mask&(1<<(i-1)) != 0 {
							parts = append(parts, in[start:i])
							start = i
						}
					}
					check(parts)
				}
				continue
			}
			rng := rand.New(rand.NewPCG(seed, uint64(limit)))
			check(pieces(string(in), func() int { return 1 }))
			for range 8 {
				longest := 1 + rng.IntN(len(in))
				check(pieces(string(in), func() int { return 1 + rng.IntN(longest) }))
			}
		}
		if !bytes.Equal(in, before) {
			t.Fatal("the input was altered")
		}
	})
}

// reference follows the letter of the standard over the whole stream.
func reference(in string, limit int) (events []event, pending bool) {
	in = strings.ReplaceAll(in, "\r\n", "\n")
	in = strings.ReplaceAll(in, "\r", "\n")
	lines := strings.Split(in, "\n")
	var e event
	var data []string
	var dropped bool
	field := func(line string, tooLong bool) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "data" && tooLong:
			dropped = true
		case name == "data":
			data = append(data, value)
		case name == "event" && tooLong:
			e.Name, e.Oversize = "", true
		case name == "event":
			e.Name = value
		}
	}
	for i, line := range lines {
		tooLong := len(line) > limit
		if i == 0 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if i == len(lines)-1 {
			return events, pending || line != "" && line[0] != ':'
		}
		if line != "" {
			if line[0] != ':' {
				pending = true
				field(line, tooLong)
			}
			continue
		}
		e.Data = strings.Join(data, "\n")
		if dropped || len(e.Data) > limit {
			e.Data, e.Oversize = "", true
		}
		if len(data) > 0 || dropped {
			events = append(events, e)
		}
		e, data, dropped, pending = event{}, nil, false, false
	}
	return events, pending
}

// scan feeds the parts one after the other from a buffer that is overwritten
// after each: a Scanner that kept it would read dashes.
func scan(t *testing.T, s *Scanner, parts [][]byte) (events []event, pending bool) {
	t.Helper()
	var buf []byte
	for _, part := range parts {
		buf = append(buf[:0], part...)
		s.Feed(buf)
		for s.Next() {
			events = append(events, event{string(s.Name()), string(s.Data()), s.Oversize()})
		}
		if !bytes.Equal(buf, part) {
			t.Fatal("what was fed was altered")
		}
		copy(buf, bytes.Repeat([]byte("-"), len(buf)))
	}
	return events, s.Pending()
}

func pieces(in string, size func() int) [][]byte {
	var parts [][]byte
	for len(in) > 0 {
		n := min(size(), len(in))
		parts = append(parts, []byte(in[:n]))
		in = in[n:]
	}
	return parts
}

func stream(events int) []byte {
	var b bytes.Buffer
	for i := range events {
		fmt.Fprintf(&b, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"token %d"},"logprobs":null,"finish_reason":null}],"usage":null}`+"\n\n", i)
	}
	return b.Bytes()
}

func BenchmarkScanner(b *testing.B) {
	const events = 2000
	in := stream(events)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var s Scanner
	for b.Loop() {
		got := 0
		for rest := in; len(rest) > 0; {
			n := min(4096, len(rest))
			s.Feed(rest[:n])
			for s.Next() {
				got++
			}
			rest = rest[n:]
		}
		if got != events {
			b.Fatal(got, "events")
		}
	}
}
