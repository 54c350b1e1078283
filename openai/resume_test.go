package openai_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

const (
	responsesURL  = origin + "/v1/responses"
	inBackground  = `{"model":"m","input":"hi","background":true,"stream":true}`
	tooOld        = `{"error":{"message":"m","type":"invalid_request_error","code":null}}`
	reportedAlive = ": alive\n\n"
)

// numbered returns an event of a response.
func numbered(name string, n int, rest string) string {
	return openaitest.Event(name, fmt.Sprintf(`{"type":%q,"sequence_number":%d%s}`, name, n, rest))
}

// background returns the events of a response that says so many words.
func background(words int) []string {
	state := func(status string) string {
		return `,"response":{"id":"resp_1","object":"response","status":"` + status + `","model":"m-1","usage":{"input_tokens":9,"output_tokens":7}}`
	}
	events := []string{numbered("response.created", 0, state("queued")), numbered("response.in_progress", 1, state("in_progress"))}
	for len(events) < words+2 {
		n := len(events)
		events = append(events, numbered("response.output_text.delta", n, `,"delta":"word `+strconv.Itoa(n)+`"`))
	}
	return append(events, numbered("response.completed", len(events), state("completed")))
}

// An ending is how one answer of a run ends.
type ending struct {
	after int   // bytes; all of them if it is negative
	err   error // after those; nil for io.EOF
	stall bool  // nothing comes after those
	idle  bool  // Reads bring neither bytes nor an error after those

	instead stub.Func                      // of the events
	change  func(events []string) []string // of the events
}

var (
	errCut  = io.ErrUnexpectedEOF
	toItEnd = ending{after: -1}
)

// A run is a provider that has one response in the background. It answers the
// POST, and each request for the rest, and ends them one after the other as it is
// told; the last one for ever.
type run struct {
	events  []string
	endings []ending

	mu       sync.Mutex
	requests []*http.Request
	times    []time.Time
	open     int // bodies that were not closed
}

func (r *run) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
	}
	r.mu.Lock()
	e := r.endings[min(len(r.requests), len(r.endings)-1)]
	r.requests = append(r.requests, req)
	r.times = append(r.times, time.Now())
	r.mu.Unlock()
	if e.instead != nil {
		return e.instead(req)
	}
	events := r.events
	if req.Method == http.MethodGet {
		n, err := strconv.Atoi(req.URL.Query().Get("starting_after"))
		if err != nil {
			return nil, err
		}
		events = events[n+1:]
	}
	if e.change != nil {
		events = e.change(slices.Clone(events))
	}
	whole := strings.Join(events, "")
	if e.after >= 0 {
		whole = whole[:min(e.after, len(whole))]
	}
	r.mu.Lock()
	r.open++
	r.mu.Unlock()
	resp := stub.Stream(200, nil, "Content-Type", "text/event-stream")
	resp.Body = &runBody{Reader: strings.NewReader(whole), run: r, end: e, ctx: req.Context()}
	return resp, nil
}

type runBody struct {
	*strings.Reader

	run    *run
	end    ending
	ctx    context.Context
	closed sync.Once
}

func (b *runBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	switch {
	case n > 0 || len(p) == 0:
		return n, nil
	case b.end.idle:
		return 0, nil
	case b.end.stall:
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	case b.end.err != nil:
		return 0, b.end.err
	}
	return 0, err
}

func (b *runBody) Close() error {
	b.closed.Do(func() {
		b.run.mu.Lock()
		defer b.run.mu.Unlock()
		b.run.open--
	})
	return nil
}

// queries returns what followed the POST.
func (r *run) queries() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, req := range r.requests[min(1, len(r.requests)):] {
		all = append(all, req.Method+" "+req.URL.Path+"?"+req.URL.RawQuery)
	}
	return all
}

// gaps returns the time between each request and the one before.
func (r *run) gaps() (all []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 1; i < len(r.times); i++ {
		all = append(all, r.times[i].Sub(r.times[i-1]))
	}
	return all
}

// respond makes a call whose response runs in the background.
func respond(t testing.TB, ctx context.Context, chain http.RoundTripper, payload string) *http.Response { //nolint:revive // t goes first in tests
	t.Helper()
	resp, err := chain.RoundTrip(request(t, ctx, http.MethodPost, responsesURL, payload))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// readBy reads a body in pieces of a size, and closes it.
func readBy(body io.ReadCloser, size int) (string, error) {
	var all bytes.Buffer
	_, err := io.CopyBuffer(struct{ io.Writer }{&all}, struct{ io.Reader }{body}, make([]byte, size))
	_ = body.Close()
	return all.String(), err
}

// closed reports, at the end of a test, bodies that were not closed.
func (r *run) closed(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != 0 {
		t.Errorf("%d bodies are open", r.open)
	}
}

var calm = openai.Config{Breaker: neverOpen, Retry: retry.Config{Budget: retry.Unlimited}}

func TestAStreamThatIsCutAtAnyByteIsResumedAsIfItWereNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := background(4)
		whole := strings.Join(events, "")
		step := 1
		if testing.Short() {
			step = 7
		}
		for n := 0; n <= len(whole); n += step {
			for name, end := range map[string]ending{"cut": {after: n, err: errCut}, "ended": {after: n}} {
				r := &run{events: events, endings: []ending{end, toItEnd}}
				resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
				got, err := readBy(resp.Body, 1+n%97)
				resumed := len(r.queries())
				switch {
				case n < len(events[0]):
					if err == nil || resumed != 0 || got != whole[:n] {
						t.Fatalf("%s after %d bytes, before the first event: %v, %q", name, n, err, got)
					}
				case name == "ended" && n >= len(whole)-2 && err == nil && got == whole[:n]:
					// The last event counts without its blank line, as it is sent.
				case err != nil || got != whole:
					t.Fatalf("%s after %d bytes: %v, %q", name, n, err, got)
				case resumed > 1:
					t.Fatalf("%s after %d bytes: %q", name, n, r.queries())
				}
				r.closed(t)
			}
		}
	})
}

