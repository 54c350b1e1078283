package breaker_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

var response = stub.Stream

// answer always gives the same answer, whose length is unknown.
func answer(code int, body string, header ...string) stub.Func {
	return func(*http.Request) (*http.Response, error) {
		return response(code, strings.NewReader(body), header...), nil
	}
}

// newTransport returns a Transport that is closed with the test.
func newTransport(t *testing.T, base http.RoundTripper, cfg breaker.Config) *breaker.Transport {
	tr := breaker.NewTransport(base, cfg)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

const key = "https://api.example.com"

func request(ctx context.Context, method string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, key+"/v1/x?secret=1", http.NoBody)
	if err != nil {
		panic(err)
	}
	return req
}

// totals returns what came of the one key's requests.
func totals(tr *breaker.Transport) breaker.Totals {
	if b := tr.Breaker(key); b != nil {
		return b.Snapshot().Totals
	}
	return breaker.Totals{}
}

var (
	success = breaker.Totals{Success: 1}
	failure = breaker.Totals{Failure: 1}
	ignored = breaker.Totals{Ignored: 1}
)

func TestOutcomeAtHeaders(t *testing.T) {
	t.Parallel()
	none := breaker.Totals{}
	for name, test := range map[string]struct {
		base   stub.Func
		method string
		want   breaker.Totals
	}{
		"200 with a body to wait for": {base: answer(200, "{}"), want: none},
		"200 of length 0":             {base: answer(200, "", "Content-Length", "0"), want: none}, // ContentLength is -1
		"200 announced as empty": {base: func(*http.Request) (*http.Response, error) {
			return stub.Response(200, "", "Content-Length", "0"), nil
		}, want: success},
		"200 made by hand":   {base: stub.Reply(200, ""), want: none}, // ContentLength is 0, and nothing says so
		"200 without a body": {base: func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil }, want: success},
		"200 to HEAD":        {base: answer(200, ""), method: http.MethodHead, want: success},
		"204":                {base: answer(204, ""), want: success},
		"304":                {base: answer(304, ""), want: success},
		"302":                {base: answer(302, "moved"), want: success},
		"101":                {base: answer(101, ""), want: success},
		"400":                {base: answer(400, ""), want: ignored},
		"401":                {base: answer(401, ""), want: ignored},
		"404":                {base: answer(404, ""), want: ignored},
		"409":                {base: answer(409, ""), want: ignored},
		"408":                {base: answer(408, ""), want: failure},
		"500":                {base: answer(500, ""), want: failure},
		"503":                {base: answer(503, "", "Retry-After", "7"), want: failure},
		"529":                {base: answer(529, ""), want: failure},
		"429":                {base: answer(429, ""), want: ignored},
		"429 with a hint":    {base: answer(429, "", "Retry-After", "7"), want: ignored},
		"connection refused": {base: func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}, want: failure},
		"refused by another breaker": {base: func(*http.Request) (*http.Response, error) { return nil, &breaker.OpenError{} }, want: ignored},
		"neither response nor error": {base: func(*http.Request) (*http.Response, error) { return nil, nil }, want: ignored},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTransport(t, test.base, breaker.Config{})
				resp, err := tr.RoundTrip(request(t.Context(), test.method))
				if (resp == nil) == (err == nil) {
					t.Errorf("returned %v, %v", resp, err)
				}
				if resp != nil && resp.Body == nil {
					t.Error("no body")
				}
				if got := totals(tr); got != test.want {
					t.Errorf("%+v, want %+v", got, test.want)
				}
				if resp != nil {
					_ = resp.Body.Close()
				}
			})
		})
	}
}

