package retry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestStatusesAreRetriedIfRetryable(t *testing.T) {
	t.Parallel()
	for code := 200; code < 600; code++ {
		if http.StatusText(code) == "" {
			continue
		}
		want := 1
		switch code {
		case 408, 429, 500, 502, 503, 504:
			want = 2
		}
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(status(code), status(200))
				resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, strings.NewReader("payload")))
				if err != nil {
					t.Fatal(err)
				}
				readAll(t, resp)
				if base.Calls() != want {
					t.Errorf("%d requests were sent, want %d", base.Calls(), want)
				}
				if got := IsRetryableStatus(code); got != (want == 2) {
					t.Errorf("IsRetryableStatus = %v", got)
				}
			})
		})
	}
}

func TestErrorsAreRetriedIfAnotherAttemptCanMendThem(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	read := func(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }
	for _, row := range []struct {
		name  string
		err   error
		retry bool
	}{
		{"refused", dial(syscall.ECONNREFUSED), true},
		{"reset", read(syscall.ECONNRESET), true},
		{"EOF", io.EOF, true},
		{"unexpected EOF", io.ErrUnexpectedEOF, true},
		{"an unknown error, as HTTP/2 has them", errors.New("http2: client connection lost"), true},
		{"temporary DNS", dial(&net.DNSError{IsTemporary: true}), true},
		{"a dial that takes too long", dial(timeoutError{}), true},
		{"no such host", dial(&net.DNSError{IsNotFound: true}), false},
		{"certificate", x509.UnknownAuthorityError{}, false},
		{"a TLS alert", &net.OpError{Op: "remote error", Err: tls.AlertError(116)}, false},
		{"a TLS alert of QUIC", tls.AlertError(116), false},
		{"an alert of ours", &net.OpError{Op: "local error", Err: errors.New("bad record MAC")}, true},
		{"a proxy that asks for credentials", &fault.ProxyAuthError{Proxy: "proxy.example.com:3128"}, false},
		{"scheme", http.ErrSchemeMismatch, false},
		{"an address that can't be read", &url.Error{Op: "parse", Err: errors.New("bad")}, false},
		{"another error of an address", &url.Error{Op: "Get", Err: errors.New("lost")}, true},
		{"timeout awaiting headers", &headerTimeoutError{}, false},
		{"a read that takes too long", read(timeoutError{}), false},
		{"our own time limit", &fault.TimeLimitError{}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(failure(row.err), status(200))
				resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
				if row.retry {
					if err != nil || base.Calls() != 2 {
						t.Fatalf("%d requests, error %v; want 2 and none", base.Calls(), err)
					}
					readAll(t, resp)
					return
				}
				if base.Calls() != 1 || !errors.Is(err, row.err) && err.Error() != row.err.Error() {
					t.Errorf("%d requests, error %v; want 1 and %v", base.Calls(), err, row.err)
				}
			})
		})
	}
}

type timeoutError struct{}

func (timeoutError) Error() string { return "i/o timeout" }
func (timeoutError) Timeout() bool { return true }

// headerTimeoutError is as net/http's.
type headerTimeoutError struct{ timeoutError }

func (*headerTimeoutError) Is(err error) bool { return err == context.DeadlineExceeded }

func TestMalformedRequestsAreNotRepeated(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*http.Request){
		"scheme":       func(r *http.Request) { r.URL.Scheme = "ftp" },
		"host":         func(r *http.Request) { r.URL.Host = "" },
		"header name":  func(r *http.Request) { r.Header["a b"] = []string{"c"} },
		"header value": func(r *http.Request) { r.Header.Set("A", "b\nc") },
		"method":       func(r *http.Request) { r.Method = "P T" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := keyed(t.Context(), t, nil)
			change(req)
			base := answers(failure(errors.New("net/http: malformed")))
			if _, err := NewTransport(base, Config{}).RoundTrip(req); err == nil || base.Calls() != 1 {
				t.Errorf("%d requests, error %v; want 1 and one", base.Calls(), err)
			}
		})
	}
}

