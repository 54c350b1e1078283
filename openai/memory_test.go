//go:build !race

package openai_test

import (
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
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
		return inUse()
	}
	// Every bound is reached by then: of labels, breakers and keys.
	full := heap(3_000)
	after := heap(10_000)
	t.Logf("%d KiB more after 10,000 further names", (after-full)>>10)
	if after-full > 1<<20 {
		t.Errorf("the heap grew by %d bytes", after-full)
	}
}

// Whoever sends it, nothing is kept of what is long but its beginning. Not
// parallel: it looks at the whole process's heap.
func TestNothingLongIsKept(t *testing.T) { //nolint:paralleltest // see above
	const (
		calls = 100
		long  = 1 << 20
	)
	text := strings.Repeat("x", long)
	for name, row := range map[string]struct {
		url, asked, answered string // behind each comes what makes it another
		keyed                bool   // by the user, with all of the URL
	}{
		"a model that is asked for":    {url: chatURL, asked: text},
		"a model that answers":         {url: chatURL, answered: text},
		"an Azure deployment":          {url: "https://example.com/openai/deployments/" + text + "/chat/completions"},
		"a host, as of a redirect":     {url: "https://" + text + ".example.com/v1/chat/completions"},
		"a path behind a host":         {url: "https://example.com/" + text + "/v1/chat/completions"},
		"a query":                      {url: chatURL + "?" + text},
		"a key that the user has made": {url: chatURL + "?" + text, keyed: true},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // see above
			_, provider := newReader()
			n, sent := 0, 0
			cfg := openai.Config{MeterProvider: provider, Retry: retry.Config{MaxAttempts: 2, Backoff: at(time.Microsecond)}}
			if row.keyed {
				cfg.Breaker.Key = func(req *http.Request) string { return req.URL.String() }
				cfg.Retry.BudgetKey = cfg.Breaker.Key
			}
			tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, req.Body)
				if sent++; sent%2 == 1 {
					return reply(503, "").RoundTrip(req) // so that a budget is drawn on
				}
				return reply(200, `{"model":"`+strconv.Itoa(n)+row.answered+`"}`).RoundTrip(req)
			}), cfg)
			before := inUse()
			for n = range calls {
				// The host differs too: a part of a long URL must not keep it.
				url := strings.Replace(row.url, "https://", "https://h"+strconv.Itoa(n)+".", 1)
				do(t, tr, request(t, t.Context(), http.MethodPost, url, `{"model":"`+strconv.Itoa(n)+row.asked+`"}`))
			}
			if kept := inUse() - before; kept > 3*long {
				t.Errorf("%d KiB are kept of %d calls with 1 MiB", kept>>10, calls)
			}
			runtime.KeepAlive(tr)
		})
	}
}

// inUse returns the bytes of what is still in use.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
