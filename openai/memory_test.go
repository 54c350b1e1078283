//go:build !race

package openai_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
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

// Not parallel: it looks at the whole process's heap.
func TestMemoryIsFlatWhateverHostsAnswer(t *testing.T) { //nolint:paralleltest // see above
	for name, status := range map[string]int{"well": 200, "a redirect": 302, "a rate limit": 429, "a failure": 503} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // see above
			_, provider := newReader()
			n := 0
			tr := newChain(t, reply(status, `{"choices":[]}`, "Location", "/x"), openai.Config{
				MeterProvider: provider, Retry: retry.Config{MaxAttempts: 2, Backoff: at(time.Microsecond), MaxRetryAfter: time.Microsecond},
			})
			heap := func(calls int) int64 {
				for range calls {
					n++
					_ = do(t, tr, request(t, t.Context(), http.MethodPost, "https://h"+strconv.Itoa(n)+".example.com/v1/chat/completions", asked))
				}
				return inUse()
			}
			full := heap(1_500)
			if more := heap(3_000) - full; more > 1<<20 {
				t.Errorf("the heap grew by %d bytes", more)
			}
			runtime.KeepAlive(tr)
		})
	}
}

// net/http's connections keep nothing of it either. Not parallel: it looks at the
// whole process's heap.
func TestThePayloadIsLetGoOverTheNetwork(t *testing.T) { //nolint:paralleltest // see above
	const size = 16 << 20
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, length := range []int64{size, -1} {
			over := make(chan struct{})
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n, err := io.Copy(io.Discard, r.Body); err != nil || n != size || r.Proto != proto {
					t.Errorf("%d bytes came by %s, %v", n, r.Proto, err)
				}
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, tokenEvent)
				_ = http.NewResponseController(w).Flush()
				<-over
				_, _ = io.WriteString(w, endEvent+doneEvent)
			}))
			base := openai.BaseTransport()
			if proto == "HTTP/2.0" {
				srv.EnableHTTP2 = true
				srv.StartTLS()
				base.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			} else {
				srv.Start()
			}
			t.Cleanup(srv.Close)
			tr := newChain(t, base, openai.Config{})
			before := inUse()
			payload := io.MultiReader(strings.NewReader(`{"model":"m","stream":true,"x":"`), io.LimitReader(filler{}, size-34), strings.NewReader(`"}`))
			req := request(t, t.Context(), http.MethodPost, srv.URL+"/v1/chat/completions", streamed)
			req.Body, req.GetBody, req.ContentLength = io.NopCloser(payload), nil, length
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if held := inUse() - before; held > size/4 {
				t.Errorf("%s, length %d: %d KiB are held while the answer comes", proto, length, held>>10)
			}
			close(over)
			if content, err := io.ReadAll(resp.Body); err != nil || string(content) != tokenEvent+endEvent+doneEvent {
				t.Errorf("%s: %q, %v", proto, content, err)
			}
			_ = resp.Body.Close()
			runtime.KeepAlive(req)
		}
	}
}

// A filler has no end.
type filler struct{}