func TestEveryAttemptSendsTheSameBytes(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 7000)
	shared := func(t *testing.T) *http.Request {
		req, err := NewRequest(t.Context(), http.MethodPut, testURL, data)
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	for name, request := range map[string]func(*testing.T) *http.Request{
		"in memory":         func(t *testing.T) *http.Request { return keyed(t.Context(), t, bytes.NewReader(data)) },
		"an opaque reader":  func(t *testing.T) *http.Request { return keyed(t.Context(), t, opaque(data)) },
		"shared by request": shared,
		"an opaque reader of known length": func(t *testing.T) *http.Request {
			req := keyed(t.Context(), t, opaque(data))
			req.ContentLength = int64(len(data))
			return req
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(status(503), failure(io.EOF), status(500), status(200))
				resp, err := NewTransport(base, Config{}).RoundTrip(request(t))
				if err != nil {
					t.Fatal(err)
				}
				readAll(t, resp)
				if len(base.Payloads()) != 4 {
					t.Fatalf("%d requests, want 4", len(base.Payloads()))
				}
				for i, sent := range base.Payloads() {
					if sent != string(data) {
						t.Errorf("attempt %d sent %d bytes, want the %d given", i+1, len(sent), len(data))
					}
				}
			})
		})
	}
}

func TestWhatIsNotSafeIsSentOnce(t *testing.T) {
	t.Parallel()
	base := answers(status(503))
	body := opaque([]byte("payload"))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, body)
	resp, err := NewTransport(base, Config{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, resp); base.Calls() != 1 || got != "body of Service Unavailable" || body.Closed() != 1 {
		t.Errorf("%d requests, body %q, closed %d times", base.Calls(), got, body.Closed())
	}
}

func TestSafeIsNotOverriddenByAPolicy(t *testing.T) {
	t.Parallel()
	base := answers(status(503))
	transport := NewTransport(base, Config{
		Safe:   func(*http.Request) bool { return false },
		Policy: func(*Attempt) Decision { return After(0, ReasonServerSaysYes) },
	})
	resp, err := transport.RoundTrip(keyed(t.Context(), t, strings.NewReader("x")))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); base.Calls() != 1 {
		t.Errorf("%d requests, want 1", base.Calls())
	}
}

func TestPayloadAboveTheLimitIsStreamedOnce(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{-1, 100} {
		base := answers(status(503))
		body := opaque(bytes.Repeat([]byte("x"), 100))
		req := keyed(t.Context(), t, body)
		req.ContentLength = length
		var log bytes.Buffer
		resp, err := NewTransport(base, Config{MaxReplayBytes: 64, Logger: slog.New(slog.NewTextHandler(&log, nil))}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if base.Calls() != 1 || len(base.Payloads()[0]) != 100 || body.Closed() != 1 {
			t.Errorf("length %d: %d requests of %d bytes, closed %d times", length, base.Calls(), len(base.Payloads()[0]), body.Closed())
		}
		if strings.Count(log.String(), "too large to replay") != 1 {
			t.Errorf("length %d: logged %q", length, log.String())
		}
	}
}

func TestWrongContentLengthIsAnErrorBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{5, 9} {
		base := answers(status(200))
		body := opaque([]byte("1234567"))
		req := keyed(t.Context(), t, body)
		req.ContentLength = length
		_, err := NewTransport(base, Config{}).RoundTrip(req)
		if err == nil || !strings.Contains(err.Error(), "ContentLength") || base.Calls() != 0 || body.Closed() != 1 {
			t.Errorf("length %d: error %v, %d requests, closed %d times", length, err, base.Calls(), body.Closed())
		}
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, row := range []struct {
		name       string
		header     func() []string
		min, max   time.Duration
		wantStatus int
	}{
		{"seconds", func() []string { return []string{"Retry-After", "7"} }, 7 * time.Second, 8750 * time.Millisecond, 200},
		{"date", func() []string { return []string{"Retry-After", in(20 * time.Second)} }, 20 * time.Second, 25 * time.Second, 200},
		{"milliseconds", func() []string { return []string{"retry-after-ms", "100"} }, 100 * time.Millisecond, 125 * time.Millisecond, 200},
		{"the spread is at most 10 s", func() []string { return []string{"Retry-After", "60"} }, 60 * time.Second, 70 * time.Second, 200},
		{"0 is at once", func() []string { return []string{"Retry-After", "0"} }, 0, 0, 200},
		{"junk is a backoff", func() []string { return []string{"Retry-After", "soon"} }, 375 * time.Millisecond, 625 * time.Millisecond, 200},
		{"too long returns the response at once", func() []string { return []string{"Retry-After", "600"} }, 0, 0, 429},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(status(429, row.header()...), status(200))
				start := time.Now()
				resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < row.min || took > row.max {
					t.Errorf("waited %v, want %v to %v", took, row.min, row.max)
				}
				if body := readAll(t, resp); resp.StatusCode != row.wantStatus || !strings.HasPrefix(body, "body of") {
					t.Errorf("got %d with %q, want %d", resp.StatusCode, body, row.wantStatus)
				}
			})
		})
	}
}

