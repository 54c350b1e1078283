package retry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
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
		{"DNS that takes too long", dial(&net.DNSError{IsTimeout: true}), true},
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
		"not Safe":            {once, Config{Safe: unsafe}, nil, false},
		"one attempt":         {once, Config{}, nil, false},
		"MaxAttempts 1":       {context.Background(), Config{MaxAttempts: 1}, nil, false},
		"no budget":           {context.Background(), Config{Budget: NewBudget(0, 0)}, nil, false},
		"no time":             {context.Background(), Config{MaxElapsed: time.Millisecond}, nil, false},
		"a Policy that stops": {context.Background(), Config{Policy: func(*Attempt) Decision { return Stop(StopPolicy) }}, nil, false},
		"a context that ends": {ended, Config{}, []stub.Func{func(*http.Request) (*http.Response, error) { cancel(io.ErrClosedPipe); return nil, lost }}, false},
		"repeated":            {context.Background(), Config{MaxAttempts: 2}, nil, true},
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

func TestARejectionIsNoAttempt(t *testing.T) {
	t.Parallel()
	for _, safe := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var report Report
			base := answers(reject())
			body := opaque([]byte("payload"))
			start := time.Now()
			_, err := NewTransport(base, Config{Safe: func(*http.Request) bool { return safe }}).
				RoundTrip(keyed(WithReport(t.Context(), &report), t, body))
			if !errors.Is(err, rejection{}) || base.Calls() != 1 || body.Closed() != 1 || time.Since(start) != 0 {
				t.Errorf("safe %v: error %v after %d requests and %v, body closed %d times", safe, err, base.Calls(), time.Since(start), body.Closed())
			}
			if report.Attempts != 0 || report.Stopped != NotRetryable {
				t.Errorf("safe %v: report %+v", safe, report)
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