func TestAStreamThatIsCutUpToFiveTimesIsResumedAsIfItWereNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := background(20)
		whole := strings.Join(events, "")
		random := rand.New(rand.NewPCG(1, 2))
		for n := range 400 {
			endings := []ending{{after: len(events[0]) + random.IntN(len(whole)-len(events[0])), err: errCut}}
			for range random.IntN(5) {
				endings = append(endings, ending{after: random.IntN(len(whole)), err: []error{errCut, nil}[random.IntN(2)]})
			}
			r := &run{events: events, endings: append(endings, toItEnd)}
			var report retry.Report
			resp := respond(t, retry.WithReport(t.Context(), &report), newChain(t, r, calm), inBackground)
			got, err := readBy(resp.Body, 1+random.IntN(999))
			if err != nil || got != whole {
				t.Fatalf("%d: %v, %q", n, err, got)
			}
			if report.Resumes != len(r.queries()) || report.Attempts != 1 || report.Err != nil {
				t.Fatalf("%d: %+v after %q", n, report, r.queries())
			}
			r.closed(t)
		}
	})
}

func FuzzAResumedStreamIsTheUncutOne(f *testing.F) {
	f.Add([]byte{100, 20, 3, 77}, uint16(5), byte(0))
	f.Add([]byte{255, 0, 0, 0, 0, 255}, uint16(4096), byte(1))
	f.Add([]byte{130, 1, 1, 1}, uint16(1), byte(2))
	f.Add([]byte{}, uint16(0), byte(3))
	f.Fuzz(func(t *testing.T, cuts []byte, size uint16, style byte) {
		synctest.Test(t, func(t *testing.T) {
			events := background(8)
			for i := range events {
				switch style % 4 {
				case 1:
					events[i] = strings.ReplaceAll(events[i], "\n", "\r\n")
				case 2:
					events[i] = strings.ReplaceAll(events[i], "\n", "\r")
				case 3:
					events[i] = "id: " + strconv.Itoa(i) + "\n" + strings.ReplaceAll(events[i], ",", ",\ndata: ")
				}
			}
			whole := strings.Join(events, "")
			r := &run{events: events}
			for i, c := range cuts[:min(len(cuts), 40)] {
				after := int(c) * 8
				if i == 0 {
					after += len(events[0])
				}
				r.endings = append(r.endings, ending{after: after, err: []error{errCut, nil}[i%2]})
			}
			r.endings = append(r.endings, toItEnd)
			resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
			got, err := readBy(resp.Body, int(size)+1)
			var given *openai.ResumeError
			switch {
			case errors.As(err, &given):
				if !strings.HasPrefix(whole, got) || len(r.queries()) < 5 {
					t.Errorf("%v after %q: %q", err, r.queries(), got)
				}
			case err != nil || got != whole && strings.TrimRight(got, "\r\n") != strings.TrimRight(whole, "\r\n"):
				// The last event counts without its blank line, as it is sent.
				t.Errorf("%v: %q\nwant %q", err, got, whole)
			}
			r.closed(t)
		})
	})
}

func TestARequestToResumeGoesToTheSamePlaceWithTheSameCredentials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &run{events: background(2), endings: []ending{{after: 500, err: errCut}, toItEnd}}
		payload := `{"background":true,"stream":true,"include":["x.y"],"stream_options":{"include_obfuscation":false}}`
		req := request(t, t.Context(), http.MethodPost, origin+"/openai/responses?api-version=preview", payload)
		req.Host = "front.example.com"
		maps.Copy(req.Header, http.Header{"Authorization": {"Bearer sk"}, "Content-Type": {"application/json"}, "Idempotency-Key": {"k"}, "X-Mine": {"1"}})
		resp, err := newChain(t, r, calm).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readBy(resp.Body, 512); err != nil || resp.Request != req {
			t.Fatal(err)
		}
		get := r.requests[1]
		want := http.Header{"Authorization": {"Bearer sk"}, "X-Mine": {"1"}, "Accept": {"text/event-stream"}}
		const url = origin + "/openai/responses/resp_1?api-version=preview&stream=true&starting_after=1&include%5B%5D=x.y&include_obfuscation=false"
		if get.Method != http.MethodGet || get.URL.String() != url || get.Host != "front.example.com" || get.Body != nil || get.GetBody != nil || get.ContentLength != 0 {
			t.Errorf("%s %s at %s", get.Method, get.URL, get.Host)
		}
		if !maps.EqualFunc(get.Header, want, slices.Equal) {
			t.Errorf("%v", get.Header)
		}
	})
}

// prefix is how many bytes the first n events of a response have.
func prefix(events []string, n int) int { return len(strings.Join(events[:n], "")) }