func TestNoWaitPassesADeadline(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		timeout time.Duration
		cfg     Config
		answer  func(*http.Request) (*http.Response, error)
	}{
		"the context's":             {10 * time.Second, Config{}, status(503, "Retry-After", "30")},
		"the context's, by backoff": {10 * time.Second, Config{Backoff: steady(11 * time.Second)}, status(503)},
		"the context's, just so":    {10 * time.Second, Config{Backoff: steady(10 * time.Second)}, status(503)},
		"MaxElapsed":                {time.Hour, Config{MaxElapsed: 20 * time.Second}, status(503, "Retry-After", "30")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), row.timeout)
				defer cancel()
				start := time.Now()
				resp, err := NewTransport(answers(row.answer), row.cfg).RoundTrip(keyed(ctx, t, nil))
				if err != nil || time.Since(start) != 0 {
					t.Fatalf("error %v after %v; want the response at once", err, time.Since(start))
				}
				if body := readAll(t, resp); body != "body of Service Unavailable" {
					t.Errorf("body %q", body)
				}
			})
		})
	}
}

func TestExhaustionReturnsTheLastResponseWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var report Report
		base := answers(status(503), status(502), status(500), func(*http.Request) (*http.Response, error) {
			return response(504, strings.Repeat("z", 1<<20)), nil
		})
		resp, err := NewTransport(base, Config{}).RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp); len(body) != 1<<20 || resp.StatusCode != 504 {
			t.Errorf("%d with %d bytes", resp.StatusCode, len(body))
		}
		if report.Attempts != 4 || report.Stopped != StopAttempts || report.Waited < 2*time.Second || report.Reason != ReasonTimeout || report.Err == nil {
			t.Errorf("report %+v", report)
		}
	})
}

func TestExhaustionWithoutAResponseUnwrapsToTheBasesError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(failure(&net.OpError{Op: "read", Err: syscall.ECONNRESET}))
		_, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
		var ours *Error
		if !errors.As(err, &ours) || ours.Attempts != 4 || !errors.Is(err, syscall.ECONNRESET) || ours.Timeout() || ours.ErrorType() != "connection_error" {
			t.Errorf("error %v", err)
		}
	})
}

