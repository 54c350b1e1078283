package hint

import (
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var rows = []struct {
	name   string
	header map[string]string
	want   time.Duration
	ok     bool
}{
	{"none", nil, 0, false},
	{"seconds", map[string]string{"Retry-After": "7"}, 7 * time.Second, true},
	{"fraction", map[string]string{"Retry-After": "0.25"}, 250 * time.Millisecond, true},
	{"zero is at once", map[string]string{"Retry-After": "0"}, 0, true},
	{"date", map[string]string{"Retry-After": now.Add(90 * time.Second).Format(http.TimeFormat)}, 90 * time.Second, true},
	{"date in the past is at once", map[string]string{"Retry-After": now.Add(-time.Hour).Format(http.TimeFormat)}, 0, true},
	{"milliseconds", map[string]string{"Retry-After-Ms": "1500"}, 1500 * time.Millisecond, true},
	{"Azure milliseconds", map[string]string{"X-Ms-Retry-After-Ms": "20.5"}, 20500 * time.Microsecond, true},
	{"milliseconds come first", map[string]string{"Retry-After": "9", "Retry-After-Ms": "10"}, 10 * time.Millisecond, true},
	{"a date is no number of milliseconds", map[string]string{"Retry-After": "9", "Retry-After-Ms": now.Add(90 * time.Second).Format(http.TimeFormat)}, 9 * time.Second, true},
	{"a date is one of the server's clock", map[string]string{"Retry-After": now.Add(-time.Minute).Format(http.TimeFormat), "Date": now.Add(-time.Hour).Format(http.TimeFormat)}, 59 * time.Minute, true},
	{"a Date that is none is passed over", map[string]string{"Retry-After": now.Add(90 * time.Second).Format(http.TimeFormat), "Date": "today"}, 90 * time.Second, true},
	{"junk is passed over", map[string]string{"Retry-After": "9", "Retry-After-Ms": "soon"}, 9 * time.Second, true},
	{"negative", map[string]string{"Retry-After": "-1"}, 0, false},
	{"NaN", map[string]string{"Retry-After": "NaN"}, 0, false},
	{"infinite", map[string]string{"Retry-After": "Inf"}, 0, false},
	{"hex", map[string]string{"Retry-After": "0x10"}, 0, false},
	{"empty", map[string]string{"Retry-After": ""}, 0, false},
	{"absurd is bounded", map[string]string{"Retry-After": "99999999999999999999999"}, longest, true},
	{"more than a number can be is bounded", map[string]string{"Retry-After": strings.Repeat("9", 400)}, longest, true},
	{"far date is bounded", map[string]string{"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, longest, true},
}

func TestFromHeader(t *testing.T) {
	t.Parallel()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			for k, v := range row.header {
				h.Set(k, v)
			}
			if got, ok := FromHeader(h, now); got != row.want || ok != row.ok {
				t.Errorf("FromHeader = %v, %v; want %v, %v", got, ok, row.want, row.ok)
			}
		})
	}
}

// FuzzFromHeader compares with exact arithmetic.
func FuzzFromHeader(f *testing.F) {
	for _, row := range rows {
		f.Add(row.header["Retry-After"], row.header["Retry-After-Ms"], row.header["X-Ms-Retry-After-Ms"])
	}
	for _, v := range []string{"1.5.", ".", "1.", ".5", " 3 ", "٣", "+1", "1_000", "1,5", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
		f.Add(v, v, v)
	}
	f.Fuzz(func(t *testing.T, after, millis, azure string) {
		h := http.Header{"Retry-After": {after}, "Retry-After-Ms": {millis}, "X-Ms-Retry-After-Ms": {azure}}
		got, ok := FromHeader(h, now)
		want, wantOK := slowly(after, millis, azure)
		// A nanosecond, and what the precision of a float64 makes of a year.
		if diff := (got - want).Abs(); ok != wantOK || diff > 1+want>>50 {
			t.Errorf("FromHeader(%q, %q, %q) = %v, %v; want %v, %v", after, millis, azure, got, ok, want, wantOK)
		}
	})
}

var decimal = regexp.MustCompile(`^([0-9]+\.?[0-9]*|\.[0-9]+)$`)

func slowly(after, millis, azure string) (time.Duration, bool) {
	for _, field := range []struct {
		value string
		unit  time.Duration
	}{{millis, time.Millisecond}, {azure, time.Millisecond}, {after, time.Second}} {
		value := strings.TrimSpace(field.value)
		if decimal.MatchString(value) {
			exact, _ := new(big.Rat).SetString("0" + strings.TrimSuffix(value, "."))
			exact.Mul(exact, new(big.Rat).SetInt64(int64(field.unit)))
			whole := new(big.Int).Quo(exact.Num(), exact.Denom())
			if !whole.IsInt64() {
				return longest, true
			}
			return min(time.Duration(whole.Int64()), longest), true
		}
	}
	at, err := http.ParseTime(strings.TrimSpace(after))
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), longest), true
}