func TestWhatIsNoContinuationIsRefused(t *testing.T) {
	t.Parallel()
	events := background(6)
	cut := ending{after: prefix(events, 4) + 9, err: errCut}
	for name, row := range map[string]struct {
		get     ending
		more    []ending
		code    int
		extra   int // events after the four
		queries int
	}{
		"a gap":                     {ending{after: -1, change: func(e []string) []string { return e[1:] }}, nil, 200, 0, 1},
		"an expired id":             {ending{instead: reply(404, tooOld)}, nil, 404, 0, 1},
		"too old":                   {ending{instead: reply(400, tooOld)}, nil, 400, 0, 1},
		"no right":                  {ending{instead: reply(401, tooOld)}, nil, 401, 0, 1},
		"JSON":                      {ending{instead: reply(200, `{"id":"resp_1","status":"completed"}`)}, nil, 200, 0, 1},
		"JSON labelled as a stream": {ending{instead: reply(200, `{"id":"resp_1"}`, "Content-Type", "text/event-stream")}, nil, 200, 0, 1},
		"a page":                    {ending{instead: reply(200, `<html>`, "Content-Type", "text/html")}, nil, 200, 0, 1},
		"202":                       {ending{instead: reply(202, `{}`)}, nil, 202, 0, 1},
		"compressed":                {ending{instead: reply(200, "\x1f\x8b", "Content-Type", "text/event-stream", "Content-Encoding", "gzip")}, nil, 200, 0, 1},
		"a redirect":                {ending{instead: reply(307, "", "Location", "https://evil.example/")}, nil, 307, 0, 1},
		"the server says no":        {ending{instead: reply(503, tooOld, "X-Should-Retry", "false")}, nil, 503, 0, 1},
		"no numbers": {ending{after: -1, change: func(e []string) []string {
			for i := range e {
				e[i] = strings.ReplaceAll(e[i], "sequence_number", "n")
			}
			return e
		}}, nil, 200, 0, 1},
		"another response":      {ending{after: -1, change: func(e []string) []string { return []string{strings.ReplaceAll(events[0], "resp_1", "resp_2")} }}, nil, 200, 0, 1},
		"the caller's mistake":  {ending{after: -1, change: func([]string) []string { return []string{openaitest.Event("error", `{"code":"invalid_api_key"}`)} }}, nil, 200, 0, 1},
		"progress, then no way": {ending{after: prefix(events, 6) - prefix(events, 4) + 3, err: errCut}, []ending{{instead: reply(404, tooOld)}}, 404, 2, 2},
		"a long event with a gap": {ending{after: -1, change: func([]string) []string {
			return []string{numbered("response.output_text.delta", 9, `,"delta":"`+strings.Repeat("x", 2<<20)+`"`)}
		}}, nil, 200, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				cfg := calm
				cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				var report retry.Report
				r := &run{events: events, endings: append([]ending{cut, row.get}, row.more...)}
				resp := respond(t, retry.WithReport(t.Context(), &report), newChain(t, r, cfg), inBackground)
				got, err := readBy(resp.Body, 100)
				var refused *openai.ResumeError
				if !errors.As(err, &refused) || !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, errCut) || errors.Is(err, io.EOF) {
					t.Fatalf("%v", err)
				}
				if got != strings.Join(events[:4+row.extra], "") {
					t.Errorf("%q", got)
				}
				if refused.ResponseID != "resp_1" || refused.Status != "in_progress" || refused.StatusCode != row.code || refused.ErrorType() != "connection_error" {
					t.Errorf("%+v, %s", refused, refused.ErrorType())
				}
				if len(r.queries()) != row.queries || report.Resumes != row.queries {
					t.Errorf("%q, %+v", r.queries(), report)
				}
				if n := strings.Count(log.String(), "stream not resumed"); n != 1 || strings.Contains(log.String(), "resp_1") {
					t.Errorf("%s", &log)
				}
				r.closed(t)
			})
		})
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	t.Parallel()
	events := background(6)
	cut := ending{after: prefix(events, 4) + 9, err: errCut}
	soon := []string{"Retry-After-Ms", "10"}
	for name, row := range map[string]struct {
		gets    []ending
		queries int
	}{
		"500":                        {[]ending{{instead: reply(500, "")}, toItEnd}, 2},
		"429 with a hint":            {[]ending{{instead: reply(429, "", soon...)}, toItEnd}, 2},
		"408":                        {[]ending{{instead: reply(408, "")}, toItEnd}, 2},
		"502, more than its retries": {[]ending{{instead: reply(502, "")}, {instead: reply(502, "")}, {instead: reply(502, "")}, {instead: reply(502, "")}, {instead: reply(502, "")}, toItEnd}, 6},
		"a lost connection":          {[]ending{{instead: lost(io.EOF)}, toItEnd}, 2},
		"a stream of nothing":        {[]ending{{after: 0}, toItEnd}, 2},
		"a stream that is reset":     {[]ending{{after: 0, err: errCut}, toItEnd}, 2},
		"an error that may pass":     {[]ending{{after: -1, change: func([]string) []string { return []string{openaitest.Event("error", `{"code":"server_error"}`)} }}, toItEnd}, 2},
		"comments, then nothing":     {[]ending{{after: -1, change: func([]string) []string { return []string{reportedAlive} }}, toItEnd}, 2},
		"events that are known":      {[]ending{{after: -1, change: func([]string) []string { return events[:4] }}, toItEnd}, 2},
		"half an event, again":       {[]ending{{after: 3, err: errCut}, {after: 30, err: errCut}, toItEnd}, 3},
		"the whole, from the start":  {[]ending{{after: -1, change: func([]string) []string { return events }}}, 1},
		"openers without numbers": {[]ending{{after: -1, change: func(e []string) []string {
			return append([]string{
				openaitest.Event("response.created", `{"type":"response.created","response":{"id":"resp_1"}}`),
				openaitest.Event("", `{"type":"response.in_progress"}`),
			}, e...)
		}}}, 1},
		"a byte order mark": {[]ending{{after: -1, change: func(e []string) []string { return append([]string{"\ufeff" + e[0]}, e[1:]...) }}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &run{events: events, endings: append([]ending{cut}, row.gets...)}
				resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
				got, err := readBy(resp.Body, 100)
				if want := strings.Join(events, ""); err != nil || strings.ReplaceAll(got, reportedAlive, "") != want {
					t.Errorf("%v: %q\nwant %q", err, got, want)
				}
				if len(r.queries()) != row.queries {
					t.Errorf("%q", r.queries())
				}
				r.closed(t)
			})
		})
	}
}