func TestTheEndOfTheContextEndsAWait(t *testing.T) {
	t.Parallel()
	errCause := errors.New("the user left")
	for name, row := range map[string]struct {
		end  func(*http.Request, context.CancelCauseFunc)
		want []error
	}{
		"context": {func(_ *http.Request, cancel context.CancelCauseFunc) { cancel(errCause) }, []error{errCause, context.Canceled}},
		"Request.Cancel": {
			func(req *http.Request, _ context.CancelCauseFunc) {
				cancel := make(chan struct{})
				req.Cancel = cancel //nolint:staticcheck // http.Client still sets it
				time.AfterFunc(time.Second, func() { close(cancel) })
			}, []error{errRequestCancel},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				req := keyed(ctx, t, nil)
				if name == "context" {
					time.AfterFunc(time.Second, func() { row.end(req, cancel) })
				} else {
					row.end(req, cancel)
				}
				start := time.Now()
				_, err := NewTransport(answers(status(503)), Config{Backoff: steady(time.Minute)}).RoundTrip(req)
				for _, want := range append(row.want, statusError(503)) {
					if !errors.Is(err, want) {
						t.Errorf("error %v is not %v", err, want)
					}
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestAttemptTimeoutIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		_, err := NewTransport(base, Config{AttemptTimeout: time.Second}).RoundTrip(keyed(t.Context(), t, nil))
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() || base.Calls() != 1 || !strings.Contains(err.Error(), "AttemptTimeout") {
			t.Errorf("%d requests, error %v", base.Calls(), err)
		}
	})
}

func TestHeadersThatRaceWithTheTimerLose(t *testing.T) {
	t.Parallel()
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			var attempt *http.Request
			body := &closeFunc{opaque(nil), func() {
				// A breaker judges the closed body by the cause.
				if !isOurTimeout(context.Cause(attempt.Context())) {
					t.Errorf("the body was closed, the cause is %v", context.Cause(attempt.Context()))
				}
			}}
			base := answers(func(req *http.Request) (*http.Response, error) {
				attempt = req
				time.Sleep(time.Second)
				return &http.Response{StatusCode: 200, Body: body}, nil
			})
			_, err := NewTransport(base, Config{AttemptTimeout: time.Second}).RoundTrip(keyed(t.Context(), t, nil))
			if closed := body.Closed(); err != nil && closed != 1 || err == nil && closed != 0 {
				t.Errorf("error %v, body closed %d times", err, closed)
			}
		})
	}
}

type closeFunc struct {
	*stub.Body

	closing func()
}

func (c *closeFunc) Close() error {
	c.closing()
	return c.Body.Close()
}

// A gate is what a breaker says of attempts to come.
type gate time.Duration

func (g gate) RefusesFor() time.Duration  { return time.Duration(g) }
func (g gate) FailsAlone(*call.Call) bool { return true }

func TestWhatWouldBeRefusedIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answer   func(*http.Request) (*http.Response, error)
		refuses  time.Duration
		attempts int
	}{
		"a response, refused for longer than the backoff": {status(503), 2*time.Second + 1, 1},
		"a response, refused until the attempt":           {status(503), 2 * time.Second, 2},
		"a response, not refused":                         {status(503), 0, 2},
		"a hint, refused for longer":                      {status(503, "Retry-After", "1"), 3 * time.Second, 1},
		"a hint that outlasts it":                         {status(503, "Retry-After", "3"), 3 * time.Second, 2},
		"an error, refused for longer than the backoff":   {failure(io.EOF), 3 * time.Second, 1},
		"an error, not refused":                           {failure(io.EOF), time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(func(req *http.Request) (*http.Response, error) {
					call.From(req.Context()).Gate = gate(row.refuses)
					return row.answer(req)
				})
				var report Report
				start := time.Now()
				resp, err := NewTransport(base, Config{Backoff: steady(2 * time.Second), MaxAttempts: 2}).RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
				if err == nil {
					readAll(t, resp)
				}
				if base.Calls() != row.attempts {
					t.Fatalf("%d attempts, want %d", base.Calls(), row.attempts)
				}
				if row.attempts == 2 {
					return
				}
				if report.Stopped != StopRejected || time.Since(start) != 0 {
					t.Errorf("stopped for %q after %v", report.Stopped, time.Since(start))
				}
				if err != nil && err != io.EOF { //nolint:errorlint // the same value
					t.Errorf("error %#v", err)
				}
			})
		})
	}
}

