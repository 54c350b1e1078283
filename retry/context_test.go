package retry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"weak"

	"github.com/retrip-go/retrip/internal/call"
)

func TestAContextThatIsOverIsToldWithItsCause(t *testing.T) {
	t.Parallel()
	errCause := errors.New("enough")
	for name, body := range map[string]io.Reader{"before the call": nil, "while the payload is read": blocked{make(chan struct{})}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var report Report
			ctx, cancel := context.WithTimeoutCause(WithReport(t.Context(), &report), time.Millisecond, errCause)
			defer cancel()
			if body == nil {
				<-ctx.Done()
			}
			_, err := NewTransport(answers(status(200)), Config{}).RoundTrip(keyed(ctx, t, body))
			var timeout interface{ Timeout() bool }
			if !errors.Is(err, errCause) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("error %v", err)
			}
			if !errors.Is(report.Err, errCause) || report.Attempts != 0 {
				t.Errorf("report %+v", report)
			}
		})
	}
}

// blocked is a body that brings nothing until it is closed.
type blocked struct{ closed chan struct{} }

func (b blocked) Read([]byte) (int, error) {
	<-b.closed
	return 0, net.ErrClosed
}

func (b blocked) Close() error {
	close(b.closed)
	return nil
}

func TestAContextThatEndsInALaterDialIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		base := answers(status(503), func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, &net.OpError{Op: "dial", Err: req.Context().Err()}
		})
		resp, err := NewTransport(base, Config{}).RoundTrip(keyed(ctx, t, nil))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("response %v, error %v", resp, err)
		}
	})
}

func TestAForeignBodyDoesNotHoldUpTheEndOfTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(10*time.Millisecond, cancel)
		base := answers(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 503, Body: slowBody{}}, nil
		})
		start := time.Now()
		_, err := NewTransport(base, Config{Backoff: steady(0)}).RoundTrip(keyed(ctx, t, nil))
		if !errors.Is(err, context.Canceled) || base.Calls() != 1 || time.Since(start) != 10*time.Millisecond {
			t.Errorf("error %v after %v and %d requests", err, time.Since(start), base.Calls())
		}
		time.Sleep(time.Hour)
	})
}

// slowBody takes no notice of its attempt's context.
type slowBody struct{}

func (slowBody) Close() error { return nil }

func (slowBody) Read([]byte) (int, error) {
	time.Sleep(time.Minute)
	return 0, io.EOF
}

// Somebody may have something that lasts as long as it.
func TestAnAttemptsContextEndsWithItsBody(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(io.ReadCloser) error{
		"read to its end": func(body io.ReadCloser) error {
			_, err := io.Copy(io.Discard, body)
			return err
		},
		"closed": io.ReadCloser.Close,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var attempt context.Context
			base := answers(func(r *http.Request) (*http.Response, error) {
				attempt = r.Context() //nolint:fatcontext // for what becomes of it
				return response(200, "body"), nil
			})
			resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
			if err != nil {
				t.Fatal(err)
			}
			if attempt.Err() != nil {
				t.Errorf("it ended before: %v", attempt.Err())
			}
			if err := end(resp.Body); err != nil || attempt.Err() == nil {
				t.Errorf("error %v, and the context's is %v", err, attempt.Err())
			}
		})
	}
}

func TestACallWhosePayloadCannotBeReadStaysNowhere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context()) // as long-lived as a service's
	defer cancel()
	errTorn := errors.New("torn")
	made := func() weak.Pointer[call.Call] {
		c := new(call.Call).Init(ctx)
		if _, err := NewTransport(answers(status(200)), Config{}).RoundTrip(keyed(c, t, iotest.ErrReader(errTorn))); !errors.Is(err, errTorn) {
			t.Errorf("error %v", err)
		}
		return weak.Make(c)
	}()
	for range 3 {
		runtime.GC()
	}
	if made.Value() != nil {
		t.Error("the caller's context keeps the call")
	}
}