func TestAStreamIsResumedFiveTimesInVainAndNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := calm
		cfg.Retry.MaxAttempts = 1 // which does not keep it from being resumed
		events := background(6)
		r := &run{events: events, endings: []ending{{after: prefix(events, 3), err: errCut}, {after: 0, err: errCut}}}
		resp := respond(t, t.Context(), newChain(t, r, cfg), inBackground)
		_, err := readBy(resp.Body, 100)
		var given *openai.ResumeError
		if !errors.As(err, &given) || given.StatusCode != 200 {
			t.Errorf("%v", err)
		}
		want := []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
		if got := r.gaps(); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		r.closed(t)
	})
}

func TestAStreamIsResumedAHundredTimesAndNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := background(200)
		// Each answer brings an event.
		r := &run{events: events, endings: []ending{{after: prefix(events, 2), err: errCut}, {after: 120, err: errCut}}}
		resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
		got, err := readBy(resp.Body, 100)
		var given *openai.ResumeError
		if !errors.As(err, &given) || got != strings.Join(events[:102], "") || len(r.queries()) != 100 {
			t.Errorf("%v after %d requests", err, len(r.queries()))
		}
		gaps := r.gaps()
		if gaps[0] != 0 || gaps[4] != 4*time.Second || gaps[99] != 8*time.Second {
			t.Errorf("%v", gaps)
		}
	})
}

func TestASilentStreamIsResumed(t *testing.T) {
	t.Parallel()
	events := background(6)
	stall := func(n int) ending { return ending{after: prefix(events, n), stall: true} }
	for name, row := range map[string]struct {
		cfg     openai.Config
		endings []ending
		took    time.Duration
		err     bool
	}{
		"IdleTimeout":                     {openai.Config{IdleTimeout: time.Minute}, []ending{stall(4), toItEnd}, time.Minute, false},
		"its default":                     {openai.Config{}, []ending{stall(4), toItEnd}, 5 * time.Minute, false},
		"silence again":                   {openai.Config{IdleTimeout: time.Minute}, []ending{stall(4), stall(0), toItEnd}, 2*time.Minute + time.Second/2, false},
		"silence before the headers":      {openai.Config{IdleTimeout: time.Minute}, []ending{stall(4), {instead: silence}, toItEnd}, 2*time.Minute + time.Second/2, false},
		"FirstEventTimeout":               {openai.Config{FirstEventTimeout: time.Second}, []ending{stall(1), toItEnd}, time.Second, false},
		"FirstEventTimeout twice":         {openai.Config{FirstEventTimeout: time.Second}, []ending{stall(1), stall(0), toItEnd}, 2 * time.Second, true},
		"FirstEventTimeout, an opener":    {openai.Config{FirstEventTimeout: time.Second}, []ending{stall(1), {after: len(events[1]), stall: true}, toItEnd}, 2*time.Second + time.Second/2, false},
		"FirstEventTimeout, then headers": {openai.Config{FirstEventTimeout: time.Second}, []ending{stall(1), {instead: silence}, toItEnd}, 2 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				row.cfg.Breaker = neverOpen
				start := time.Now()
				r := &run{events: events, endings: row.endings}
				resp := respond(t, t.Context(), newChain(t, r, row.cfg), inBackground)
				got, err := readBy(resp.Body, 100)
				if took := time.Since(start); took != row.took {
					t.Errorf("took %v, want %v", took, row.took)
				}
				var given *openai.ResumeError
				switch {
				case row.err:
					if !errors.As(err, &given) || !given.Timeout() || given.ErrorType() != "timeout" {
						t.Errorf("%v", err)
					}
				case err != nil || got != strings.Join(events, ""):
					t.Errorf("%v: %q", err, got)
				}
				r.closed(t)
			})
		})
	}
}