func TestABasesErrorIsReturnedAsItIsUnlessSomethingWasRepeated(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	ended, cancel := context.WithCancelCause(context.Background())
	unsafe := func(*http.Request) bool { return false }
	once := WithMaxAttempts(context.Background(), 1)
	for name, row := range map[string]struct {
		ctx     context.Context
		cfg     Config
		answers []stub.Func
		wrapped bool
	}{
		"not Safe":                  {once, Config{Safe: unsafe}, nil, false},
		"one attempt":               {once, Config{}, nil, false},
		"MaxAttempts 1":             {context.Background(), Config{MaxAttempts: 1}, nil, false},
		"no budget":                 {context.Background(), Config{Budget: NewBudget(0, 0)}, nil, false},
		"no time":                   {context.Background(), Config{MaxElapsed: time.Millisecond}, nil, false},
		"a Policy that stops":       {context.Background(), Config{Policy: func(*Attempt) Decision { return Stop(StopPolicy) }}, nil, false},
		"a context that ends":       {ended, Config{}, []stub.Func{func(*http.Request) (*http.Response, error) { cancel(io.ErrClosedPipe); return nil, lost }}, false},
		"repeated":                  {context.Background(), Config{MaxAttempts: 2}, nil, true},
		"one attempt after a pause": {once, Config{}, []stub.Func{reject(time.Second, true), failure(lost)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(failure(lost))
				if row.answers != nil {
					base = answers(row.answers...)
				}
				_, err := NewTransport(base, row.cfg).RoundTrip(keyed(row.ctx, t, nil))
				if same := err == lost; same == row.wrapped || !errors.Is(err, lost) { //nolint:errorlint // the same value
					t.Errorf("error %#v", err)
				}
				if _, wrapped := err.(*Error); wrapped != row.wrapped { //nolint:errorlint // as above
					t.Errorf("error %#v", err)
				}
			})
		})
	}
}

func TestWithMaxAttempts(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{-1: 4, 0: 4, 1: 1, 2: 2, 6: 6} {
		synctest.Test(t, func(t *testing.T) {
			base := answers(status(503))
			resp, err := NewTransport(base, Config{}).RoundTrip(keyed(WithMaxAttempts(t.Context(), n), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			if readAll(t, resp); base.Calls() != want {
				t.Errorf("%d: %d requests, want %d", n, base.Calls(), want)
			}
		})
	}
}

func TestARejectedRetryReturnsTheKeptResponse(t *testing.T) {
	t.Parallel()
	first := strings.Repeat("kept ", 1000)
	for name, second := range map[string]func(*http.Request) (*http.Response, error){
		"open":       reject(0, false),
		"paused":     reject(time.Hour, true),
		"never sent": unconnected(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := answers(func(*http.Request) (*http.Response, error) { return response(503, first), nil }, second)
				req := keyed(t.Context(), t, nil)
				resp, err := NewTransport(base, Config{}).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if body := readAll(t, resp); body != first || resp.StatusCode != 503 || resp.Request != req {
					t.Errorf("%d with %d bytes, want the 503 kept", resp.StatusCode, len(body))
				}
			})
		})
	}
}

// What was sent since is newer than a response from before.
func TestAResponseIsKeptUntilTheNextAttemptIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(status(503), failure(io.EOF), reject(0, false))
		_, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
		if _, rejected := fault.AsRejection(err); !rejected || base.Calls() != 3 {
			t.Errorf("error %v after %d requests", err, base.Calls())
		}
	})
}

func TestAResponseTooLargeToKeepIsReplacedByTheRejection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(func(*http.Request) (*http.Response, error) {
			return response(503, strings.Repeat("x", maxDrainBytes+1)), nil
		}, reject(0, false))
		_, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
		if _, ok := fault.AsRejection(err); !ok {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnEndlessErrorBodyDelaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		base := answers(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 503, Body: &endlessBody{req.Context(), closed}}, nil
		}, status(200))
		start := time.Now()
		resp, err := NewTransport(base, Config{Backoff: steady(time.Second)}).RoundTrip(keyed(t.Context(), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
		<-closed
	})
}

