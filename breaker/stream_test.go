package breaker_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
)

const event = "data: {}\n\n"

// chunks is a body of which each Read returns one piece, or its error.
type chunks []any

func (c *chunks) Read(p []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	next := (*c)[0]
	*c = (*c)[1:]
	if err, ok := next.(error); ok {
		return 0, err
	}
	return copy(p, next.(string)), nil
}

func TestOutcomeOfAStream(t *testing.T) {
	t.Parallel()
	none := breaker.Totals{}
	reset := syscall.ECONNRESET
	for name, test := range map[string]struct {
		body  chunks
		after []breaker.Totals // each Read
		close breaker.Totals
	}{
		"headers alone":          {chunks{}, nil, ignored},
		"the first event":        {chunks{event, event}, []breaker.Totals{success}, success},
		"half an event":          {chunks{event[:6]}, []breaker.Totals{none}, ignored},
		"an event in two halves": {chunks{event[:6], event[6:]}, []breaker.Totals{none, success}, success},
		"a comment":              {chunks{": hello\n\n", event}, []breaker.Totals{none, success}, success},
		"an event without data":  {chunks{"event: ping\ndata:\n\n", event}, []breaker.Totals{none, success}, success},
		"ends well":              {chunks{event}, []breaker.Totals{success, success}, success},
		"ends before an event":   {chunks{": hello\n\n"}, []breaker.Totals{none, success}, success},
		"ends within an event":   {chunks{event[:6]}, []breaker.Totals{none, success}, success},
		"breaks before an event": {chunks{event[:6], reset}, []breaker.Totals{none, failure}, failure},
		"an error event":         {chunks{"event: error\ndata: {}\n\n", event}, []breaker.Totals{success, success}, success},
		"breaks later":           {chunks{event, event, reset}, []breaker.Totals{success, success, failure}, failure},
		"an error event later":   {chunks{event, "event: error\ndata: {}\n\n", event}, []breaker.Totals{success, success, success}, success},
		"fails only once":        {chunks{event, reset, reset}, []breaker.Totals{success, failure, failure}, failure},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
				return response(200, &test.body, "Content-Type", "Text/Event-Stream; charset=utf-8"), nil
			}), breaker.Config{})
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range test.after {
				_, _ = resp.Body.Read(make([]byte, 100))
				if got := totals(tr); got != want {
					t.Errorf("after read %d: %+v, want %+v", i+1, got, want)
				}
			}
			_ = resp.Body.Close()
			if got := totals(tr); got != test.close {
				t.Errorf("after Close: %+v, want %+v", got, test.close)
			}
		})
	}
}

func TestACompressedStreamIsASuccessAtItsFirstByte(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
		return response(200, &chunks{"\x1f", "\x8b", io.ErrUnexpectedEOF}, "Content-Type", "text/event-stream", "Content-Encoding", "br"), nil
	}), breaker.Config{})
	resp, err := tr.RoundTrip(request(t.Context(), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = resp.Body.Read(make([]byte, 9))
	if got := totals(tr); got != success {
		t.Errorf("after the first byte: %+v", got)
	}
	_, _ = io.ReadAll(resp.Body)
	if got := totals(tr); got != failure {
		t.Errorf("after it broke: %+v", got)
	}
}

func TestAProviderWhoseStreamsAllDieOpensIt(t *testing.T) {
	t.Parallel()
	for name, atATime := range map[string]int{"1 at a time": 1, "5 at a time": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				sent := 0
				tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
					mu.Lock()
					defer mu.Unlock()
					sent++
					return response(200, io.MultiReader(strings.NewReader(event), slow{}, iotest.ErrReader(io.ErrUnexpectedEOF)),
						"Content-Type", "text/event-stream"), nil
				}), breaker.Config{})
				var wg sync.WaitGroup
				for range atATime {
					wg.Go(func() {
						for {
							resp, err := tr.RoundTrip(request(t.Context(), ""))
							if errors.Is(err, breaker.ErrOpen) {
								return
							}
							_, _ = io.ReadAll(resp.Body)
							_ = resp.Body.Close()
						}
					})
				}
				wg.Wait()
				if sent > 25 {
					t.Errorf("open after %d requests", sent)
				}
			})
		})
	}
}

// slow is a second without bytes.
type slow struct{}