// silence answers when nobody waits any more.
func silence(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestWhoClosesOrCancelsEndsAStreamAndSendsNothing(t *testing.T) {
	t.Parallel()
	events := background(6)
	cut := ending{after: prefix(events, 4), err: errCut}
	for name, row := range map[string]struct {
		endings []ending
		queries int
	}{
		"in the stream":                 {[]ending{{after: prefix(events, 4), stall: true}}, 0},
		"while it waits":                {[]ending{cut, {after: 0, err: errCut}}, 2},
		"while it waits for headers":    {[]ending{cut, {instead: silence}}, 1},
		"in a stream that was resumed":  {[]ending{cut, {after: 200, stall: true}}, 1},
		"in an idle stream, so resumed": {[]ending{cut, {after: 0, stall: true}}, 1},
	} {
		for how, end := range map[string]func(cancel context.CancelFunc, body io.Closer){
			"Close":  func(_ context.CancelFunc, body io.Closer) { _ = body.Close() },
			"cancel": func(cancel context.CancelFunc, _ io.Closer) { cancel() },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					r := &run{events: events, endings: row.endings}
					resp := respond(t, ctx, newChain(t, r, calm), inBackground)
					time.AfterFunc(1200*time.Millisecond, func() { end(cancel, resp.Body) })
					start := time.Now()
					_, err := io.ReadAll(resp.Body)
					if took := time.Since(start); took != 1200*time.Millisecond || err == nil {
						t.Errorf("%v after %v", err, took)
					}
					var given *openai.ResumeError
					if how == "cancel" && !errors.Is(err, context.Canceled) || errors.As(err, &given) {
						t.Errorf("%v", err)
					}
					_ = resp.Body.Close()
					time.Sleep(time.Hour)
					if got := r.queries(); len(got) != row.queries {
						t.Errorf("%q", got)
					}
					r.closed(t)
				})
			})
		}
	}
}

func TestAnAnswerThatComesAfterCloseIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := background(6)
		var body io.Closer
		r := &run{events: events, endings: []ending{{after: prefix(events, 4), err: errCut}, {after: -1, change: func(rest []string) []string {
			_ = body.Close()
			return rest
		}}}}
		resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
		body = resp.Body
		if got, err := io.ReadAll(resp.Body); err == nil || len(r.queries()) != 1 {
			t.Errorf("%d bytes, %v, after %q", len(got), err, r.queries())
		}
		r.closed(t)
	})
}

func TestNoWaitToResumePassesTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		events := background(6)
		r := &run{events: events, endings: []ending{{after: prefix(events, 4), err: errCut}, {after: 0, err: errCut}}}
		start := time.Now()
		resp := respond(t, ctx, newChain(t, r, calm), inBackground)
		_, err := readBy(resp.Body, 100)
		var given *openai.ResumeError
		if took := time.Since(start); !errors.As(err, &given) || took != 1500*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestTheBreakerHoldsRequestsToResumeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := openai.Config{Breaker: breaker.Config{FailureThreshold: 1, OpenDuration: 3 * time.Second}}
		events := background(6)
		r := &run{events: events, endings: []ending{{after: prefix(events, 4), err: errCut}, toItEnd}}
		var report retry.Report
		chain := newChain(t, r, cfg)
		start := time.Now()
		resp := respond(t, retry.WithReport(t.Context(), &report), chain, inBackground)
		got, err := readBy(resp.Body, 100)
		if took := time.Since(start); err != nil || got != strings.Join(events, "") || took < 3*time.Second || took > 5*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		b := chain.Snapshot().Breakers
		if len(b) != 1 || b[0].State != breaker.Closed || b[0].Totals.Success+b[0].Totals.Failure != 2 || b[0].Totals.Rejected == 0 || b[0].Probes != 0 {
			t.Errorf("%+v", b)
		}
		if report.Resumes != 1 || len(r.queries()) != 1 {
			t.Errorf("%+v: a request that the breaker refused was not sent", report)
		}
	})
}

// An event that is too long to be held passes as it comes. From then on the
// stream is as any other.
func TestALongEventEndsResumingAndNotTheStream(t *testing.T) {
	t.Parallel()
	events := background(6)
	events[4] = numbered("response.image_generation_call.partial_image", 4, `,"partial_image_b64":"`+strings.Repeat("A", 2<<20)+`"`)
	whole := strings.Join(events, "")
	for name, row := range map[string]struct {
		endings []ending
		got     string
		queries int
	}{
		"uncut":                         {[]ending{toItEnd}, whole, 0},
		"cut before it":                 {[]ending{{after: prefix(events, 3) + 1, err: errCut}, toItEnd}, whole, 1},
		"cut before it, so it is first": {[]ending{{after: prefix(events, 4) + 1, err: errCut}, toItEnd}, whole, 1},
		"cut in its beginning":          {[]ending{{after: prefix(events, 4) + 1000, err: errCut}, toItEnd}, whole, 1},
		"cut in its midst":              {[]ending{{after: prefix(events, 4) + 3<<19, err: errCut}, toItEnd}, whole[:prefix(events, 4)+3<<19], 0},
		"cut after it":                  {[]ending{{after: prefix(events, 6) + 7, err: errCut}, toItEnd}, whole[:prefix(events, 6)+7], 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &run{events: events, endings: row.endings}
				resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
				got, err := readBy(resp.Body, 32<<10)
				if got != row.got || (err == nil) != (row.got == whole) || len(r.queries()) != row.queries {
					t.Errorf("%v, %d bytes, want %d; %q", err, len(got), len(row.got), r.queries())
				}
				var given *openai.ResumeError
				if errors.As(err, &given) || err != nil && !errors.Is(err, errCut) {
					t.Errorf("%v", err)
				}
				r.closed(t)
			})
		})
	}
}

