package hint

import (
	"net/http"
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
	{"junk is passed over", map[string]string{"Retry-After": "9", "Retry-After-Ms": "soon"}, 9 * time.Second, true},
	{"negative", map[string]string{"Retry-After": "-1"}, 0, false},
	{"NaN", map[string]string{"Retry-After": "NaN"}, 0, false},
	{"infinite", map[string]string{"Retry-After": "Inf"}, 0, false},
	{"hex", map[string]string{"Retry-After": "0x10"}, 0, false},
	{"empty", map[string]string{"Retry-After": ""}, 0, false},
	{"absurd is bounded", map[string]string{"Retry-After": "99999999999999999999999"}, longest, true},
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

func FuzzFromHeader(f *testing.F) {
	for _, row := range rows {
		for _, v := range row.header {
			f.Add(v, v)
		}
	}
	f.Fuzz(func(t *testing.T, seconds, millis string) {
		h := http.Header{"Retry-After": {seconds}, "Retry-After-Ms": {millis}}
		if d, _ := FromHeader(h, now); d < 0 || d > longest {
			t.Errorf("FromHeader(%q, %q) = %v", seconds, millis, d)
		}
	})
}
