package json

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
)

var inputs = []string{
	"", " ", "{", "}", "[", "]", `"`, `\`, `null`, `-1.5e+3`, `nul`, "\ufeff{}", "\xef\xbb{}", "\x00", "\xff",
	`{"model":"m","stream":true}`, "\t{\r\n \"model\" : \"m\" ,\n \"stream\" : true }\n", `{"mod\u0065l":"a\"b\\c\/d\u00e9\ud83d\ude00"}`,
	`{"messages":[{"role":"user","content":"model"},{"model":"not me","stream":true}],"model":"me"}`,
	`{"a":[[[[[]]]],[1,"]",{"b":"}"}]],"model":"m"}`, `{"a":"\\\\\"}{,\"model\":\"no\"","model":"m"}`, `[[[[[[[[[[[[[[[[[[1]],2]]]]]]]]]]]]]]]]`,
	`{"id":"x","usage":{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3}},"error":null}`,
	`{"error":{"code":429,"metadata":{}}}`, `{"error":"x","error_type":"y"}`, `[{"error":{"code":429}}]`, `{"a":1}data: [DONE]`, "{}\n[1]\n",
	`{,}`, `{:}`, `{"a"}`, `{"a":}`, `{"a":1 2}`, `{]`, `[}`, `{"a":[}`, `{"a":1]`, `[1,]`, `["a":1]`, `{"a"::1}`, `{'a':1}`, `<html>`,
}

// chosen returns which containers are entered in a run of a fuzz target: all of
// them for the seed 0, else some, chosen by what stands before them.
func chosen(seed uint64) func(found) bool {
	return func(f found) bool {
		return seed == 0 || rand.New(rand.NewPCG(seed, uint64(f.Offset))).IntN(3) > 0
	}
}

// FuzzPieces: however the input is cut into pieces, what is found is the same.
func FuzzPieces(f *testing.F) {
	for i, in := range inputs {
		f.Add([]byte(in), uint64(i%3))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		enter := chosen(seed)
		want := read(t, enter, string(in))
		check := func(parts []string) {
			t.Helper()
			if got := read(t, enter, parts...); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q:\n got %s\nwant %s", parts, summary(got), summary(want))
			}
		}
		check(pieces(string(in), 1))
		if len(in) <= 8 {
			for mask := range 1 << max(0, len(in)-1) {
				var parts []string
				start := 0
				for i := 1; i <= len(in); i++ {
					if i == len(in) || mask&(1<<(i-1)) != 0 {
						parts = append(parts, string(in[start:i]))
						start = i
					}
				}
				check(parts)
			}
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 6 {
			longest := 1 + rng.IntN(len(in))
			var parts []string
			for rest := in; len(rest) > 0; {
				n := min(rng.IntN(longest+1), len(rest)) // none, too
				parts = append(parts, string(rest[:n]))
				rest = rest[n:]
			}
			check(parts)
		}
	})
}

// FuzzDecoded compares with encoding/json.
func FuzzDecoded(f *testing.F) {
	for _, in := range inputs {
		f.Add([]byte(in), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, entered bool) {
		if entered {
			checkDecoded(t, string(in), all)
		} else {
			checkDecoded(t, string(in), func(f found) bool { return f.Depth == 0 })
		}
	})
}

// FuzzOld compares with the readers of JSON that were there before.
func FuzzOld(f *testing.F) {
	for _, in := range inputs {
		f.Add([]byte(in), 1)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		before := bytes.Clone(in)
		checkMembers(t, in)
		checkCutMembers(t, in)
		checkWhole(t, in, 1+(size&0x7fffffff)%(len(in)+1))
		if !bytes.Equal(in, before) {
			t.Fatalf("%q was altered to %q", before, in)
		}
	})
}

// FuzzBounds: nothing panics, and what is kept is bounded, whatever is fed and
// however often.
func FuzzBounds(f *testing.F) {
	for _, in := range inputs {
		f.Add([]byte(in), []byte(in), uint16(100))
	}
	f.Fuzz(func(t *testing.T, head, body []byte, times uint16) {
		var s Scanner
		feed := func(p []byte) {
			s.Feed(p)
			for s.Next() {
				if len(s.Value()) > MaxValue || len(s.Key()) > MaxKey || s.Depth() > MaxDepth {
					t.Fatalf("a value of %d bytes, a key of %d, depth %d", len(s.Value()), len(s.Key()), s.Depth())
				}
				if s.Offset()%3 > 0 {
					s.Enter()
				}
			}
		}
		feed(head)
		for range times % 2000 {
			feed(body)
		}
		if kept := cap(s.keyBuf) + cap(s.valueBuf); kept > 2*(maxRawKey+MaxValue) {
			t.Fatalf("%d bytes are kept", kept)
		}
	})
}
