package fleet

import (
	"strconv"
	"strings"
	"time"
)

// version is that of the format. What has another is not read, so that old and new
// processes can share a server while a service is rolled out.
const version = "1"

// What is longer is no advice. The bounds hold for what is sent as well: see Name.
const (
	maxOrigin  = 64
	maxName    = 256
	maxMessage = 512
)

// An entry is an advice as it is sent: "UNTIL VERSION ORIGIN NAME", until when in
// milliseconds of the server's clock. The sorted set has the rest as its member,
// and until as its score.
type entry struct {
	until int64
	source
}

// A source is who says something of which breaker.
type source struct{ origin, name string }

// message returns what is published.
func (e entry) message() string { return strconv.FormatInt(e.until, 10) + " " + e.member() }

// member returns what is stored. It does not hold the time, so that a later advice of the
// same source replaces the one before.
func (s source) member() string { return version + " " + s.origin + " " + s.name }

// parseMessage reads what was published.
func parseMessage(s string) (e entry, ok bool) {
	if len(s) > maxMessage {
		return entry{}, false
	}
	until, member, _ := strings.Cut(s, " ")
	e.until, ok = parseUntil(until)
	if !ok {
		return entry{}, false
	}
	e.source, ok = parseMember(member)
	return e, ok
}

// parseUntil reads a time in milliseconds. A sign is no part of one.
func parseUntil(s string) (until int64, ok bool) {
	until, err := strconv.ParseInt(s, 10, 64)
	return until, err == nil && until > 0 && s[0] != '+'
}

// parseMember reads a member of the sorted set.
func parseMember(s string) (from source, ok bool) {
	if len(s) > maxMessage {
		return source{}, false
	}
	v, rest, _ := strings.Cut(s, " ")
	from.origin, from.name, _ = strings.Cut(rest, " ")
	if v != version || !isBetween(from.origin, maxOrigin) || !isBetween(from.name, maxName) {
		return source{}, false
	}
	return from, true
}

// isBetween reports whether s is neither empty nor too long.
func isBetween(s string, most int) bool { return s != "" && len(s) <= most }

// timely reports whether an advice is neither over at now, nor ends later than any
// breaker is open. The clocks may have been read a little apart, which is why limit is
// added. A server that was frozen delivers old messages when it goes on.
func (e entry) timely(now time.Time) bool {
	left := e.left(now)
	return left > 0 && left <= longest+limit
}

// left is for how long an advice holds.
func (e entry) left(now time.Time) time.Duration {
	return time.UnixMilli(e.until).Sub(now)
}