func TestOutcomeOfABody(t *testing.T) {
	t.Parallel()
	broken := io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(syscall.ECONNRESET))
	for name, test := range map[string]struct {
		length   int64
		body     io.Reader
		encoding string
		read     int  // bytes, by one Read; -1 is all
		close    bool // after that
		want     breaker.Totals
	}{
		"read to its end":            {-1, strings.NewReader("abcd"), "", -1, false, success},
		"read to its last byte":      {4, strings.NewReader("abcd"), "", 4, false, success},
		"a length of 0 made by hand": {0, strings.NewReader("abcd"), "", 2, false, breaker.Totals{}},
		"not yet":                    {4, strings.NewReader("abcd"), "", 3, false, breaker.Totals{}},
		"broken":                     {-1, broken, "", -1, false, failure},
		"closed unread":              {-1, strings.NewReader("abcd"), "", 0, true, ignored},
		"closed early":               {-1, strings.NewReader("abcd"), "", 2, true, success},
		"compressed":                 {-1, strings.NewReader("abcd"), "gzip", 1, false, success},
		"compressed as it is":        {-1, strings.NewReader("abcd"), "identity", 1, false, breaker.Totals{}},
		"neither read nor closed":    {-1, strings.NewReader("abcd"), "", 0, false, breaker.Totals{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
				resp := response(200, test.body, "Content-Encoding", test.encoding)
				resp.ContentLength = test.length
				return resp, nil
			}), breaker.Config{})
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.read < 0:
				_, _ = io.ReadAll(resp.Body)
			case test.read > 0:
				if n, err := resp.Body.Read(make([]byte, test.read)); n != test.read || err != nil {
					t.Fatalf("read %d, %v", n, err)
				}
			}
			if test.close {
				_ = resp.Body.Close()
			}
			if got := totals(tr); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			_ = resp.Body.Close()
			_ = resp.Body.Close()
			if got := totals(tr); got.Success+got.Failure+got.Ignored != 1 {
				t.Errorf("%+v after Close, want one outcome", got)
			}
		})
	}
}

func TestWhoseContextIsOver(t *testing.T) {
	t.Parallel()
	limit := &fault.TimeLimitError{Limit: "retry: AttemptTimeout", After: time.Second}
	for name, test := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		want breaker.Totals
	}{
		"cancelled by the caller": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, ignored},
		"the caller's deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, ignored},
		"a time limit of ours": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Second, limit)
		}, failure},
	} {
		// What the context ends: sending the request, or reading the response.
		for at, base := range map[string]stub.Func{
			"sending": func(req *http.Request) (*http.Response, error) {
				<-req.Context().Done()
				return nil, req.Context().Err()
			},
			"reading": func(req *http.Request) (*http.Response, error) {
				return response(200, io.MultiReader(strings.NewReader("ab"), untilDone{req.Context()})), nil
			},
			"reading a stream": func(req *http.Request) (*http.Response, error) {
				return response(200, untilDone{req.Context()}, "Content-Type", "text/event-stream"), nil
			},
		} {
			t.Run(name+"/"+at, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					tr := newTransport(t, base, breaker.Config{})
					ctx, cancel := test.end(t.Context())
					defer cancel()
					if resp, err := tr.RoundTrip(request(ctx, "")); err == nil {
						_, _ = io.ReadAll(resp.Body)
						_ = resp.Body.Close()
					}
					if got := totals(tr); got != test.want {
						t.Errorf("%+v, want %+v", got, test.want)
					}
				})
			})
		}
	}
}

func TestABodyClosedByATimeLimitOfOursIsAFailure(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"application/json", "text/event-stream"} {
		tr := newTransport(t, answer(200, event, "Content-Type", contentType), breaker.Config{})
		ctx, cancel := context.WithCancelCause(t.Context())
		resp, err := tr.RoundTrip(request(ctx, ""))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = resp.Body.Read(make([]byte, 3))
		cancel(&fault.TimeLimitError{Limit: "openai: IdleTimeout", After: time.Second})
		_ = resp.Body.Close()
		if got := totals(tr); got != failure {
			t.Errorf("%s: %+v", contentType, got)
		}
	}
}

func TestClientTimeoutIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, body := range []bool{false, true} {
			tr := newTransport(t, stub.Func(func(req *http.Request) (*http.Response, error) {
				if body {
					return response(200, untilDone{req.Context()}), nil
				}
				<-req.Context().Done()
				return nil, req.Context().Err()
			}), breaker.Config{})
			client := http.Client{Transport: tr, Timeout: time.Second}
			if resp, err := client.Do(request(t.Context(), "")); err == nil {
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if got := totals(tr); got != ignored {
				t.Errorf("%+v", got)
			}
		}
	})
}

// untilDone is a body that ends with its context.
type untilDone struct{ ctx context.Context }

func (r untilDone) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

func TestWhatLeavesItClosed(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		base stub.Func
	}{
		"cancelled":                        {canceled, func(req *http.Request) (*http.Response, error) { return nil, req.Context().Err() }},
		"400":                              {t.Context(), answer(400, "")},
		"429 that may be repeated at once": {t.Context(), answer(429, "", "Retry-After", "0")},
		"panic":                            {t.Context(), func(*http.Request) (*http.Response, error) { panic("boom") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, test.base, breaker.Config{})
			panics := 0
			for range 50 {
				func() {
					defer func() {
						if recover() != nil {
							panics++
						}
					}()
					if resp, err := tr.RoundTrip(request(test.ctx, "")); err == nil {
						_ = resp.Body.Close()
					}
				}()
			}
			wantState(t, tr.Breaker(key), breaker.Closed)
			if got, want := totals(tr), (breaker.Totals{Ignored: 50}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if want := map[bool]int{true: 50}[name == "panic"]; panics != want {
				t.Errorf("%d panics came through, want %d", panics, want)
			}
		})
	}
}

func TestCountAllErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]breaker.Totals{200: success, 204: success, 302: failure, 400: failure, 429: failure, 500: failure} {
		tr := newTransport(t, answer(code, "", "Retry-After", "9"), breaker.Config{Observe: breaker.CountAllErrors, FailureThreshold: 1})
		resp, err := tr.RoundTrip(request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := totals(tr); got != want {
			t.Errorf("%d: %+v, want %+v", code, got, want)
		}
		s := tr.Breaker(key).Snapshot()
		if want == failure && s.ProbeAt.Sub(s.Since).Round(time.Second) != 9*time.Second {
			t.Errorf("%d: the hint is not used: %+v", code, s)
		}
	}
}

func TestARefusedRequestIsClosedAndNotSent(t *testing.T) {
	t.Parallel()
	var sent atomic.Int32
	tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
		sent.Add(1)
		return response(500, http.NoBody), nil
	}), breaker.Config{FailureThreshold: 1})
	resp, err := tr.RoundTrip(request(t.Context(), ""))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	body := &stub.Body{Reader: strings.NewReader("x")}
	req := request(t.Context(), http.MethodPost)
	req.Body = body
	req.URL.User = url.UserPassword("me", "secret")
	span := &recordingSpan{Span: trace.SpanFromContext(t.Context())}
	_, err = tr.RoundTrip(req.WithContext(trace.ContextWithSpan(t.Context(), span)))
	var open *breaker.OpenError
	if !errors.As(err, &open) || open.Key != key || open.ErrorType() != "circuit_open" {
		t.Fatalf("returned %v", err)
	}
	if !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "secret") {
		t.Errorf("message %q", err)
	}
	if n := body.Closed(); n != 1 {
		t.Errorf("body closed %d times", n)
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("%d requests sent", n)
	}
	if !slices.Equal(span.events, []string{"retrip.breaker.rejection"}) {
		t.Errorf("span events %v", span.events)
	}
}

type recordingSpan struct {
	trace.Span
	events []string
}

func (s *recordingSpan) IsRecording() bool { return true }
func (s *recordingSpan) AddEvent(name string, _ ...trace.EventOption) {
	s.events = append(s.events, name)
}

func Test64CallersInHalfOpenSendMaxProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int32
		tr := newTransport(t, stub.Func(func(req *http.Request) (*http.Response, error) {
			sent.Add(1)
			time.Sleep(time.Second)
			return response(200, strings.NewReader("{}")), nil
		}), breaker.Config{MaxProbes: 2})
		resp, err := tr.RoundTrip(request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		tr.Breaker(key).Trip()
		time.Sleep(30 * time.Second)
		sent.Store(0)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				// The body stays open: headers are no success.
				if resp, err := tr.RoundTrip(request(t.Context(), "")); err == nil {
					time.Sleep(10 * time.Second)
					_, _ = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
			})
		}
		time.Sleep(5 * time.Second)
		wantState(t, tr.Breaker(key), breaker.HalfOpen)
		if resp, err := tr.RoundTrip(request(t.Context(), "")); err == nil {
			_ = resp.Body.Close()
			t.Error("a third probe was sent")
		}
		wg.Wait()
		if n := sent.Load(); n != 2 {
			t.Errorf("%d requests sent, want 2", n)
		}
		wantState(t, tr.Breaker(key), breaker.Closed)
	})
}

func TestAProbeWhoseBodyNobodyClosesDoesNotWedge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, answer(200, "{}"), breaker.Config{})
		get := func() (*http.Response, error) { return tr.RoundTrip(request(t.Context(), "")) }
		_, _ = get()
		tr.Breaker(key).Trip()
		time.Sleep(30 * time.Second)
		_, _ = get()
		if _, err := get(); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("got %v", err)
		}
		time.Sleep(60 * time.Second)
		for range 2 {
			resp, err := get()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		wantState(t, tr.Breaker(key), breaker.Closed)
	})
}

