// Package hint reads how long a server asks a client to wait. Headers are the
// server's, so that anything may stand there: what can't be read is ignored, and
// what is absurd is bounded.
package hint

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// longest bounds what a hint can say, so that sums with it can't overflow. No
// caller obeys anything near it.
const longest = 365 * 24 * time.Hour

// FromHeader returns the wait asked for by the first of retry-after-ms,
// x-ms-retry-after-ms (OpenAI, Azure) and Retry-After (RFC 9110, section
// 10.2.3; fractions of a second are accepted). A date is one of the server's
// clock, which the response's Date shows; one in the past asks for no wait. What is
// negative or can't be read is as if it were not there. The headers in
// milliseconds come first, because a server that sends both rounds the other up.
func FromHeader(h http.Header, now time.Time) (time.Duration, bool) {
	for _, field := range [...]struct {
		name string
		unit time.Duration
	}{
		{"Retry-After-Ms", time.Millisecond},
		{"X-Ms-Retry-After-Ms", time.Millisecond},
		{"Retry-After", time.Second},
	} {
		values := h[field.name]
		if len(values) == 0 {
			continue
		}
		value := strings.TrimSpace(values[0])
		if d, ok := number(value, field.unit); ok {
			return d, true
		}
		if field.unit != time.Second {
			continue
		}
		if at, err := http.ParseTime(value); err == nil {
			return Clamp(at.Sub(Now(h, now))), true
		}
	}
	return 0, false
}

// Now returns what the server's clock shows: the response's Date, or else now. A
// clock of ours that is wrong makes no hint longer or shorter.
func Now(h http.Header, now time.Time) time.Time {
	if values := h["Date"]; len(values) > 0 {
		if date, err := http.ParseTime(values[0]); err == nil {
			return date
		}
	}
	return now
}

// number reads a decimal count of unit. Only digits and a point are taken:
// ParseFloat alone would also take "inf", "1e9" and "0x10". A number that is too large
// is the longest hint, which no caller obeys.
func number(s string, unit time.Duration) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	if f *= float64(unit); f < float64(longest) {
		return time.Duration(f), true
	}
	return longest, true
}

// Clamp returns d as a hint can say it: not negative, and no longer than a year. A date
// that is over asks for no wait.
func Clamp(d time.Duration) time.Duration { return min(max(d, 0), longest) }