func TestARejectionIsNoAttempt(t *testing.T) {
	t.Parallel()
	for _, safe := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var events []Event
			pauses := []time.Duration{3 * time.Second, time.Second}
			base := answers(status(200))
			body := opaque([]byte("payload"))
			req := keyed(t.Context(), t, body)
			transport := NewTransport(stub.Func(func(r *http.Request) (*http.Response, error) {
				if len(pauses) == 0 {
					return base.RoundTrip(r)
				}
				pause := pauses[0]
				pauses = pauses[1:]
				_ = r.Body.Close()
				return nil, &rejection{pause, true}
			}), Config{
				MaxAttempts: 1, Safe: func(*http.Request) bool { return safe },
				OnRetry: func(e Event) { events = append(events, e) },
			})
			start := time.Now()
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatalf("safe %v: %v", safe, err)
			}
			readAll(t, resp)
			if took := time.Since(start); took != 4*time.Second || base.Payloads()[0] != "payload" || body.Closed() != 1 {
				t.Errorf("safe %v: took %v, sent %q, closed %d times", safe, took, base.Payloads()[0], body.Closed())
			}
			if len(events) != 2 || events[0].DelaySource != "pause" || events[0].Attempt != 0 {
				t.Errorf("events %+v", events)
			}
		})
	}
}

func TestAPauseLongerThanMaxRetryAfterIsNotWaitedOut(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		pause    time.Duration
		requests int
	}{{time.Minute, 2}, {time.Minute + 1, 1}} {
		synctest.Test(t, func(t *testing.T) {
			start, base := time.Now(), answers(reject(row.pause, true), status(200))
			resp, err := NewTransport(base, Config{MaxRetryAfter: time.Minute}).RoundTrip(keyed(t.Context(), t, nil))
			if err == nil {
				readAll(t, resp)
			}
			if waited := time.Since(start) > 0; base.Calls() != row.requests || waited != (row.requests == 2) || waited != (err == nil) {
				t.Errorf("a pause of %v: %d requests, error %v, after %v", row.pause, base.Calls(), err, time.Since(start))
			}
		})
	}
}

func TestInspectMakesAFailureOfAResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		errTorn := errors.New("torn")
		base := answers(status(200))
		var numbers []int
		transport := NewTransport(base, Config{Inspect: func(a *Attempt) error {
			numbers = append(numbers, a.Number)
			return errTorn
		}, MaxAttempts: 3})
		resp, err := transport.RoundTrip(keyed(t.Context(), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp); body != "body of OK" || !slices.Equal(numbers, []int{1, 2, 3}) {
			t.Errorf("body %q, attempts inspected %v", body, numbers)
		}
	})
}

