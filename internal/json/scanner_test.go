package json

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// A found is what Next has reported.
type found struct {
	Depth  int
	Key    string // "-" for none
	Value  string // cut to MaxValue
	Kind   Kind
	Offset int64
}

// A reading is what a Scanner says of all that it was fed.
type reading struct {
	Found            []found
	Whole, Malformed bool
	Rest             string
}

// all and none are answers to the question which containers are entered.
func all(found) bool  { return true }
func none(found) bool { return false }

// read feeds the parts one after the other from a buffer that is overwritten
// after each: a Scanner that kept it would read dashes.
func read(t *testing.T, enter func(found) bool, parts ...string) reading {
	t.Helper()
	var s Scanner
	var buf []byte
	var r reading
	in := strings.Join(parts, "")
	drain := func() {
		for s.Next() {
			f := found{s.Depth(), "-", string(s.Value()), s.Kind(), s.Offset()}
			if s.Key() != nil {
				f.Key = string(s.Key())
			}
			if !strings.HasPrefix(in[f.Offset:], f.Value) {
				t.Fatalf("%q: %+v is not there", parts, f)
			}
			if len(s.Value()) > MaxValue || s.Cut() && len(s.Value()) < MaxValue {
				t.Fatalf("%q: %+v is cut to %d bytes", parts, f, len(s.Value()))
			}
			if r.Found = append(r.Found, f); enter(f) {
				s.Enter()
			}
		}
		if s.Whole() && s.Malformed() {
			t.Fatalf("%q: both whole and malformed", parts)
		}
	}
	for _, part := range parts {
		buf = append(buf[:0], part...)
		s.Feed(buf)
		drain()
		r.Rest += string(s.Rest())
		if string(buf) != part {
			t.Fatalf("%q: %q was altered to %q", parts, part, buf)
		}
		copy(buf, bytes.Repeat([]byte("-"), len(buf)))
	}
	s.End()
	drain()
	r.Whole, r.Malformed = s.Whole(), s.Malformed()
	if kept := cap(s.keyBuf) + cap(s.valueBuf); kept > 2*(maxRawKey+MaxValue) {
		t.Fatalf("%d bytes are kept", kept)
	}
	return r
}

// pieces cuts in into pieces of size bytes.
func pieces(in string, size int) []string {
	var parts []string
	for part := range slices.Chunk([]byte(in), size) {
		parts = append(parts, string(part))
	}
	return parts
}

// summary is a reading in short: one word for each value, its depth in dots.
func summary(r reading) string {
	var b strings.Builder
	for _, f := range r.Found {
		fmt.Fprintf(&b, "%s%s:%s ", strings.Repeat(".", f.Depth), f.Key, f.Value)
	}
	switch {
	case r.Whole:
		b.WriteString("whole")
	case r.Malformed:
		b.WriteString("malformed")
	default:
		b.WriteString("unfinished")
	}
	if r.Rest != "" {
		fmt.Fprintf(&b, " %q", r.Rest)
	}
	return b.String()
}