func (slow) Read([]byte) (int, error) {
	time.Sleep(time.Second)
	return 0, io.EOF
}

func TestAStreamEndsARowOnlyWhenItEndsWell(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end   any
		close bool
		want  int
	}{
		"open":   {"data: more\n\n", false, 3},
		"ended":  {io.EOF, false, 0},
		"closed": {"data: more\n\n", true, 3},
		"broken": {syscall.ECONNRESET, false, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stream := false
				tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
					if !stream {
						return response(500, http.NoBody), nil
					}
					return response(200, &chunks{event, test.end}, "Content-Type", "text/event-stream"), nil
				}), breaker.Config{})
				for range 3 {
					resp, err := tr.RoundTrip(request(t.Context(), ""))
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
					time.Sleep(apart)
				}
				stream = true
				resp, err := tr.RoundTrip(request(t.Context(), ""))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				for range 2 {
					_, _ = resp.Body.Read(make([]byte, 100))
				}
				if test.close {
					_ = resp.Body.Close()
				}
				if got := tr.Breaker(key).Snapshot().ConsecutiveFailures; got != test.want {
					t.Errorf("%d failures in a row, want %d", got, test.want)
				}
			})
		})
	}
}

func TestARevokedSuccessIsTakenOutOfTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return response(200, &chunks{event, syscall.ECONNRESET}, "Content-Type", "text/event-stream"), nil
		}), breaker.Config{})
		for i, wait := range []time.Duration{0, 30 * time.Second, 90 * time.Second} {
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = resp.Body.Read(make([]byte, 100))
			if s := tr.Breaker(key).Snapshot(); s.Successes != 1 {
				t.Errorf("%d: after the first event: %+v", i, s)
			}
			time.Sleep(wait)
			_, _ = resp.Body.Read(make([]byte, 100))
			if s := tr.Breaker(key).Snapshot(); s.Successes != 0 || s.Failures == 0 {
				t.Errorf("%d: after it broke: %+v", i, s)
			}
			_ = resp.Body.Close()
		}
	})
}

func TestARevokedProbeCountsInTheNewState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return response(200, &chunks{event, syscall.ECONNRESET}, "Content-Type", "text/event-stream"), nil
		}), breaker.Config{MaxProbes: 2, SuccessThreshold: 2})
		begin := func() io.Reader {
			t.Helper()
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = resp.Body.Close() })
			_, _ = resp.Body.Read(make([]byte, 100))
			return resp.Body
		}
		late := begin()
		b := tr.Breaker(key)
		b.Trip()
		time.Sleep(30 * time.Second)
		probes := []io.Reader{begin(), begin()}
		wantState(t, b, breaker.Closed)
		_, _ = io.ReadAll(late)
		_, _ = io.ReadAll(probes[1])
		if s := b.Snapshot(); s.State != breaker.Closed || s.ConsecutiveFailures != 1 || s.Totals.Stale != 1 {
			t.Errorf("%+v", s)
		}

		// One that breaks while others are still to probe opens it again.
		b.Trip()
		time.Sleep(30 * time.Second)
		_, _ = io.ReadAll(begin())
		wantState(t, b, breaker.Open)
	})
}

// A success that is the first the clock is read for again is taken back where
// it was counted: nothing is left of it when what came before is forgotten.
func TestARevokedSuccessIsNoSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := chunks{event, syscall.ECONNRESET}
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			broken := body
			return response(200, &broken, "Content-Type", "text/event-stream"), nil
		}), breaker.Config{})
		begin := func() io.ReadCloser {
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = resp.Body.Read(make([]byte, 100))
			return resp.Body
		}
		for range 15 {
			_ = begin().Close()
		}
		_, _ = io.ReadAll(begin()) // a failure: the clock is read
		time.Sleep(7 * time.Second)
		_, _ = io.ReadAll(begin())
		time.Sleep(54 * time.Second)
		if s := tr.Breaker(key).Snapshot(); s.Successes != 0 || s.Failures != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// ear is an Observer that hears and says nothing.
type ear struct{}

func (*ear) Data([]byte) breaker.Outcome { return breaker.Undecided }
func (*ear) End(error) breaker.Outcome   { return breaker.Undecided }

// script is an Observer that says what it is told to, and notes what it hears.
type script struct {
	data  map[string]breaker.Outcome
	end   breaker.Outcome
	heard []string
}

