package openai

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/retrip-go/retrip/internal/hint"
	"github.com/retrip-go/retrip/internal/throttle"
)

// longestReset bounds what a reset can mean: a longer one is a mistake, or of
// another kind of limit, such as a monthly one. No call can wait for that.
const longestReset = 24 * time.Hour

// rateLimits are the limits that providers report beside an answer: how much
// is left, and how long until it is full again, which is much later than the
// next call may go. See
// https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
// and https://docs.claude.com/en/api/rate-limits#response-headers. Azure has
// been seen to spell one with a dash more (openai-python#937). OpenRouter and
// others have one limit without a name.
var rateLimits = []struct{ remaining, reset string }{
	{"X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
	{"X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
	{"X-Ratelimit-Remaining-Tokens", "X-Rate-Limit-Reset-Tokens"},
	{"X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
	{"Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset"},
	{"Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset"},
	{"Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset"},
	{"Anthropic-Ratelimit-Output-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Reset"},
}

// waitOf returns how long the headers of a response ask to wait: by
// Retry-After and its like, or by a window that is used up. Retry-After goes before,
// because it is about this request. ok is false if the headers ask for nothing.
func waitOf(h http.Header, now time.Time) (time.Duration, bool) {
	if d, ok := hint.FromHeader(h, now); ok {
		return d, true
	}
	return windowOf(h)
}

// windowOf returns how long it is until the window of a limit is over that has
// nothing left, as the IETF's draft-ietf-httpapi-ratelimit-headers-06 has it. Its reset
// says when calls may go again, as those with x- in their names do not. A limit that has
// something left asks for no wait, whatever its reset is.
func windowOf(h http.Header) (time.Duration, bool) {
	left := h["Ratelimit-Remaining"]
	if len(left) == 0 || strings.TrimSpace(left[0]) != "0" {
		return 0, false
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(h.Get("Ratelimit-Reset")), 10, 32)
	if err != nil || seconds <= 0 {
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}

// fullIn returns how long it is until all limits that have nothing left are full
// again, which is more than a call has to wait; 0 if none says so.
func fullIn(h http.Header, now time.Time) time.Duration {
	var longest time.Duration
	for _, limit := range rateLimits {
		if isZero(h, limit.remaining) {
			longest = max(longest, parseReset(h.Get(limit.reset), hint.Now(h, now)))
		}
	}
	return longest
}

// isZero reports whether a limit has nothing left. Anything else does not count as
// that: Azure sends -1 where it has no number.
func isZero(h http.Header, remaining string) bool {
	return strings.TrimSpace(h.Get(remaining)) == "0"
}

// parseReset reads the time until a limit is full again: "6m0s", "59.5s",
// "20ms" (OpenAI, Groq), Azure's bare "55", in seconds, a time of day as RFC
// 3339 has it (Anthropic), or in seconds or milliseconds since 1970 (gateways).
// It returns 0 for what can't be true. A wait that is made up would cost the caller
// more than none.
func parseReset(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return plausible(at.Sub(now))
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return resetNumber(n, now)
	}
	if d, err := time.ParseDuration(s); err == nil {
		return plausible(d)
	}
	return 0
}

// resetNumber reads a number without a unit. The three meanings don't overlap: a wait of
// 10⁹ seconds would be 31 years, and 10⁹ seconds after 1970 are 10¹² milliseconds.
func resetNumber(n float64, now time.Time) time.Duration {
	switch {
	case n > 1e15, n <= 0:
		return 0
	case n > 1e12:
		return plausible(time.UnixMilli(int64(n)).Sub(now))
	case n > 1e9:
		return plausible(time.Unix(int64(n), 0).Sub(now))
	case n > longestReset.Seconds():
		return 0
	}
	return time.Duration(n * float64(time.Second))
}

// plausible returns d, or 0 if it is past or too far ahead. A past time comes from a
// clock that differs from ours.
func plausible(d time.Duration) time.Duration {
	if d < 0 || d > longestReset {
		return 0
	}
	return d
}

// refusalOf returns what a response said that was refused for its rate limit. Without a
// wait that is meant for this call, the time until the limit is full is an upper bound.
func refusalOf(h http.Header, v verdict, now time.Time) throttle.Refusal {
	r := throttle.Refusal{Tokens: v.tokens || isTokenLimit(h)}
	if r.Wait, r.Known = waitOf(h, now); !r.Known {
		r.AtMost = fullIn(h, now)
	}
	return r
}

// isTokenLimit reports whether there are no tokens left, but requests. Pacing then counts
// tokens, because small calls would be held back for nothing.
func isTokenLimit(h http.Header) bool {
	left, err := strconv.Atoi(strings.TrimSpace(h.Get("X-Ratelimit-Remaining-Requests")))
	return err == nil && left > 0 && isZero(h, "X-Ratelimit-Remaining-Tokens")
}
