//go:build !race

package openai_test

import (
	"net/http"
	"runtime"
	"strconv"
	"testing"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
)

// Not parallel: it looks at the whole process's heap.
func TestMemoryIsFlatWhateverModelsAreNamed(t *testing.T) { //nolint:paralleltest // see above
	_, provider := newReader()
	n := 0
	tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
		n++
		return reply(200, `{"model":"answered-`+strconv.Itoa(n)+`"}`).RoundTrip(req)
	}), openai.Config{MeterProvider: provider})
	heap := func(calls int) int64 {
		for range calls {
			do(t, tr, ask(t, t.Context(), "asked-"+strconv.Itoa(n)))
		}
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	// Every bound is reached by then: of labels, breakers and keys.
	full := heap(3_000)
	after := heap(10_000)
	t.Logf("%d KiB more after 10,000 further names", (after-full)>>10)
	if after-full > 1<<20 {
		t.Errorf("the heap grew by %d bytes", after-full)
	}
}