func TestAStreamThatCanNotBeResumedEndsAsOthersDo(t *testing.T) {
	t.Parallel()
	events := background(6)
	cut := ending{after: prefix(events, 4) + 9, err: errCut}
	changed := func(from, to string) ending {
		end := cut
		end.change = func(e []string) []string {
			for i := range e {
				e[i] = strings.ReplaceAll(e[i], from, to)
			}
			return e
		}
		return end
	}
	for name, row := range map[string]struct {
		ctx     func(context.Context) context.Context
		payload string
		cut     ending
	}{
		"WithoutResume":                {openai.WithoutResume, inBackground, cut},
		"store:false":                  {nil, `{"background":true,"stream":true,"store":false}`, cut},
		"not in the background":        {nil, `{"stream":true}`, cut},
		"an id that leads elsewhere":   {nil, inBackground, changed("resp_1", "../../admin")},
		"an id with a query":           {nil, inBackground, changed("resp_1", "a?x=1")},
		"an id that is escaped":        {nil, inBackground, changed("resp_1", `resp\u005f1`)},
		"an id that is too long":       {nil, inBackground, changed("resp_1", strings.Repeat("r", 257))},
		"no id":                        {nil, inBackground, changed(`"id"`, `"name"`)},
		"no numbers":                   {nil, inBackground, changed("sequence_number", "number")},
		"a number that is none":        {nil, inBackground, changed(`"sequence_number":`, `"sequence_number":-`)},
		"before the first event":       {nil, inBackground, ending{after: 30, err: errCut}},
		"a value in place of a stream": {nil, inBackground, ending{instead: replyWith(200, func() io.Reader { return io.MultiReader(strings.NewReader(`{"id":"resp_1"`), errReader{errCut}) }, -1)}},
		"content without a number": {nil, inBackground, ending{after: -1, err: errCut, change: func(e []string) []string {
			return append(e[:3], openaitest.Event("", `{"type":"response.output_text.delta"}`))
		}}},
		"an event that is no JSON": {nil, inBackground, ending{after: -1, err: errCut, change: func(e []string) []string { return append(e[:3], openaitest.Event("", `{"sequence_number":3,"type":`)) }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if row.ctx != nil {
					ctx = row.ctx(ctx)
				}
				r := &run{events: events, endings: []ending{row.cut}}
				resp := respond(t, ctx, newChain(t, r, calm), row.payload)
				got, err := readBy(resp.Body, 100)
				plain := &run{events: events, endings: []ending{row.cut}}
				bare, berr := plain.RoundTrip(request(t, t.Context(), http.MethodPost, responsesURL, row.payload))
				if berr != nil {
					t.Fatal(berr)
				}
				want, wanted := readBy(bare.Body, 100)
				if got != want || !errors.Is(err, wanted) || len(r.queries()) != 0 {
					t.Errorf("%v after %q: %q\nwant %v after %q", err, r.queries(), got, wanted, want)
				}
				var given *openai.ResumeError
				if errors.As(err, &given) {
					t.Errorf("%v", err)
				}
				r.closed(t)
			})
		})
	}
}

func TestWholeDoesNotHoldAStreamThatIsResumed(t *testing.T) {
	t.Parallel()
	for _, mode := range []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole} {
		for name, safe := range map[string]func(*http.Request) bool{"as it is": nil, "taken for repeatable": func(*http.Request) bool { return true }} {
			t.Run(mode.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cfg := calm
					cfg.Delivery, cfg.IdleTimeout, cfg.Retry.Safe = mode, time.Minute, safe
					events := background(6)
					r := &run{events: events, endings: []ending{{after: prefix(events, 4) + 9, stall: true}, {after: 200, stall: true}, toItEnd}}
					start := time.Now()
					resp := respond(t, t.Context(), newChain(t, r, cfg), inBackground)
					begin := make([]byte, prefix(events, 4))
					if _, err := io.ReadFull(resp.Body, begin); err != nil || time.Since(start) != 0 {
						t.Errorf("%v after %v", err, time.Since(start))
					}
					rest, err := readBy(resp.Body, 100)
					if err != nil || string(begin)+rest != strings.Join(events, "") {
						t.Errorf("%v: %q", err, rest)
					}
					r.closed(t)
				})
			})
		}
	}
}

// Proxies that have no use for an error at the end have one for a whole stream.
func TestAStreamThatEndsEarlyIsResumedWhereErrorsPassThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := calm
		cfg.InBandErrors = openai.PassThrough
		events := background(6)
		for n := prefix(events, 4); n < prefix(events, 5); n++ { // within an event, of which half is not the reader's
			r := &run{events: events, endings: []ending{{after: n}, toItEnd}}
			resp := respond(t, t.Context(), newChain(t, r, cfg), inBackground)
			if got, err := readBy(resp.Body, 100); err != nil || got != strings.Join(events, "") || len(r.queries()) != 1 {
				t.Fatalf("ended after %d bytes: %v: %q", n, err, got)
			}
		}
	})
}

// The mark that begins the first stream is the reader's, as all its bytes are. That of
// a later stream would stand in the middle.
func TestTheMarkThatBeginsAStreamIsReadOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const mark = "\ufeff"
		marked := func(events []string) []string {
			events[0] = mark + events[0]
			return events
		}
		events := background(6)
		r := &run{events: events, endings: []ending{{after: len(mark) + prefix(events, 4), err: errCut, change: marked}, {after: -1, change: marked}}}
		resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
		if got, err := readBy(resp.Body, 100); err != nil || got != mark+strings.Join(events, "") || len(r.queries()) != 1 {
			t.Errorf("%v: %q", err, got)
		}
	})
}

func TestAResumeErrorUnwrapsToWhatTheStreamBrokeOffWithFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := background(6)
		gone := stub.Func(func(*http.Request) (*http.Response, error) { return stub.Response(404, ""), nil })
		r := &run{events: events, endings: []ending{{after: prefix(events, 4), err: syscall.ECONNRESET}, {after: 0, err: syscall.EPIPE}, {instead: gone}}}
		resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
		if _, err := readBy(resp.Body, 100); !errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			t.Errorf("after %q: %v", r.queries(), err)
		}
	})
}

