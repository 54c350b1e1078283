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
		"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$13\r\n$99999999\r\n\r\n\r\n": true, // in a string it is no length
		"$-1\r\n*-1\r\n:12345678901234\r\n":                              true,
		"$16384\r\n" + strings.Repeat("x", 16384) + "\r\n+OK\r\n":        true,
		"*16384\r\n": true,
		"+" + strings.Repeat("x", 16000) + "\r\n":                                         true,
		strings.Repeat("*16384\r\n", 30):                                                  true,
		strings.Repeat("*1\r\n", 30_000):                                                  true,
		strings.Repeat("*1\r\n:1\r\n", 100_000):                                           true, // many answers
		strings.Repeat("*16384\r\n", 40):                                                  false,
		strings.Repeat("*1\r\n", 40_000):                                                  false,
		"*1024\r\n" + strings.Repeat("$16384\r\n"+strings.Repeat("x", 16384)+"\r\n", 600): false,
		"$16385\r\n":                            false,
		"$104857600\r\n":                        false,
		"$00000000000000000000000104857600\r\n": false,
		"$99999999999999999999\r\n":             false,
		"$-2\r\n":                               false,
		"*-2\r\n":                               false,
		"$x\r\n":                                false,
		"*1000000\r\n":                          false,
		"*2\r\n$1\r\nx\r\n$20000\r\n":           false,
		"-ERR " + strings.Repeat("x", 20000):    false,
		"\r\n":                                  false,
		"%1\r\n*1\r\n+a\r\n+b\r\n":              false, // RESP 3
		">3\r\n":                                false,
		"=15\r\ntxt:":                           false,
		"HTTP/1.1 400 Bad Request\r\n":          false,
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
