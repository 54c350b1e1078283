package openai

import (
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

var resets = []struct {
	value string
	want  time.Duration // 0 for none
}{
	{"1s", time.Second},
	{"6m0s", 6 * time.Minute},
	{"59.5s", 59500 * time.Millisecond},
	{"1h2m3s", time.Hour + 2*time.Minute + 3*time.Second},
	{"20ms", 20 * time.Millisecond},
	{"2m59.56s", 2*time.Minute + 59560*time.Millisecond}, // Groq
	{" 7.66s ", 7660 * time.Millisecond},
	{"55", 55 * time.Second}, // Azure
	{"0.5", 500 * time.Millisecond},
	{"3.", 3 * time.Second},

	{"", 0},
	{"-1", 0},
	{"-1s", 0},
	{"1s-2s", 0},
	{"0", 0},
	{"0s", 0},
	{"soon", 0},
	{"NaN", 0},
	{"inf", 0},
	{"1e9", 0},
	{"0x10", 0},
	{".", 0},
	{"..", 0},
	{"1d", 0},
	{"1700000000", 0},    // a time of day
	{"1700000000000", 0}, // the same, in milliseconds
	{"2026-11-23T12:00:00Z", 0},
	{"8761h", 0},
	{"99999999999999999999999h", 0},
}

func TestResets(t *testing.T) {
	t.Parallel()
	for _, row := range resets {
		t.Run(row.value, func(t *testing.T) {
			t.Parallel()
			if got, ok := parseReset(row.value); got != row.want || ok != (row.want > 0) {
				t.Errorf("parseReset = %v, %v, want %v", got, ok, row.want)
			}
		})
	}
}

func TestHintsOfRateLimits(t *testing.T) {
	t.Parallel()
	type headers map[string]string
	requests, tokens := "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"
	resetRequests, resetTokens := "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"
	for name, row := range map[string]struct {
		header headers
		not429 bool
		want   time.Duration
		ok     bool
	}{
		"no header":                         {headers{}, false, 0, false},
		"Retry-After":                       {headers{"retry-after": "2"}, false, 2 * time.Second, true},
		"retry-after-ms first":              {headers{"retry-after": "2", "retry-after-ms": "100"}, false, 100 * time.Millisecond, true},
		"x-ms-retry-after-ms before it":     {headers{"retry-after": "2", "x-ms-retry-after-ms": "100"}, false, 100 * time.Millisecond, true},
		"Retry-After before a reset":        {headers{"retry-after": "2", requests: "0", resetRequests: "9s"}, false, 2 * time.Second, true},
		"Retry-After: 0 is at once":         {headers{"retry-after": "0", requests: "0", resetRequests: "9s"}, false, 0, true},
		"exhausted requests":                {headers{requests: "0", resetRequests: "9s", tokens: "5", resetTokens: "1m0s"}, false, 9 * time.Second, true},
		"exhausted tokens":                  {headers{requests: "5", resetRequests: "9s", tokens: "0", resetTokens: "1m0s"}, false, time.Minute, true},
		"both: the longer":                  {headers{requests: "0", resetRequests: "9s", tokens: "0", resetTokens: "1m0s"}, false, time.Minute, true},
		"both, one junk":                    {headers{requests: "0", resetRequests: "9s", tokens: "0", resetTokens: "junk"}, false, 9 * time.Second, true},
		"nothing is exhausted":              {headers{requests: "1", resetRequests: "9s", tokens: "5", resetTokens: "1m0s"}, false, 0, false},
		"what remains is not said":          {headers{resetRequests: "9s", resetTokens: "1m0s"}, false, 0, false},
		"Azure Responses: -1 and 0":         {headers{tokens: "-1", resetTokens: "0"}, false, 0, false},
		"exhausted, but full in no time":    {headers{tokens: "0", resetTokens: "0"}, false, 0, false},
		"Azure's seconds":                   {headers{tokens: "0", resetTokens: "55"}, false, 55 * time.Second, true},
		"Azure's other spelling":            {headers{tokens: "0", "x-rate-limit-reset-tokens": "55"}, false, 55 * time.Second, true},
		"resets do not count without a 429": {headers{requests: "0", resetRequests: "9s"}, true, 0, false},
		"Retry-After does":                  {headers{"retry-after": "2"}, true, 2 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			for k, v := range row.header {
				h.Set(k, v)
			}
			if got, ok := waitOf(h, !row.not429, time.Now()); got != row.want || ok != row.ok {
				t.Errorf("waitOf = %v, %v, want %v, %v", got, ok, row.want, row.ok)
			}
		})
	}
}

// FuzzWaitOf compares with exact arithmetic. Retry-After has a target of its
// own.
func FuzzWaitOf(f *testing.F) {
	for _, row := range resets {
		f.Add("0", row.value, "0", "", "")
		f.Add("-1", "", "0", row.value, row.value)
	}
	f.Add(" 0 ", "1m30", "00", "1µs", "3h.5s1.")
	f.Fuzz(func(t *testing.T, remainingRequests, requests, remainingTokens, tokens, azure string) {
		h := http.Header{
			"X-Ratelimit-Remaining-Requests": {remainingRequests}, "X-Ratelimit-Reset-Requests": {requests},
			"X-Ratelimit-Remaining-Tokens": {remainingTokens}, "X-Ratelimit-Reset-Tokens": {tokens}, "X-Rate-Limit-Reset-Tokens": {azure},
		}
		if d, ok := waitOf(h, false, time.Now()); ok || d != 0 {
			t.Errorf("not refused for a rate limit, but waitOf = %v, %v", d, ok)
		}
		want := time.Duration(0)
		if strings.TrimSpace(remainingRequests) == "0" {
			want = resetSlowly(requests)
		}
		if strings.TrimSpace(remainingTokens) == "0" {
			want = max(want, resetSlowly(tokens), resetSlowly(azure))
		}
		// A nanosecond for each unit is lost.
		got, ok := waitOf(h, true, time.Now())
		if lost := time.Duration(len(requests) + len(tokens) + len(azure)); (got-want).Abs() > lost || ok != (got > 0) {
			t.Errorf("waitOf = %v, %v, want %v", got, ok, want)
		}
	})
}

var (
	resetUnits = map[string]time.Duration{
		"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
		"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
	}
	resetPart = regexp.MustCompile(`^([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)`)
)

// resetSlowly returns 0 for what is no time, or nobody's.
func resetSlowly(s string) time.Duration {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0
	}
	if strings.ContainsAny(s[len(s)-1:], "0123456789.") {
		s += "s"
	}
	sum := new(big.Rat)
	for s != "" {
		part := resetPart.FindStringSubmatch(s)
		if part == nil {
			return 0
		}
		s = s[len(part[0]):]
		exact, _ := new(big.Rat).SetString("0" + strings.TrimSuffix(part[1], "."))
		sum.Add(sum, exact.Mul(exact, new(big.Rat).SetInt64(int64(resetUnits[part[2]]))))
	}
	if sum.Cmp(new(big.Rat).SetInt64(int64(longestReset))) > 0 {
		return 0
	}
	return time.Duration(new(big.Int).Quo(sum.Num(), sum.Denom()).Int64())
}
