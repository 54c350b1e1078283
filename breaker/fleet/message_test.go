package fleet

import (
	"strings"
	"testing"
	"time"
)

func TestParseMessage(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]entry{
		"1700000000000 1 00ff https://api.openai.com chat gpt-4o": {1700000000000, source{"00ff", "https://api.openai.com chat gpt-4o"}},
		"1 1 o \xff\n":                          {1, source{"o", "\xff\n"}},
		"":                                      {},
		"1":                                     {},
		"1 1":                                   {},
		"1 1 o":                                 {},
		"1 1 o ":                                {},
		"1 1  n":                                {},
		"0 1 o n":                               {},
		"-5 1 o n":                              {},
		"+5 1 o n":                              {},
		"x 1 o n":                               {},
		"1e12 1 o n":                            {},
		"1 2 o n":                               {},
		"1 one o n":                             {},
		`{"version":2}`:                         {},
		"99999999999999999999 1 o n":            {},
		"1 1 " + strings.Repeat("o", 65) + " n": {},
		"1 1 o " + strings.Repeat("n", 257):     {},
		"1 1 o " + strings.Repeat("n", 100<<20>>4): {},
	} {
		got, ok := parseMessage(s)
		if !ok {
			got = entry{}
		}
		if got != want {
			t.Errorf("%.80q is %+v, want %+v", s, got, want)
		}
	}
}

func TestWhatIsOverOrTooFarAheadIsNotTimely(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	for left, want := range map[time.Duration]bool{
		-time.Second: false, 0: false, time.Millisecond: true, 120 * time.Second: true, 122 * time.Second: false,
		time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).Sub(now): false,
	} {
		if got := (entry{until: now.Add(left).UnixMilli()}).timely(now); got != want {
			t.Errorf("%v ahead: %t", left, got)
		}
	}
	for _, until := range []int64{1 << 62, 253_402_300_799_000} {
		if (entry{until: until}).timely(now) {
			t.Errorf("%d is timely", until)
		}
	}
}

// FuzzMessage: what is read as advice is written as it was read.
func FuzzMessage(f *testing.F) {
	f.Add("1700000000000 1 00ff https://api.openai.com chat gpt-4o")
	f.Add("1 2 o n")
	f.Add(`{"v":1}`)
	f.Fuzz(func(t *testing.T, s string) {
		e, ok := parseMessage(s)
		if !ok {
			return
		}
		again, ok := parseMessage(e.message())
		if !ok || again != e || len(e.origin) > maxOrigin || len(e.name) > maxName {
			t.Errorf("%q is %+v, and that is %+v", s, e, again)
		}
	})
}
