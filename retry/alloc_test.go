//go:build !race

package retry

import (
	"bytes"
	"net/http"
	"net/url"
	"runtime"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
)

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
			base := &stub.Repeated{Failures: 2}
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
			if base.Sent != 6*large {
				t.Errorf("%d bytes were sent", base.Sent)
			}
		})
	}
}

func TestAllocationsOfACall(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	transport, req := small(t)
	base := &stub.Repeated{}
	bare := testing.AllocsPerRun(200, func() { send(t, base, req()) })
	got := testing.AllocsPerRun(200, func() { send(t, transport, req()) }) - bare
	t.Logf("%v allocations", got)
	if got > 4 {
		t.Errorf("%v allocations a call, want 4 at most", got)
	}
}

func TestARecordingAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	r := newRecorder(provider, DefaultBackend)
	u := &url.URL{Scheme: "https", Host: "api.example.com:8443"}
	about := call.Subject{Endpoint: "chat", Model: "gpt-5-mini", Target: "home"}
	for name, record := range map[string]func(){
		"a retry":       func() { l := r.labels(about, u, "503"); l.reason = "overloaded"; r.retried(t.Context(), l) },
		"a wait":        func() { l := r.labels(about, u, ""); l.source = "hint"; r.waited(t.Context(), time.Second, l) },
		"an exhaustion": func() { l := r.labels(about, u, "503"); l.stopReason = "budget"; r.exhausted(t.Context(), l) },
		"a call":        func() { r.over(t.Context(), 2, about, u, "") },
	} {
		record()
		if n := testing.AllocsPerRun(100, record); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}