func TestAStreamWhoseReadsBringNothingIsResumed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := background(6)
		r := &run{events: events, endings: []ending{{after: prefix(events, 4) + 9, idle: true}, {after: 0, idle: true}, toItEnd}}
		resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
		if got, err := readBy(resp.Body, 100); err != nil || got != strings.Join(events, "") || len(r.queries()) != 2 {
			t.Errorf("%v: %q", err, got)
		}
		r.closed(t)
	})
}

// A run that fails ends its stream as it should, and is a failure all the same.
func TestAResponseThatFailsAfterItWasResumedIsAFailureOfItsCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		cfg := calm
		cfg.MeterProvider = provider
		events := background(6)
		events[8] = numbered("response.failed", 8, `,"response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"m"}}`)
		r := &run{events: events, endings: []ending{{after: prefix(events, 4), err: errCut}, toItEnd}}
		resp := respond(t, t.Context(), newChain(t, r, cfg), inBackground)
		if got, err := readBy(resp.Body, 100); err != nil || got != strings.Join(events, "") {
			t.Errorf("%v: %q", err, got)
		}
		for _, s := range collect(t, reader) {
			if s.name == inferenceDuration && s.attrs["error.type"] != "stream_error" {
				t.Errorf("%v", s.attrs)
			}
		}
	})
}

