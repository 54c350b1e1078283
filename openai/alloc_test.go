//go:build !race

package openai

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/retry"
)

const tenMiB = 10 << 20

// twice503 is a base that reads each payload without an allocation and answers
// 503, 503, 200, and so on.
type twice503 struct {
	buffer  []byte
	calls   int
	total   int64
	changed bool // the payload was not what was given
}

func (b *twice503) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		n, err := req.Body.Read(b.buffer)
		b.total += int64(n)
		b.changed = b.changed || n > 1 && (b.buffer[1] == 0 || b.buffer[n-1] == 0)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	_ = req.Body.Close()
	b.calls++
	code := http.StatusServiceUnavailable
	if b.calls%3 == 0 {
		code = http.StatusOK
	}
	const body = `{"object":"chat.completion"}`
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

// anonymous hides what a reader is.
type anonymous struct{ io.Reader }

func (anonymous) Close() error { return nil }

func roundTrip(t testing.TB, tr http.RoundTripper, req *http.Request) {
	t.Helper()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	_ = resp.Body.Close()
}

func soon() backoff.BackOff { return backoff.NewConstantBackOff(time.Microsecond) }

// Not parallel: it reads the whole process's memory statistics.
func TestALargePayloadIsAllocatedOnceAtMost(t *testing.T) { //nolint:paralleltest // see above
	const url = "https://api.example.com/v1/chat/completions"
	data := withImage()
	for name, row := range map[string]struct {
		request func() (*http.Request, error)
		payload uint64 // bytes that the chain has to allocate
	}{
		"of known length": {func() (*http.Request, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, anonymous{bytes.NewReader(data)})
			if err == nil {
				req.ContentLength = tenMiB
			}
			return req, err
		}, tenMiB},
		"in memory": {func() (*http.Request, error) {
			return http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(data))
		}, tenMiB}, // the caller's memory is not borrowed unasked
		"by retry.NewRequest": {func() (*http.Request, error) {
			return retry.NewRequest(t.Context(), http.MethodPost, url, data)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			base := &twice503{buffer: make([]byte, 64<<10)}
			tr := NewTransport(base, Config{Retry: retry.Config{Backoff: soon, Budget: retry.Unlimited}})
			defer func() { _ = tr.Close() }()
			least := uint64(1 << 40)
			for range 5 { // the first makes what stays; others may be disturbed by the runtime
				req, err := row.request()
				if err != nil {
					t.Fatal(err)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				roundTrip(t, tr, req)
				runtime.ReadMemStats(&after)
				least = min(least, after.TotalAlloc-before.TotalAlloc)
			}
			t.Logf("%d bytes beyond the payload", int64(least)-int64(row.payload))
			if least > row.payload+64<<10 {
				t.Errorf("%d bytes were allocated for a payload of %d", least, tenMiB)
			}
			if base.calls != 15 || base.total != 15*tenMiB || base.changed {
				t.Errorf("%d bytes were sent in %d attempts", base.total, base.calls)
			}
		})
	}
}

// answers is a base that answers with the same body each time.
type answers struct {
	media string
	body  []byte
	size  int64
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {a.media}}, Request: req,
		ContentLength: a.size, Body: io.NopCloser(bytes.NewReader(a.body)),
	}, nil
}

// allocations returns how many of them a call makes whose answer is read in
// pieces.
func allocations(t *testing.T, over http.RoundTripper) float64 {
	t.Helper()
	return allocationsOf(t, over, func(body io.ReadCloser) io.ReadCloser { return body })
}

// allocationsOf is allocations of calls whose payload is as it is made here.
func allocationsOf(t *testing.T, over http.RoundTripper, payloadOf func(io.ReadCloser) io.ReadCloser) float64 {
	t.Helper()
	payload := []byte(`{"model":"gpt-5-mini","messages":[{"role":"user","content":"` + strings.Repeat("x", 960) + `"}]}`)
	buffer := make([]byte, 512)
	return testing.AllocsPerRun(200, func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example.com/v1/chat/completions", bytes.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		req.Body = payloadOf(req.Body)
		resp, err := over.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = resp.Body.Read(buffer)
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	})
}