func (filler) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// What a provider sends is held up to the bounds that SECURITY.md names, in bytes
// of the heap as well, and let go when it is closed. Not parallel: it looks at the
// whole process's heap.
func TestTheHeapHoldsOfAnAnswerWhatMayBeHeld(t *testing.T) { //nolint:paralleltest // see above
	long := strings.Repeat("x", 32<<10)
	for name, row := range map[string]struct {
		status       int
		media        string
		begin, again string
		cfg          openai.Config
		calls        int
		read         int64 // by its reader
		most         int64 // bytes held of each answer
	}{
		"JSON":                          {200, "application/json", `{"object":"`, long, openai.Config{}, 2, 0, 16 << 20},
		"a stream of pings":             {200, "text/event-stream", "", ": ping\n\n", openai.Config{}, 8, 0, 1<<20 + 128<<10},
		"a stream that is wanted whole": {200, "text/event-stream", "", tokenEvent, openai.Config{Delivery: openai.Whole}, 1, 0, 64 << 20},
		"an error":                      {503, "application/json", `{"error":{"message":"`, long, openai.Config{}, 16, 0, 64 << 10},
		"a line without end":            {200, "text/event-stream", tokenEvent + "data: ", long, openai.Config{Delivery: openai.Immediate}, 4, 8 << 20, 2 << 20},
		"an event without end":          {200, "text/event-stream", tokenEvent, "data: " + long + "\n", openai.Config{Delivery: openai.Immediate}, 4, 8 << 20, 2 << 20},
		"an error without end":          {200, "application/json", `{"error":{"message":"`, long, openai.Config{Delivery: openai.Immediate}, 16, 8 << 20, 128 << 10},
		"a model without end":           {200, "application/json", `{"model":"`, long, openai.Config{Delivery: openai.Immediate}, 16, 8 << 20, 128 << 10},
		"members without end":           {200, "application/json", `{"model":"m"`, `,"a":[{"b":null}]`, openai.Config{Delivery: openai.Immediate}, 16, 8 << 20, 128 << 10},
		"depth without end":             {200, "application/json", "", `{"error":[`, openai.Config{Delivery: openai.Immediate}, 4, 4 << 20, 2 << 20},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // see above
			if row.most > 16<<20 && testing.Short() {
				return
			}
			row.cfg.Retry.Backoff, row.cfg.Retry.MaxAttempts = at(time.Millisecond), 2
			var read atomic.Int64
			tr := newChain(t, stub.Func(func(req *http.Request) (*http.Response, error) {
				body := &endlessBody{req.Context(), []byte(row.begin), []byte(row.again), &read}
				return &http.Response{StatusCode: row.status, Header: http.Header{"Content-Type": {row.media}}, Body: body, ContentLength: -1}, nil
			}), row.cfg)
			before := inUse()
			bodies := make([]io.ReadCloser, row.calls)
			for n := range bodies {
				resp, err := tr.RoundTrip(ask(t, t.Context(), "m"))
				if err != nil {
					t.Fatal(err)
				}
				bodies[n] = resp.Body
				if _, err := io.CopyN(io.Discard, resp.Body, row.read); err != nil {
					t.Fatal(err)
				}
			}
			held := inUse() - before
			if most := int64(row.calls)*row.most + 512<<10; held > most {
				t.Errorf("%d KiB are held of %d answers, want %d at most", held>>10, row.calls, most>>10)
			}
			for _, body := range bodies {
				_ = body.Close()
			}
			const parsing = 5 << 18 // of one answer: a line, and some more
			if left := inUse() - before; left > int64(row.calls)*parsing {
				t.Errorf("%d KiB of %d are kept of what is closed", left>>10, held>>10)
			}
			runtime.KeepAlive(bodies)
			if left := inUse() - before; left > 256<<10 {
				t.Errorf("%d KiB of %d are kept of what nobody has any more", left>>10, held>>10)
			}
			runtime.KeepAlive(tr)
		})
	}
}

// Not parallel: it looks at what the whole process allocates.
func TestWhatAProviderAnnouncesAllocatesNothing(t *testing.T) { //nolint:paralleltest // see above
	const attempts = 4
	for name, row := range map[string]struct {
		status int
		media  string
	}{
		"JSON":     {200, "application/json"},
		"a stream": {200, "text/event-stream"},
		"an error": {503, "application/json"},
	} {
		base := stub.Func(func(*http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader(`{"object":"`+strings.Repeat("x", 89)), errReader{io.ErrUnexpectedEOF})
			return &http.Response{StatusCode: row.status, Header: http.Header{"Content-Type": {row.media}}, Body: io.NopCloser(body), ContentLength: 16<<20 - 1}, nil
		})
		tr := newChain(t, base, openai.Config{Retry: retry.Config{MaxAttempts: attempts, Backoff: at(time.Microsecond), Budget: retry.Unlimited}, Breaker: neverOpen})
		_ = do(t, tr, ask(t, t.Context(), "m"))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = do(t, tr, ask(t, t.Context(), "m"))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > attempts*(64+16)<<10 {
			t.Errorf("%s: %d KiB were allocated in %d attempts", name, n>>10, attempts)
		}
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