// Nothing is missing after the last event, whatever becomes of its connection.
func TestAResponseThatHasEndedIsWhole(t *testing.T) {
	t.Parallel()
	events := background(6)
	for name, last := range map[string]string{
		"completed": events[8], "failed": numbered("response.failed", 8, ""), "incomplete": numbered("response.incomplete", 8, ""),
		"an error": openaitest.Event("error", `{"type":"error","code":"server_error","sequence_number":8}`), "an error without a number": openaitest.Event("error", `{"code":"server_error"}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := append(slices.Clone(events[:8]), last, ": the end\n")
				r := &run{events: all, endings: []ending{{after: -1, err: errCut}}}
				resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
				if got, err := readBy(resp.Body, 100); err != nil || got != strings.Join(all, "") || len(r.queries()) != 0 {
					t.Errorf("%v after %q: %q", err, r.queries(), got)
				}
				r.closed(t)
			})
		})
	}
}

// The last event may come without its blank line.
func TestTheLastEventCountsWithoutItsBlankLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := background(3)
		whole := strings.TrimRight(strings.Join(events, ""), "\n")
		for _, first := range []ending{{after: len(whole)}, {after: 300, err: errCut}} {
			r := &run{events: events, endings: []ending{first, {after: len(whole) - prefix(events, 1)}}}
			r.events[len(events)-1] = strings.TrimRight(events[len(events)-1], "\n")
			resp := respond(t, t.Context(), newChain(t, r, calm), inBackground)
			if got, err := readBy(resp.Body, 100); err != nil || got != whole {
				t.Errorf("%v: %q", err, got)
			}
		}
	})
}

func TestTheBooksOfResumedStreamsBalance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		cfg := calm
		cfg.MeterProvider = provider
		events := background(6)
		cut := ending{after: prefix(events, 4) + 9, err: errCut}
		var attempts, resumes int
		for _, endings := range [][]ending{
			{toItEnd},
			{cut, toItEnd},
			{cut, {after: 250, err: errCut}, toItEnd},
			{cut, {instead: reply(503, "")}, {instead: reply(503, "")}, toItEnd},
			{cut, {instead: reply(404, "")}},
			{cut, {after: 0, err: errCut}},
			{{after: 5, err: errCut}},
		} {
			r := &run{events: events, endings: endings}
			var report retry.Report
			chain := newChain(t, r, cfg)
			resp := respond(t, retry.WithReport(t.Context(), &report), chain, inBackground)
			_, _ = readBy(resp.Body, 100)
			attempts += len(r.requests)
			resumes += report.Resumes
			var settled uint64
			for _, b := range chain.Snapshot().Breakers {
				settled += b.Totals.Success + b.Totals.Failure + b.Totals.Ignored + b.Totals.Stale
			}
			if settled != uint64(len(r.requests)) {
				t.Errorf("%d permits settled of %d requests", settled, len(r.requests))
			}
		}
		books := collect(t, reader)
		total := func(name string, attrs ...string) (count, sum int) {
			for _, s := range books {
				if s.name == name && (len(attrs) == 0 || s.attrs[attrs[0]] == attrs[1]) {
					count, sum = count+int(s.count), sum+int(s.sum)
				}
			}
			return count, sum
		}
		operations, _ := total(inferenceDuration)
		_, retries := total("retrip.retries")
		measured, _ := total("retrip.client.attempt.duration")
		if operations != 7 || measured != attempts || attempts != operations+retries+resumes {
			t.Errorf("%d attempts, %d measured; %d operations + %d retries + %d resuming requests", attempts, measured, operations, retries, resumes)
		}
		for outcome, want := range map[string]int{"resumed": 4, "refused": 1, "exhausted": 1} {
			if _, got := total("retrip.client.resumes", "retrip.resume.outcome", outcome); got != want {
				t.Errorf("%s: %d, want %d", outcome, got, want)
			}
		}
		if calls, _ := total("retrip.retry.attempts"); calls != operations {
			t.Errorf("%d calls of %d operations: a request to resume is none", calls, operations)
		}
		if failed, _ := total(inferenceDuration, "error.type", "connection_error"); failed != 3 {
			t.Errorf("%d operations failed", failed)
		}
		if _, tokens := total(inputTokens); tokens != 6*9 {
			t.Errorf("%d tokens", tokens)
		}
	})
}

// What is not in the background goes out and comes in as it does without us.
func TestNothingChangesForOtherCallsOfResponses(t *testing.T) {
	t.Parallel()
	events := background(6)
	for _, payload := range []string{
		`{"model":"m","input":"hi","stream":true}`, `{"model":"m","input":"hi","stream":true,"background":false}`,
		`{"model":"m","input":"hi","stream":true,"background":null}`, `{"model":"m","input":"hi","stream":true,"include":["a"],"stream_options":{"include_obfuscation":false}}`,
		`{"model":"m","input":"hi","background":true}`, `{"model":"m","input":"hi"}`, `{"background":true,"stream":true,"store":false}`, `{"stream":true,"background":tru`, ``,
	} {
		for name, end := range map[string]ending{
			"whole": toItEnd, "cut": {after: prefix(events, 4) + 9, err: errCut}, "ended": {after: prefix(events, 4) + 9}, "JSON": {instead: reply(200, `{"id":"resp_1","status":"queued"}`)},
			"503": {instead: reply(503, tooOld)}, "empty": {after: 0},
		} {
			t.Run(payload+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ask := func(tr http.RoundTripper) (status int, header http.Header, body string, err error) {
						req := request(t, t.Context(), http.MethodPost, responsesURL, payload)
						req.Header.Set("Content-Type", "application/json")
						resp, err := tr.RoundTrip(req)
						if err != nil {
							return 0, nil, "", err
						}
						body, err = readBy(resp.Body, 100)
						return resp.StatusCode, resp.Header, body, err
					}
					with, without := &run{events: events, endings: []ending{end}}, &run{events: events, endings: []ending{end}}
					status, header, body, err := ask(newChain(t, with, calm))
					wantStatus, wantHeader, wantBody, wantErr := ask(without)
					if status != wantStatus || body != wantBody || len(with.requests) != 1 || !maps.EqualFunc(header, wantHeader, slices.Equal) || wantErr != nil && !errors.Is(err, wantErr) {
						t.Errorf("%d, %v, %d requests: %q\nwant %d, %v: %q", status, err, len(with.requests), body, wantStatus, wantErr, wantBody)
					}
					var given *openai.ResumeError
					if errors.As(err, &given) || !maps.EqualFunc(with.requests[0].Header, without.requests[0].Header, slices.Equal) {
						t.Errorf("%v, %v", err, with.requests[0].Header)
					}
				})
			})
		}
	}
}

const wantResumes = `openai: retrip.client.resumes {resume} counter B(m) retrip.resume.outcome=exhausted = 1
openai: retrip.client.resumes {resume} counter B(m) retrip.resume.outcome=refused = 1
openai: retrip.client.resumes {resume} counter B(m) retrip.resume.outcome=resumed = 2
`

func TestTheFirstChunkOfAResumedStreamIsThatOfItsFirstAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		cfg := calm
		cfg.MeterProvider = provider
		late := func(events []string) []string {
			time.Sleep(time.Second)
			return events
		}
		events := background(6)
		r := &run{events: events, endings: []ending{{after: prefix(events, 4), err: errCut, change: late}, {after: -1, change: late}}}
		_, _ = readBy(respond(t, t.Context(), newChain(t, r, cfg), inBackground).Body, 100)
		var got strings.Builder
		for line := range strings.Lines(golden(t, reader)) {
			if strings.Contains(line, "time_to_first_chunk") {
				got.WriteString(line)
			}
		}
		if !strings.HasSuffix(got.String(), "= 1 of 1\n") || strings.Count(got.String(), "\n") != 1 {
			t.Errorf("%s", &got)
		}
	})
}

func TestBreaksOfAStreamAreCountedByWhatBecameOfThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		cfg := calm
		cfg.MeterProvider = provider
		events := background(6)
		cut := ending{after: prefix(events, 4) + 9, err: errCut}
		for _, endings := range [][]ending{
			{cut, {after: 250, err: errCut}, toItEnd}, {cut, {instead: reply(404, "")}}, {cut, {after: 0, err: errCut}}, {toItEnd},
		} {
			r := &run{events: events, endings: endings}
			_, _ = readBy(respond(t, t.Context(), newChain(t, r, cfg), inBackground).Body, 100)
		}
		var got strings.Builder
		for line := range strings.Lines(golden(t, reader)) {
			if strings.Contains(line, ".resumes ") {
				got.WriteString(line)
			}
		}
		if got.String() != wantResumes {
			t.Errorf("%s\nwant\n%s", &got, wantResumes)
		}
	})
}

// A test of a service makes the errors that it wants to see handled: none has more
// than exported fields then.
func TestErrorsThatAUserMakesCanBeAsked(t *testing.T) {
	t.Parallel()
	for _, err := range []interface {
		error
		ErrorType() string
	}{
		&openai.ResumeError{ResponseID: "resp_1", Status: "queued"}, &openai.AnswerError{}, &openai.LimitError{}, &breaker.OpenError{}, &retry.Error{},
	} {
		var timeout net.Error
		kind := err.ErrorType()
		if err.Error() == "" || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%T says %q, of type %q", err, err.Error(), kind)
		}
	}
}
