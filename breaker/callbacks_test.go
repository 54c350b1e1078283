package breaker_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/stub"
)

// panics reports whether f panics.
func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestACallbackMayCloseTheBodyThatCausedIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		trip bool // before: what ends is a probe
		body chunks
		kind string
		read int
		want breaker.Totals
	}{
		"a stream that opens it":   {false, chunks{event, syscall.ECONNRESET}, "text/event-stream", 2, failure},
		"a stream that closes it":  {true, chunks{event, event}, "text/event-stream", 1, success},
		"a body that opens it":     {false, chunks{"{", syscall.ECONNRESET}, "application/json", 2, failure},
		"a body that closes it":    {true, chunks{"{}"}, "application/json", 2, success},
		"a stream closed too soon": {false, chunks{event[:6], syscall.ECONNRESET}, "text/event-stream", 2, failure},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var resp *http.Response
				var told atomic.Int32
				tr := newTransport(t, stub.Func(func(req *http.Request) (*http.Response, error) {
					if req.Method == http.MethodPut {
						return response(http.StatusBadRequest, http.NoBody), nil
					}
					return response(http.StatusOK, &test.body, "Content-Type", test.kind), nil
				}), breaker.Config{FailureThreshold: 1, OnStateChange: func(breaker.StateChange) {
					if resp != nil {
						_ = resp.Body.Close()
						told.Add(1)
					}
				}})
				if _, err := tr.RoundTrip(request(t.Context(), http.MethodPut)); err != nil {
					t.Fatal(err)
				}
				if test.trip {
					tr.Breaker(key).Trip()
					time.Sleep(30 * time.Second)
				}
				sent, err := tr.RoundTrip(request(t.Context(), ""))
				if err != nil {
					t.Fatal(err)
				}
				resp = sent
				for range test.read {
					_, _ = resp.Body.Read(make([]byte, 100))
				}
				_ = resp.Body.Close()
				test.want.Ignored++
				if got := totals(tr); got != test.want || told.Load() != 1 {
					t.Errorf("%+v, told %d times", got, told.Load())
				}
			})
		})
	}
}

func TestAPanicOfACallbackAtAProbeCostsNothingButItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var bad bool
		tr := newTransport(t, answer(http.StatusOK, "{}"), breaker.Config{OnStateChange: func(c breaker.StateChange) {
			if bad && c.To == breaker.HalfOpen {
				panic("boom")
			}
		}})
		get := func(body io.ReadCloser) (*http.Response, error) {
			req := request(t.Context(), http.MethodPost)
			req.Body = body
			return tr.RoundTrip(req)
		}
		_, _ = get(http.NoBody)
		b := tr.Breaker(key)
		b.Trip()
		time.Sleep(30 * time.Second)
		bad = true
		body := &stub.Body{Reader: strings.NewReader("x")}
		if !panics(func() { _, _ = get(body) }) {
			t.Error("the panic was swallowed")
		}
		if n := body.Closed(); n != 1 {
			t.Errorf("the request's body was closed %d times", n)
		}
		if s := b.Snapshot(); s.State != breaker.HalfOpen || s.Probes != 0 {
			t.Errorf("%+v", s)
		}
		resp, err := get(http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		wantState(t, b, breaker.Closed)
	})
}

func TestAPanicOfACallbackClosesTheResponseThatNobodyGets(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]breaker.Config{
		"OnStateChange": {FailureThreshold: 1, OnStateChange: func(breaker.StateChange) { panic("boom") }},
		"Observe": {Observe: func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration) {
			panic("boom")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := &stub.Body{Reader: strings.NewReader("x")}
			tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusInternalServerError, Body: body}, nil
			}), cfg)
			if !panics(func() { _, _ = tr.RoundTrip(request(t.Context(), "")) }) {
				t.Error("the panic was swallowed")
			}
			if n := body.Closed(); n != 1 {
				t.Errorf("closed %d times", n)
			}
			if s := totals(tr); s.Failure+s.Ignored != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAPanicOfKeyClosesTheRequest(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, answer(http.StatusOK, ""), breaker.Config{Key: func(*http.Request) string { panic("boom") }})
	req := request(t.Context(), http.MethodPost)
	body := &stub.Body{Reader: strings.NewReader("x")}
	req.Body = body
	if !panics(func() { _, _ = tr.RoundTrip(req) }) || body.Closed() != 1 {
		t.Errorf("closed %d times", body.Closed())
	}
}

func TestAfterAPanicABodySettlesWithItsClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := false
		stream := chunks{event, syscall.ECONNRESET}
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return response(http.StatusOK, &stream, "Content-Type", "text/event-stream"), nil
		}), breaker.Config{OnStateChange: func(breaker.StateChange) {
			if bad {
				panic("boom")
			}
		}})
		for range 2 {
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			b := tr.Breaker(key)
			if !bad {
				_ = resp.Body.Close()
				b.Trip()
				time.Sleep(30 * time.Second)
				wantState(t, b, breaker.HalfOpen)
				admit(t, b).Ignore() // which is what is told of
				bad, stream = true, chunks{event, syscall.ECONNRESET}
				continue
			}
			// The success of the first event closes the breaker. Then it breaks.
			if !panics(func() { _, _ = resp.Body.Read(make([]byte, 100)) }) {
				t.Error("the panic was swallowed")
			}
			wantState(t, b, breaker.Closed)
			_, _ = resp.Body.Read(make([]byte, 100))
			_ = resp.Body.Close()
			if s := b.Snapshot(); s.Totals != (breaker.Totals{Failure: 1, Ignored: 2}) || s.ConsecutiveFailures != 1 {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestAPanicOfOnStateChangeGoesOnAndIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	var told int
	b := newBreaker(t, breaker.Config{OnStateChange: func(breaker.StateChange) {
		if told++; told == 1 {
			panic("boom")
		}
	}})
	if !panics(b.Trip) {
		t.Error("the panic was swallowed")
	}
	b.Reset()
	if told != 2 {
		t.Errorf("told %d times, want 2", told)
	}
}

// A closeBomb panics when it is closed.
type closeBomb struct{ io.Reader }

func (closeBomb) Close() error { panic("boom") }

func TestAPanicOfABodysCloseFreesTheProbesPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: closeBomb{strings.NewReader("x")}, ContentLength: -1}, nil
		}), breaker.Config{})
		resp, err := tr.RoundTrip(request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		tr.Breaker(key).Trip()
		time.Sleep(30 * time.Second)
		resp, err = tr.RoundTrip(request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		if !panics(func() { _ = resp.Body.Close() }) {
			t.Error("the panic was swallowed")
		}
		if n := tr.Breaker(key).Snapshot().Probes; n != 0 {
			t.Errorf("%d places are taken", n)
		}
	})
}
