package openai

import (
	"net/http"
	"strings"
	"time"

	"github.com/retrip-go/retrip/internal/hint"
)

// longestReset bounds what a reset can mean. A larger bare number is no count
// of seconds but a time of day, as some gateways send it.
const longestReset = 365 * 24 * time.Hour

// rateLimits are the limits that providers report beside an answer: how much
// is left, and how long until it is full again. See
// https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers.
// Azure has been seen to spell one with a dash more (openai-python#937).
var rateLimits = []struct{ remaining, reset string }{
	{"X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
	{"X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
	{"X-Ratelimit-Remaining-Tokens", "X-Rate-Limit-Reset-Tokens"},
}

// waitOf returns how long a response asks to wait: by its Retry-After headers
// or else, if it was refused for a rate limit, by the limits that are
// exhausted. Of two, the longer one counts.
func waitOf(h http.Header, rateLimited bool, now time.Time) (time.Duration, bool) {
	if d, ok := hint.FromHeader(h, now); ok || !rateLimited {
		return d, ok
	}
	var longest time.Duration
	for _, limit := range rateLimits {
		if strings.TrimSpace(h.Get(limit.remaining)) != "0" {
			continue // it is another limit's fault; -1 is seen where there is none
		}
		if d, ok := parseReset(h.Get(limit.reset)); ok {
			longest = max(longest, d)
		}
	}
	return longest, longest > 0
}

// parseReset reads the time until a limit is full again: "6m0s", "59.5s",
// "20ms" (OpenAI, Groq), or Azure's bare "55", in seconds. An exhausted limit
// that is full again in no time, or in less, is none.
func parseReset(s string) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsAny(s, "+-") {
		return 0, false
	}
	if last := s[len(s)-1]; last == '.' || '0' <= last && last <= '9' {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > longestReset {
		return 0, false
	}
	return d, true
}