func TestScanner(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"nothing", "", "unfinished"},
		{"white space", " \t\r\n", "unfinished"},
		{"byte order mark", "\ufeff", "unfinished"},
		{"object behind a byte order mark", "\ufeff {}", "-:{ whole"},
		{"half a byte order mark", "\xef\xbb{}", "malformed"},
		{"two byte order marks", "\ufeff\ufeff{}", "malformed"},
		{"empty object", "{}", "-:{ whole"},
		{"empty array", " [ ] ", `-:[ whole " "`},
		{"members", `{"a":1,"b":"x","c":null}`, `-:{ .a:1 .b:"x" .c:null whole`},
		{"white space everywhere", " {\n\"a\" :\t1 , \"b\":\r\n[ 2 , 3 ] } \n", `-:{ .a:1 .b:[ ..-:2 ..-:3 whole " \n"`},
		{"elements", `[1,"x",[],{},true]`, `-:[ .-:1 .-:"x" .-:[ .-:{ .-:true whole`},
		{"nested", `{"a":{"b":[{"c":1}]},"d":2}`, `-:{ .a:{ ..b:[ ...-:{ ....c:1 .d:2 whole`},
		{"no key is left over", `{"a":[1,{"b":2},3]}`, `-:{ .a:[ ..-:1 ..-:{ ...b:2 ..-:3 whole`},
		{"a key twice", `{"a":1,"a":2}`, `-:{ .a:1 .a:2 whole`},
		{"escaped key", `{"mod\u0065l":1,"\"\\\/\b\f\n\r\t":2,"\ud83d\ude00":3}`, "-:{ .model:1 .\"\\/\b\f\n\r\t:2 .😀:3 whole"},
		{"a surrogate alone", `{"\ud83d\u0041":1}`, "-:{ .\ufffdA:1 whole"},
		{"unknown escape", `{"\q":"\q"}`, `-:{ .:"\q" whole`},
		{"empty key", `{"":1}`, `-:{ .:1 whole`},
		{"string with brackets", `{"a":"}]\"{","b":"\\"}`, `-:{ .a:"}]\"{" .b:"\\" whole`},
		{"lenient scalars", "{\"a\":NaN,\"b\":-Infinity,\"c\":\"\n\xff\",\"d\":01.e}", "-:{ .a:NaN .b:-Infinity .c:\"\n\xff\" .d:01.e whole"},

		{"outermost string", ` "a\"b" `, `-:"a\"b" whole " "`},
		{"outermost number", `-1.5e+3`, `-:-1.5e+3 whole`},
		{"outermost number, then another", "1 2", `-:1 whole " 2"`},
		{"outermost null", `null`, `-:null whole`},
		{"outermost literal, a comma behind", "true,", `-:true whole ","`},
		{"outermost literal of no kind", `nul`, `malformed`},
		{"a page", `<html>`, `malformed`},
		{"a sentence", `no healthy upstream`, `malformed`},
		{"a number of a sentence", `2024-01-01 error`, `malformed`},
		{"an event", `data: {}`, `malformed`},
		{"another kind of quotes", `{'a':1}`, `-:{ malformed`},

		{"another value behind", "{}\n[1]\n", `-:{ whole "\n[1]\n"`},
		{"an event behind", "{\"a\":1}data: [DONE]\n\n", `-:{ .a:1 whole "data: [DONE]\n\n"`},

		{"no end", `{"a":1,`, `-:{ .a:1 unfinished`},
		{"no end of a key", `{"a`, `-:{ unfinished`},
		{"no end of a string", `{"a":"x`, `-:{ unfinished`},
		{"no end of a number", `{"a":12`, `-:{ unfinished`},
		{"no value", `{"a":`, `-:{ unfinished`},
		{"no end of a container", `{"a":[{"b":1`, `-:{ .a:[ ..-:{ unfinished`},

		{"wrong end of an object", `{"a":1]`, `-:{ .a:1 malformed`},
		{"wrong end of an array", `[1}`, `-:[ .-:1 malformed`},
		{"wrong end at once", `{]`, `-:{ malformed`},
		{"no beginning", `}`, `malformed`},
		{"comma before", `{,"a":1}`, `-:{ malformed`},
		{"comma behind", `[1,]`, `-:[ .-:1 malformed`},
		{"comma behind a member", `{"a":1,}`, `-:{ .a:1 malformed`},
		{"comma for a value", `{"a":,"b":1}`, `-:{ malformed`},
		{"end for a value", `{"a":}`, `-:{ malformed`},
		{"missing comma", `{"a":1 2}`, `-:{ .a:1 malformed`},
		{"missing comma behind a string", `["a""b"]`, `-:[ .-:"a" malformed`},
		{"missing colon", `{"a" 1}`, `-:{ malformed`},
		{"colon in an array", `["a":1]`, `-:[ .-:"a" malformed`},
		{"two colons", `{"a"::1}`, `-:{ malformed`},
		{"key without quotes", `{a:1}`, `-:{ malformed`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for size := 1; size <= len(tt.in)+1; size++ {
				if got := summary(read(t, all, pieces(tt.in, size)...)); got != tt.want {
					t.Errorf("in pieces of %d:\n got %s\nwant %s", size, got, tt.want)
				}
			}
		})
	}
}

