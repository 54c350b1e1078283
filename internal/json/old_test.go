package json

import (
	"encoding/json"
	"slices"
	"testing"
)

// A pair is a member of the top level.
type pairOf struct{ key, value string }

// scanMembers is members by a Scanner: containers are told by their bracket.
func scanMembers(in []byte) (list []pairOf, s *Scanner) {
	s = new(Scanner)
	s.Feed(in)
	for s.Next() {
		if s.Depth() == 0 {
			if s.Kind() != Object {
				break
			}
			s.Enter()
			continue
		}
		list = append(list, pairOf{string(s.Key()), string(s.Value())})
	}
	return list, s
}

func short(key, value []byte) pairOf {
	key = key[:min(len(key), MaxKey)]
	if value[0] == '{' || value[0] == '[' {
		value = value[:1]
	}
	return pairOf{string(key), string(value[:min(len(value), MaxValue)])}
}

// same reports whether two readers mean the same member. A key that is cut keeps its
// escapes, and may lack one that the old reader could not read.
func same(got, want pairOf) bool {
	return got.value == want.value && (got.key == want.key || len(got.key) == MaxKey)
}

// checkMembers compares the members of the top level with those of lookup, which
// does not look at brackets within, nor at keys with escapes that JSON has not.
func checkMembers(t *testing.T, in []byte) {
	t.Helper()
	var want []pairOf
	wantWhole := members(in, func(key, value []byte) { want = append(want, short(key, value)) })
	got, s := scanMembers(in)
	whole := s.Whole()
	if wantWhole && !whole && json.Valid(in) {
		t.Fatalf("%q: not whole", in)
	}
	if wantWhole && whole && !slices.EqualFunc(got, want, same) {
		t.Fatalf("%q:\n got %q\nwant %q", in, got, want)
	}
}

// checkCutMembers compares them for input that may be cut off.
func checkCutMembers(t *testing.T, in []byte) {
	t.Helper()
	var want []pairOf
	cutMembers(in, func(key, value []byte) { want = append(want, short(key, value)) })
	got, s := scanMembers(in)
	if n := min(len(got), len(want)); n < len(want) && !s.Malformed() || !slices.EqualFunc(got[:n], want[:n], same) {
		t.Fatalf("%q:\n got %q\nwant %q", in, got, want)
	}
}

// checkWhole compares whether the value is whole with what jsonCheck says, which
// was more lenient.
func checkWhole(t *testing.T, in []byte, size int) {
	t.Helper()
	var c oldCheck
	var s Scanner
	container := false
	for _, part := range pieces(string(in), size) {
		c.feed([]byte(part))
		s.Feed([]byte(part))
		for s.Next() {
			container = s.Kind() <= Array
		}
		if c.whole() && !s.Whole() && json.Valid(in) {
			t.Fatalf("%q in pieces of %d: not whole", in, size)
		}
		if s.Whole() && container && !c.done {
			t.Fatalf("%q in pieces of %d: whole too early", in, size)
		}
	}
}
