package fleet

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
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

// Whoever publishes for longer would not be believed: advice is sent for no longer than
// what others read.
func TestAdviceIsSentFor120sAtMost(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := new(Redis)
	r.clock.set(now, now, now)
	for lasts, most := range map[time.Duration]time.Duration{time.Minute: time.Minute, time.Hour: longest} {
		sent := r.entries([]breaker.Advice{{Name: "n", Until: now.Add(lasts)}})
		if len(sent) != 1 || sent[0].left(now) > most+limit || sent[0].left(now) < most-limit {
			t.Errorf("for %v: sent %+v, want %v", lasts, sent, most)
		}
	}
}

func TestTheOldestAdviceThatWaitsGivesWay(t *testing.T) {
	t.Parallel()
	o := outbox{wake: make(chan struct{}, 1)}
	for i := range maxWaiting + 2 {
		if dropped := o.put(breaker.Advice{Name: strconv.Itoa(i)}); dropped != (i >= maxWaiting) {
			t.Fatalf("advice %d: dropped %v", i, dropped)
		}
	}
	waiting, _ := o.take()
	if n := len(waiting); n != maxWaiting || waiting[0].Name != "2" || waiting[n-1].Name != strconv.Itoa(maxWaiting+1) {
		t.Errorf("%d wait, from %q on", n, waiting[0].Name)
	}
}
