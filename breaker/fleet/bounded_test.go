package fleet

import (
	"strings"
	"testing"
)

func TestWhatIsTooLargeIsNotRead(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"+OK\r\n": true,
		"":        true,
		"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$12\r\n$99999999\r\n\r\n\r\n": true, // in a string it is no length
		"$-1\r\n*-1\r\n_\r\n:12345678901234\r\n,1.5\r\n":                 true,
		"$16384\r\n" + strings.Repeat("x", 16384) + "\r\n+OK\r\n":        true,
		"$16385\r\n":                              false,
		"$104857600\r\n":                          false,
		"=104857600\r\ntxt:":                      false,
		"!104857600\r\n":                          false,
		"$99999999999999999999\r\n":               false,
		"*16384\r\n":                              true,
		">1000000\r\n":                            false,
		"%1000000\r\n":                            false,
		"*2\r\n$1\r\nx\r\n$20000\r\n":             false,
		"-ERR " + strings.Repeat("x", 20000):      false,
		"+" + strings.Repeat("x", 16000) + "\r\n": true,
	} {
		for _, size := range []int{1, 7, len(s) + 1} {
			if got := feed(s, size); got != want {
				t.Errorf("%.40q in pieces of %d: %t, want %t", s, size, got, want)
			}
		}
	}
}

func feed(s string, size int) (ok bool) {
	var f frames
	ok = true
	for ; s != "" && ok; s = s[min(size, len(s)):] {
		ok = f.feed([]byte(s[:min(size, len(s))]))
	}
	return ok
}

// FuzzFrames: how what a server sends is cut into pieces makes no difference.
func FuzzFrames(f *testing.F) {
	f.Add("*2\r\n$1\r\nx\r\n$20000\r\n", 3)
	f.Add("$5\r\n\r\n$9\r\n+x\n\n", 1)
	f.Fuzz(func(t *testing.T, s string, size int) {
		if size < 1 {
			return
		}
		if whole, pieces := feed(s, len(s)+1), feed(s, size); whole != pieces {
			t.Errorf("%q: %t as a whole, %t in pieces of %d", s, whole, pieces, size)
		}
	})
}