func TestBackoffStopEndsTheCall(t *testing.T) {
	t.Parallel()
	var report Report
	base := answers(status(503))
	transport := NewTransport(base, Config{Backoff: func() backoff.BackOff { return &backoff.StopBackOff{} }})
	resp, err := transport.RoundTrip(keyed(WithReport(t.Context(), &report), t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); base.Calls() != 1 || report.Stopped != StopPolicy {
		t.Errorf("%d requests, stopped by %q", base.Calls(), report.Stopped)
	}
}

func TestInvalidConfigFailsBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]Config{
		"MaxAttempts":    {MaxAttempts: -1},
		"MaxRetryAfter":  {MaxRetryAfter: -1},
		"AttemptTimeout": {AttemptTimeout: -1},
		"MaxReplayBytes": {MaxReplayBytes: -1},
	} {
		base := answers(status(200))
		body := opaque(nil)
		_, err := NewTransport(base, cfg).RoundTrip(keyed(t.Context(), t, body))
		var invalid *ConfigError
		if !errors.As(err, &invalid) || invalid.Field != field || !errors.As(cfg.Validate(), &invalid) || base.Calls() != 0 || body.Closed() != 1 {
			t.Errorf("%s: error %v, %d requests, closed %d times", field, err, base.Calls(), body.Closed())
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestAnEmptyBudgetStopsRetriesNotFirstAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(status(503))
		transport := NewTransport(base, Config{Budget: NewBudget(12, 0), Backoff: steady(time.Millisecond)})
		var last Report
		for range 3 {
			last = Report{}
			resp, err := transport.RoundTrip(keyed(WithReport(t.Context(), &last), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
		}
		if base.Calls() != 3+2 || last.Stopped != StopBudget {
			t.Errorf("%d requests, stopped by %q; want 5 by the budget", base.Calls(), last.Stopped)
		}
	})
}

func TestBudgetBook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10, 1)
		tokens := func() float64 { return b.buckets["h"].tokens }
		if !b.idle() || !b.reserve("h", 5, time.Now()) || !b.reserve("h", 5, time.Now()) || b.reserve("h", 1, time.Now()) {
			t.Fatal("a full bucket holds 10 tokens")
		}
		time.Sleep(3 * time.Second)
		b.pay("h", 1, time.Now())
		if tokens() != 4 {
			t.Errorf("%v tokens after 3 s and a success, want 4", tokens())
		}
		time.Sleep(time.Hour)
		b.pay("h", 1, time.Now())
		if tokens() != 10 {
			t.Errorf("%v tokens, want no more than 10", tokens())
		}
		if !Unlimited.reserve("h", 1e9, time.Now()) || !Unlimited.idle() {
			t.Error("Unlimited has a limit")
		}
		for i := range 2 * maxBuckets {
			b.reserve(strconv.Itoa(i), 1, time.Now())
		}
		if len(b.buckets) > maxBuckets {
			t.Errorf("%d buckets are remembered", len(b.buckets))
		}
	})
}

func TestARetryThatSucceedsGetsItsTokensBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := NewBudget(100, 0)
		for range 50 {
			transport := NewTransport(answers(status(503), status(200)), Config{Budget: budget})
			resp, err := transport.RoundTrip(keyed(t.Context(), t, nil))
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			readAll(t, resp)
		}
		transport := NewTransport(answers(status(503)), Config{Budget: budget, Backoff: steady(time.Hour), MaxElapsed: -1})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Hour, errors.New("over"))
		time.AfterFunc(time.Minute, cancel)
		if _, err := transport.RoundTrip(keyed(ctx, t, nil)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if got := budget.buckets["api.example.com"].tokens; got != 100 {
			t.Errorf("%v tokens, want 100: nothing was spent in vain", got)
		}
	})
}

func TestARequestWithoutAURLIsAnErrorThatClosesTheBody(t *testing.T) {
	t.Parallel()
	body := opaque([]byte("x"))
	req := keyed(t.Context(), t, body)
	req.URL = nil
	base := answers(status(200))
	if _, err := NewTransport(base, Config{}).RoundTrip(req); err == nil || base.Calls() != 0 || body.Closed() != 1 {
		t.Errorf("error %v, %d requests, closed %d times", err, base.Calls(), body.Closed())
	}
}

func TestAnEmptyPayloadIsNone(t *testing.T) {
	t.Parallel()
	base := answers(func(r *http.Request) (*http.Response, error) {
		again, err := r.GetBody()
		if err != nil || again != http.NoBody || r.Body != http.NoBody || r.ContentLength != 0 {
			t.Errorf("%v of %d bytes, then %v, %v", r.Body, r.ContentLength, again, err)
		}
		return response(200, ""), nil
	})
	req := keyed(t.Context(), t, opaque(nil))
	req.ContentLength = -1
	resp, err := NewTransport(base, Config{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
}