func TestAttemptsOfOneCallCountOnceInARow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, answer(500, ""), breaker.Config{MinRequests: 1000})
		send := func(c *call.Call) {
			t.Helper()
			time.Sleep(apart)
			resp, err := tr.RoundTrip(request(c, ""))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		poisonous := &call.Call{Context: t.Context()}
		for range 20 {
			send(poisonous)
		}
		if s := tr.Breaker(key).Snapshot(); s.State != breaker.Closed || s.ConsecutiveFailures != 1 || s.Failures != 20 {
			t.Fatalf("%+v", s)
		}
		for range 4 {
			send(&call.Call{Context: t.Context()})
		}
		wantState(t, tr.Breaker(key), breaker.Open)
	})
}

// somewhere is a Router. The breaker asks no more of it than whether there is one.
type somewhere struct{}

func (somewhere) First() (latest bool, refusal error) { return true, nil }
func (somewhere) Detour() call.Detour                 { return call.Detour{} }
func (somewhere) Onward() (call.Detour, bool)         { return call.Detour{}, false }

func TestWhereCallsGoSomewhereElseMeanwhileAnOpenBreakerIsProbedSoon(t *testing.T) {
	t.Parallel()
	for standIn, want := range map[bool]time.Duration{true: 15 * time.Second, false: 100 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			tr := newTransport(t, answer(503, "", "Retry-After", "100"), breaker.Config{FailureThreshold: 1})
			attempt := &call.Attempt{HasStandIn: standIn}
			attempt.Init(&call.Call{Context: t.Context(), Router: somewhere{}})
			resp, err := tr.RoundTrip(request(attempt, ""))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			wantOpenFor(t, tr.Breaker(key), want)
		})
	}
}

func TestAnOperatorTripsAndResetsByName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, answer(http.StatusNoContent, ""), breaker.Config{})
		get := func() error {
			resp, err := tr.RoundTrip(request(t.Context(), ""))
			if err == nil {
				_ = resp.Body.Close()
			}
			return err
		}
		if tr.Breaker(key) != nil {
			t.Error("a breaker of which nothing has come")
		}
		_ = get()
		tr.Breaker(key).Trip()
		var open *breaker.OpenError
		if err := get(); !errors.As(err, &open) || open.RetryAfter != breaker.DefaultOpenDuration {
			t.Errorf("tripped, it says %v", err)
		}
		tr.Breaker(key).Reset()
		if err := get(); err != nil {
			t.Errorf("reset, it says %v", err)
		}
	})
}

func TestOverARealServer(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/empty":
		case "/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "short")
		case "/stream":
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			_, _ = io.WriteString(w, "data: 1\n\n")
		default:
			_, _ = io.WriteString(w, "{}")
		}
	}))
	defer srv.Close()
	for path, want := range map[string]breaker.Totals{"/": success, "/empty": success, "/cut": failure, "/stream": success} {
		base := srv.Client().Transport.(*http.Transport).Clone()
		tr := newTransport(t, base, breaker.Config{})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Request != req {
			t.Error("Response.Request is another request")
		}
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := tr.Snapshot()[0].Totals; got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
		tr.CloseIdleConnections()
	}
}

func TestARequestWithoutAURLIsLeftToTheBase(t *testing.T) {
	t.Parallel()
	errBad := errors.New("no URL")
	tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) { return nil, errBad }), breaker.Config{})
	req := request(t.Context(), http.MethodGet)
	req.URL = nil
	resp, err := tr.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, errBad) || len(tr.Snapshot()) != 0 {
		t.Errorf("%v, %+v", err, tr.Snapshot())
	}
}

func TestAnErrorThatObserveLeavesUndecidedIsIgnored(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) { return nil, io.EOF }), breaker.Config{
		Observe: func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration) {
			return breaker.Undecided, nil, 0
		},
	})
	resp, err := tr.RoundTrip(request(t.Context(), http.MethodGet))
	if err == nil {
		_ = resp.Body.Close()
	}
	if got := totals(tr); got != (breaker.Totals{Ignored: 1}) {
		t.Errorf("%+v", got)
	}
}

// After 101 the body is a connection, which nobody but the caller may read.
func TestObserveIsNotAskedAboutASwitchOfProtocols(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, answer(http.StatusSwitchingProtocols, "x"), breaker.Config{
		Observe: func(*http.Response, error) (breaker.Outcome, breaker.Observer, time.Duration) {
			t.Error("it was asked")
			return breaker.Failure, nil, 0
		},
	})
	resp, err := tr.RoundTrip(request(t.Context(), http.MethodGet))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := totals(tr); got != success {
		t.Errorf("it came to %+v", got)
	}
}