func TestAllocationsOfACall(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	body := []byte(`{"model":"gpt-5-mini-2025-08-07","choices":[{"text":"` + strings.Repeat("x", 900) + `"}],"usage":{"prompt_tokens":9,"completion_tokens":7}}`)
	base := &answers{"application/json", body, int64(len(body))}
	for meter, provider := range map[string]metric.MeterProvider{
		"no-op meter": noop.NewMeterProvider(),
		"SDK meter":   sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
	} {
		chain := NewTransport(base, Config{MeterProvider: provider})
		defer func() { _ = chain.Close() }()
		for payload, of := range map[string]func(io.ReadCloser) io.ReadCloser{
			"in memory":             func(body io.ReadCloser) io.ReadCloser { return body },
			"that can only be read": func(body io.ReadCloser) io.ReadCloser { return struct{ io.ReadCloser }{body} },
		} {
			got := allocationsOf(t, chain, of) - allocationsOf(t, base, of)
			t.Logf("%s, a payload %s: %v allocations", meter, payload, got)
			// The design's goal is 10. The rest is what it takes to tell an upload
			// from the provider's silence: a trace, its context and a timer.
			if got > 19 {
				t.Errorf("%s, a payload %s: the chain makes %v allocations a call, want 19 at most", meter, payload, got)
			}
		}
	}
}

func TestANameIsMadeOnceWhateverNamesCameBefore(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	for n := range 10_000 {
		modelName([]byte(`"model-` + strconv.Itoa(n) + `"`))
	}
	value := []byte(`"gpt-5-mini"`)
	if n := testing.AllocsPerRun(100, func() { modelName(value) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if name := modelName(value); name != "gpt-5-mini" {
		t.Errorf("it is %q", name)
	}
}

// A process whose two names of one model pushed each other out made both anew
// in every call.
func TestNamesInTurnAreMadeOnce(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	for n := range 2_000 {
		asked, answering := []byte(`"asked-`+strconv.Itoa(n)+`"`), []byte(`"answering-`+strconv.Itoa(n)+`"`)
		both := func() { modelName(asked); modelName(answering) }
		for range 20 {
			both()
		}
		if n := testing.AllocsPerRun(1, both); n != 0 {
			t.Fatalf("%s and %s: %v allocations", asked, answering, n)
		}
	}
}

func TestAChunkOfAStreamAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun
	const event = `data: {"model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}],"usage":null}` + "\n\n"
	const end = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":7}}` + "\n\ndata: [DONE]\n\n"
	stream := func(events int) http.RoundTripper {
		base := &answers{"text/event-stream", []byte(strings.Repeat(event, events) + end), -1}
		return NewTransport(base, Config{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))})
	}
	// The first chunks set up what stays for the stream, such as its timer.
	if short, long := allocations(t, stream(1000)), allocations(t, stream(4000)); long > short {
		t.Errorf("%v allocations for 1,000 events, %v for 4,000", short, long)
	}
}

// A prompt must not be held for as long as its answer is streamed.
func TestThePayloadIsLetGoWhileTheAnswerIsStreamed(t *testing.T) { //nolint:paralleltest // it reads the process's memory statistics
	const size = 32 << 20
	events, answer := io.Pipe()
	calls := 0
	base := baseFunc(func(req *http.Request) (*http.Response, error) {
		if n, err := io.Copy(io.Discard, req.Body); err != nil || n != size {
			t.Errorf("%d bytes were sent: %v", n, err)
		}
		_ = req.Body.Close()
		if calls++; calls == 1 {
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: http.NoBody}, nil
		}
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: events, ContentLength: -1,
		}, nil
	})
	tr := NewTransport(base, Config{Retry: retry.Config{Backoff: soon}})
	defer func() { _ = tr.Close() }()
	head, tail := `{"messages":"`, `","model":"m","stream":true}`
	// Nothing of the payload is in memory before it is read.
	payload := io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, int64(size-len(head)-len(tail))), strings.NewReader(tail))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example.com/v1/chat/completions", anonymous{payload})
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	before := heap()
	const event = `data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}` + "\n\n"
	go func() { _, _ = io.WriteString(answer, event) }()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, len(event))); err != nil {
		t.Fatal(err)
	}
	held := heap() - before
	if held > size/4 {
		t.Errorf("%d bytes are held while the answer comes", held)
	}
	go func() {
		_, _ = io.WriteString(answer, "data: [DONE]\n\n")
		_ = answer.Close()
	}()
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "data: [DONE]\n\n" {
		t.Errorf("then came %q, %v", rest, err)
	}
	_ = resp.Body.Close()
	runtime.KeepAlive(req)
}

type baseFunc func(*http.Request) (*http.Response, error)

func (f baseFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// heap returns the bytes of what is still in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