func (s *script) Data(p []byte) breaker.Outcome {
	s.heard = append(s.heard, string(p))
	return s.data[string(p)]
}

func (s *script) End(err error) breaker.Outcome {
	if err == nil {
		err = io.EOF
	}
	s.heard = append(s.heard, err.Error())
	return s.end
}

func TestObserver(t *testing.T) {
	t.Parallel()
	const closed = "breaker: body closed before its end"
	says := func(pairs ...any) map[string]breaker.Outcome {
		m := map[string]breaker.Outcome{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1].(breaker.Outcome)
		}
		return m
	}
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		stream bool
		length int64
		body   chunks
		reads  int
		script script
		heard  string
		want   breaker.Totals
		run    int // failures in a row, after four
	}{
		"success of a body":                      {body: chunks{"a", "b", "c"}, reads: 4, script: script{data: says("b", breaker.Success)}, heard: "a,b,c,EOF", want: success},
		"failure of a body":                      {body: chunks{"a", "b", "c"}, reads: 4, script: script{data: says("b", breaker.Failure)}, heard: "a,b", want: failure, run: 5},
		"a body ignored":                         {body: chunks{"a", "b", "c"}, reads: 4, script: script{data: says("a", breaker.Ignored)}, heard: "a", want: ignored, run: 4},
		"success at the end":                     {body: chunks{"a"}, reads: 3, script: script{end: breaker.Success}, heard: "a,EOF", want: success},
		"failure at the end":                     {body: chunks{"a"}, reads: 3, script: script{end: breaker.Failure}, heard: "a,EOF", want: failure, run: 5},
		"the last byte is the end":               {length: 2, body: chunks{"a", "b", broken}, reads: 3, script: script{end: breaker.Success}, heard: "a,b,EOF", want: success},
		"undecided for ever":                     {body: chunks{"a"}, reads: 3, heard: "a,EOF", want: ignored, run: 4},
		"closed":                                 {body: chunks{"a", "b"}, reads: 1, heard: "a," + closed, want: ignored, run: 4},
		"broken":                                 {body: chunks{"a", broken, broken}, reads: 3, script: script{end: breaker.Failure}, heard: "a,broken", want: failure, run: 5},
		"a stream that ends well":                {stream: true, body: chunks{"a", "b"}, reads: 3, script: script{data: says("a", breaker.Success)}, heard: "a,b,EOF", want: success},
		"a stream closed early":                  {stream: true, body: chunks{"a", "b"}, reads: 1, script: script{data: says("a", breaker.Success)}, heard: "a," + closed, want: success, run: 4},
		"a stream closed after its last event":   {stream: true, body: chunks{"a", "b"}, reads: 1, script: script{data: says("a", breaker.Success), end: breaker.Success}, heard: "a," + closed, want: success},
		"a stream revoked by data":               {stream: true, body: chunks{"a", "b", "c"}, reads: 4, script: script{data: says("a", breaker.Success, "b", breaker.Failure)}, heard: "a,b", want: failure, run: 5},
		"a stream revoked at its end":            {stream: true, body: chunks{"a", "b"}, reads: 3, script: script{data: says("a", breaker.Success), end: breaker.Failure}, heard: "a,b,EOF", want: failure, run: 5},
		"a stream's success is said once":        {stream: true, body: chunks{"a", "a"}, reads: 3, script: script{data: says("a", breaker.Success)}, heard: "a,a,EOF", want: success},
		"a stream that failed can't succeed":     {stream: true, body: chunks{"a", "b"}, reads: 3, script: script{data: says("a", breaker.Failure, "b", breaker.Success)}, heard: "a", want: failure, run: 5},
		"a stream without a success, ended well": {stream: true, body: chunks{"a"}, reads: 2, script: script{end: breaker.Success}, heard: "a,EOF", want: success},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var s script
				tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
					resp := response(200, &test.body, "Content-Type", map[bool]string{true: "text/event-stream"}[test.stream])
					resp.ContentLength = test.length
					return resp, nil
				}), breaker.Config{FailureThreshold: 6, Observe: func(resp *http.Response, err error) (breaker.Outcome, breaker.Observer, time.Duration) {
					if resp.Request.Method == http.MethodPut {
						return breaker.Failure, nil, 0
					}
					s = test.script
					return breaker.Undecided, &s, 0
				}})
				for range 4 {
					resp, err := tr.RoundTrip(request(t.Context(), http.MethodPut))
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
					time.Sleep(apart)
				}
				resp, err := tr.RoundTrip(request(t.Context(), ""))
				if err != nil {
					t.Fatal(err)
				}
				for range test.reads {
					_, _ = resp.Body.Read(make([]byte, 100))
				}
				_ = resp.Body.Close()
				_ = resp.Body.Close()
				if got := strings.Join(s.heard, ","); got != test.heard {
					t.Errorf("heard %q, want %q", got, test.heard)
				}
				snapshot := tr.Breaker(key).Snapshot()
				test.want.Failure += 4
				if snapshot.Totals != test.want || snapshot.ConsecutiveFailures != test.run {
					t.Errorf("%+v, want %+v and %d failures in a row", snapshot, test.want, test.run)
				}
			})
		})
	}
}

