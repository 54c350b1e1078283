//go:build !race

package retry

import (
	"bytes"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// discard is a base that reads the payload without allocating, and fails twice.
type discard struct {
	buffer []byte
	calls  int
	total  int64
}

func (d *discard) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		n, err := req.Body.Read(d.buffer)
		d.total += int64(n)
		if err != nil {
			break
		}
	}
	_ = req.Body.Close()
	d.calls++
	code := 200
	if d.calls%3 != 0 {
		code = 503
	}
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody}, nil
}

const large = 10 << 20

func callLarge(t testing.TB, transport *Transport, req *http.Request) {
	resp, err := transport.RoundTrip(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
}

// Not parallel: it reads the whole process's memory statistics.
func TestALargePayloadIsBufferedOnceAtMost(t *testing.T) { //nolint:paralleltest // see above
	data := make([]byte, large)
	for name, row := range map[string]struct {
		request func() *http.Request
		payload uint64
	}{
		"of known length": {func() *http.Request {
			req := keyed(t.Context(), t, opaque(data))
			req.ContentLength = large
			return req
		}, large},
		"in memory": {func() *http.Request { return keyed(t.Context(), t, bytes.NewReader(data)) }, large},
		"NewRequest": {func() *http.Request {
			req, err := NewRequest(t.Context(), http.MethodPut, testURL, data)
			if err != nil {
				t.Fatal(err)
			}
			return req
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			base := &discard{buffer: make([]byte, 64<<10)}
			transport := NewTransport(base, Config{Backoff: steady(time.Microsecond)})
			callLarge(t, transport, row.request())
			req := row.request()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			callLarge(t, transport, req)
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d bytes beyond the payload", int64(allocated)-int64(row.payload))
			if allocated > row.payload+64<<10 {
				t.Errorf("%d bytes were allocated for a payload of %d", allocated, large)
			}
			if base.total != 6*large {
				t.Errorf("%d bytes were sent", base.total)
			}
		})
	}
}

func TestAllocationsOfACall(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	transport, req := small(t)
	bare := testing.AllocsPerRun(200, func() { send(t, answer{}, req()) })
	got := testing.AllocsPerRun(200, func() { send(t, transport, req()) }) - bare
	t.Logf("%v allocations", got)
	if got > 4 {
		t.Errorf("%v allocations a call, want 4 at most", got)
	}
}