func TestWhatIsNotEnteredIsPassedOver(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{`{"a":1}`, `-:{ whole`},
		{`[[[{"a":"]"}]]] `, `-:[ whole " "`},
		{`{"a":[}}`, `-:{ whole`}, // brackets are only counted
		{`{"a" 1,,:}`, `-:{ whole`},
		{`{"a":1]`, `-:{ malformed`},
		{`[}`, `-:[ malformed`},
		{`{"a":"\\\"}`, `-:{ unfinished`},
		{`{"a":[`, `-:{ unfinished`},
		{`{"a":"x`, `-:{ unfinished`},
	}
	for _, tt := range tests {
		for size := 1; size <= len(tt.in); size++ {
			if got := summary(read(t, none, pieces(tt.in, size)...)); got != tt.want {
				t.Errorf("%s in pieces of %d:\n got %s\nwant %s", tt.in, size, got, tt.want)
			}
		}
	}
	outer := func(f found) bool { return f.Depth == 0 }
	const in = `{"a":{"b":[1,"}"]},"c":[{}],"d":{"e":"\\"},"f":1}`
	for size := 1; size <= len(in); size++ {
		if got, want := summary(read(t, outer, pieces(in, size)...)), `-:{ .a:{ .c:[ .d:{ .f:1 whole`; got != want {
			t.Errorf("in pieces of %d:\n got %s\nwant %s", size, got, want)
		}
	}
}

func TestWhatIsTooDeepIsPassedOver(t *testing.T) {
	t.Parallel()
	const more = 1 << 16
	in := strings.Repeat(`[`, MaxDepth+more) + strings.Repeat(`]`, MaxDepth+more)
	r := read(t, all, in)
	if !r.Whole || len(r.Found) != MaxDepth+1 || r.Found[MaxDepth].Depth != MaxDepth {
		t.Errorf("whole: %v, %d values", r.Whole, len(r.Found))
	}
}

// A bare number may go on until something else stands behind it.
func TestAnOutermostNumberEndsWithTheInput(t *testing.T) {
	t.Parallel()
	var s Scanner
	s.Feed([]byte("12"))
	if s.Next() || s.Whole() || s.Malformed() {
		t.Error("a number ended that could go on")
	}
	s.Feed([]byte("3"))
	if s.End(); !s.Next() || string(s.Value()) != "123" || s.Kind() != Number || s.Next() || !s.Whole() {
		t.Errorf("%q, whole: %v", s.Value(), s.Whole())
	}
}