func TestTheCallersCancelLeavesAStreamsSuccess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	tr := newTransport(t, stub.Func(func(req *http.Request) (*http.Response, error) {
		return response(200, io.MultiReader(strings.NewReader(event), untilDone{req.Context()}), "Content-Type", "text/event-stream"), nil
	}), breaker.Config{})
	resp, err := tr.RoundTrip(request(ctx, ""))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = resp.Body.Read(make([]byte, 100))
	cancel()
	_, _ = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if got := totals(tr); got != success {
		t.Errorf("%+v", got)
	}
}

func TestAnObserverIsHeardWhenAStreamIsCancelledAndClosed(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, answer(200, "a", "Content-Type", "text/event-stream"), breaker.Config{
		Observe: func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration) {
			return breaker.Undecided, &script{end: breaker.Success}, 0
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := tr.RoundTrip(request(ctx, ""))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = resp.Body.Close()
	if got := totals(tr); got != success {
		t.Errorf("%+v", got)
	}
}

func TestALateStreamCountsOnce(t *testing.T) {
	t.Parallel()
	for _, end := range []error{io.EOF, syscall.ECONNRESET} {
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return response(200, &chunks{event, end}, "Content-Type", "text/event-stream"), nil
		}), breaker.Config{})
		resp, err := tr.RoundTrip(request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		tr.Breaker(key).Trip()
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got, want := totals(tr), (breaker.Totals{Stale: 1}); got != want {
			t.Errorf("%v: %+v, want %+v", end, got, want)
		}
	}
}

// latch is a body whose Read waits for Close, and whose Close waits until the
// failed Read has passed the wrapper.
type latch struct {
	reading, closing, passed chan struct{}
}

func (l *latch) Read([]byte) (int, error) {
	close(l.reading)
	<-l.closing
	return 0, errors.New("read on a closed body")
}

func (l *latch) Close() error {
	close(l.closing)
	<-l.passed
	return nil
}

func TestAReadThatFailsForACloseIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"application/json", "text/event-stream"} {
		l := &latch{make(chan struct{}), make(chan struct{}), make(chan struct{})}
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			resp := response(200, nil, "Content-Type", contentType)
			resp.Body = l
			return resp, nil
		}), breaker.Config{})
		resp, err := tr.RoundTrip(request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = resp.Body.Read(make([]byte, 1))
			close(l.passed)
		})
		<-l.reading
		_ = resp.Body.Close()
		wg.Wait()
		if got := totals(tr); got != ignored {
			t.Errorf("%s: %+v", contentType, got)
		}
	}
}

func TestCloseDuringRead(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"application/json", "text/event-stream"} {
		for range 50 {
			r, w := io.Pipe()
			tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
				resp := response(200, nil, "Content-Type", contentType)
				resp.Body = r
				return resp, nil
			}), breaker.Config{})
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				_, _ = io.WriteString(w, event)
				_ = resp.Body.Close()
			})
			_, _ = io.ReadAll(resp.Body) // fails with io.ErrClosedPipe
			wg.Wait()
			// Whoever comes first, it is settled once: the Close may have come before the
			// breaker had a look at what the Read has brought.
			if got := totals(tr); got != success && got != ignored {
				t.Errorf("%s: %+v", contentType, got)
			}
		}
	}
}