// Values that follow one another are read by one Scanner each.
func TestTheRestIsReadByAnother(t *testing.T) {
	t.Parallel()
	var got []string
	for rest := []byte("{\"a\":1}\n[2]\n\"x\"\n4"); len(rest) > 0; {
		var s Scanner
		for s.Feed(rest); s.Next(); {
			got = append(got, string(s.Value()))
		}
		rest = s.Rest()
	}
	if want := []string{"{", "[", `"x"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Enter says what Next is to do, and not what it has done.
func TestDepthIsThatOfWhatWasReported(t *testing.T) {
	t.Parallel()
	var s Scanner
	if s.Kind() != 0 || s.Depth() != 0 || s.Key() != nil || len(s.Value()) != 0 {
		t.Error("something is reported before Next")
	}
	s.Feed([]byte(`[[1],2]`))
	for i, want := range []int{0, 1, 2, 1} {
		if !s.Next() || s.Depth() != want {
			t.Errorf("value %d: depth %d, want %d", i, s.Depth(), want)
		}
		s.Enter()
		if s.Enter(); s.Depth() != want {
			t.Errorf("value %d entered: depth %d, want %d", i, s.Depth(), want)
		}
	}
}

func TestHalfANumberIsNone(t *testing.T) {
	t.Parallel()
	if got, want := summary(read(t, all, `{"code":42`)), `-:{ unfinished`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What is reported of a value is the same whatever the pieces are.
func TestALongValueIsCut(t *testing.T) {
	t.Parallel()
	for _, length := range []int{MaxValue - 1, MaxValue, MaxValue + 1, 3 * MaxValue} {
		for _, value := range []string{`"` + strings.Repeat("x", length-2) + `"`, strings.Repeat("1", length)} {
			in := `{"a":` + value + `}`
			for _, size := range []int{1, 1000, MaxValue, len(in)} {
				var s Scanner
				for _, part := range pieces(in, size) {
					s.Feed([]byte(part))
					for s.Next() {
						if s.Depth() == 0 {
							s.Enter()
						} else if s.Cut() != (length > MaxValue) || string(s.Value()) != value[:min(length, MaxValue)] || string(s.Key()) != "a" {
							t.Errorf("%d bytes in pieces of %d: %d bytes, cut: %v, key %q", length, size, len(s.Value()), s.Cut(), s.Key())
						}
					}
				}
				if !s.Whole() {
					t.Errorf("%d bytes in pieces of %d: not whole", length, size)
				}
			}
		}
	}
}

// A text of one long word would be kept for long in vain.
func TestALongOutermostLiteralIsNone(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, MaxValue, 3 * MaxValue} {
		if got := read(t, all, pieces(strings.Repeat("1", MaxValue+1), size)...); !got.Malformed {
			t.Errorf("in pieces of %d: %s", size, summary(got))
		}
	}
}

func TestALongKeyIsCut(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"x", `\u0078`, `\"`, "é", `\ud83d\ude00`} {
		for n := 1; n < 2*MaxKey; n++ {
			key := strings.Repeat(unit, n)
			want := Text([]byte(`"` + key + `"`))
			if len(key) > MaxKey {
				want = key[:MaxKey]
			}
			for _, size := range []int{1, 50, len(key) + 20} {
				r := read(t, all, pieces(`{"`+key+`":1}`, size)...)
				if len(r.Found) != 2 || r.Found[1].Key != want {
					t.Errorf("%d of %s in pieces of %d: %+v", n, unit, size, r.Found)
				}
			}
		}
	}
}

func TestNothingIsAllocatedForValuesInOnePiece(t *testing.T) {
	in := []byte(`{"model":"m","usage":{"prompt_tokens":[1,2,{"a":"` + strings.Repeat("x", 2*MaxValue) + `"}]},"a":null}`)
	if n := testing.AllocsPerRun(100, func() {
		var s Scanner
		s.Feed(in)
		for s.Next() {
			s.Enter()
		}
		if !s.Whole() {
			t.Error("not whole")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An array of escapes must not be gone through again for each of its quotes.
func TestManyEscapesAreLookedAtOnce(t *testing.T) {
	t.Parallel()
	in := `{"a":"` + strings.Repeat(`\\`, 1<<20) + strings.Repeat(`\"`, 1<<20) + `","b":"m"}`
	if r := read(t, all, in); !r.Whole || len(r.Found) != 3 {
		t.Errorf("whole: %v, %d values", r.Whole, len(r.Found))
	}
}

// A string is searched in two ways, by its length.
func TestAStringEndsAtAQuoteThatIsNotEscaped(t *testing.T) {
	t.Parallel()
	for length := range 2 * shortString {
		for _, escapes := range []string{``, `\\`, `\"`, `\\\"`, `\\\\`, `\"\\`} {
			in := `"` + strings.Repeat("x", length) + escapes + `"`
			if end, ok := EndOfString([]byte(in+`,"model"`), 0); !ok || end != len(in) {
				t.Errorf("%s ends at %d, %v", in, end, ok)
			}
			if end, ok := EndOfString([]byte(in[:len(in)-1]), 0); ok || end != len(in)-1 {
				t.Errorf("%s without its end ends at %d, %v", in, end, ok)
			}
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		``: "", `1`: "", `null`: "", `{`: "", `"`: "", `""`: "", `"a"`: "a", `"a\"b\\"`: `a"b\`,
		`"\u00e9\ud83d\ude00"`: "é😀", `"\ud83d"`: "\ufffd", `"\ud83dx"`: "\ufffdx", `"\ude00\ud83d"`: "\ufffd\ufffd", `"\ud83d\u0041"`: "\ufffdA",
		"\"\xff\"": "\ufffd", "\"a\nb\"": "a\nb", `"\x"`: "", `"\u00"`: "", `"\uzzzz"`: "", `"cut o`: "", `"cut \"`: "",
	} {
		if got := Text([]byte(value)); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int64{
		`0`: 0, `9`: 9, `007`: 7, `1099511627776`: MaxCount,
		``: -1, `-1`: -1, `9.5`: -1, `1e3`: -1, `"9"`: -1, `null`: -1, `1099511627777`: -1, `99999999999999999999999`: -1,
	} {
		got, ok := Count([]byte(value))
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: got %d, %v; want %d", value, got, ok, want)
		}
	}
}

// decoded is what encoding/json finds in value, which is valid.
func decoded(t *testing.T, list []found, value json.RawMessage, depth int, key string, enter func(found) bool) []found {
	t.Helper()
	f := found{Depth: depth, Key: key, Value: string(value[:min(len(value), MaxValue)])}
	if c := value[0]; c == '{' || c == '[' {
		f.Value = string(c)
	}
	list = append(list, f)
	if len(f.Value) != 1 || value[0] != '{' && value[0] != '[' || depth == MaxDepth || !enter(f) {
		return list
	}
	d := json.NewDecoder(bytes.NewReader(value))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		key := "-"
		if value[0] == '{' {
			start := d.InputOffset()
			token, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			key = token.(string)
			if raw := bytes.TrimLeft(value[start:d.InputOffset()-1], ", \t\r\n"); len(raw) > MaxKey+1 {
				key = string(raw[1 : MaxKey+1])
			}
		}
		var inner json.RawMessage
		if err := d.Decode(&inner); err != nil {
			t.Fatal(err)
		}
		list = decoded(t, list, inner, depth+1, key, enter)
	}
	return list
}

// checkDecoded: what encoding/json calls valid is whole, and has the same members
// and values.
func checkDecoded(t *testing.T, in string, enter func(found) bool) {
	t.Helper()
	value := strings.Trim(in, " \t\r\n")
	if !json.Valid([]byte(in)) || !utf8.ValidString(in) || len(value) > MaxValue && strings.ContainsAny(value[:1], "-0123456789") {
		return
	}
	got := read(t, enter, in)
	if !got.Whole || strings.Trim(got.Rest, " \t\r\n") != "" {
		t.Fatalf("%q: %s", in, summary(got))
	}
	want := decoded(t, nil, json.RawMessage(value), 0, "-", enter)
	for i := range got.Found {
		got.Found[i].Kind, got.Found[i].Offset = 0, 0
	}
	if !reflect.DeepEqual(got.Found, want) {
		t.Fatalf("%q:\n got %+v\nwant %+v", in, got.Found, want)
	}
	for _, f := range want {
		var s string
		if len(f.Value) < MaxValue && json.Unmarshal([]byte(f.Value), &s) == nil && f.Value[0] == '"' && Text([]byte(f.Value)) != s {
			t.Fatalf("%s: text is %q, want %q", f.Value, Text([]byte(f.Value)), s)
		}
	}
}

// What was fed may be let go after each piece: nothing that is read depends on it.
func TestWhatWasFedMayBeForgotten(t *testing.T) {
	t.Parallel()
	const text = ` {"a\u0062":[1,"two\n",{"x":null}],"longer":"` + "value é" + `","n":-12.5e3,"t":true} rest`
	read := func(size int, forget bool) (seen []string) {
		var s Scanner
		for at := 0; at < len(text); at += size {
			piece := []byte(text[at:min(at+size, len(text))])
			s.Feed(piece)
			for s.Next() {
				seen = append(seen, fmt.Sprintf("%d %q %q at %d", s.Depth(), s.Key(), s.Value(), s.Offset()))
				s.Enter()
			}
			if forget {
				s.Forget()
				clear(piece)
				if len(s.Rest()) != 0 || len(s.Value()) != 0 {
					t.Errorf("pieces of %d: %q and %q are kept", size, s.Rest(), s.Value())
				}
			}
		}
		if !s.Whole() {
			t.Errorf("pieces of %d are not whole", size)
		}
		return seen
	}
	want := read(len(text), false)
	for size := 1; size <= len(text); size++ {
		if got := read(size, true); !slices.Equal(got, want) {
			t.Errorf("pieces of %d: %q, want %q", size, got, want)
		}
	}
}
