package retry

import (
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
)

func TestMaxReplayBytesMayBeAsLargeAsItGets(t *testing.T) {
	t.Parallel()
	base := answers(status(200))
	resp, err := NewTransport(base, Config{MaxReplayBytes: math.MaxInt64}).RoundTrip(keyed(t.Context(), t, opaque([]byte("payload"))))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); string(base.bodies[0]) != "payload" {
		t.Errorf("sent %q", base.bodies[0])
	}
}

func TestAPauseIsNotWaitedOutForAPayloadThatIsUsedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var report Report
		base := answers(reject(time.Second, true)) // which reads the payload, as a signer above a breaker
		body := opaque([]byte("payload"))
		req := keyed(WithReport(t.Context(), &report), t, body)
		start := time.Now()
		_, err := NewTransport(base, Config{Safe: func(*http.Request) bool { return false }}).RoundTrip(req)
		if _, ok := fault.AsRejection(err); !ok || time.Since(start) != 0 || body.closed != 1 || report.Attempts != 0 {
			t.Errorf("error %v after %v, body closed %d times, report %+v", err, time.Since(start), body.closed, report)
		}
	})
}

func TestGetBodyFailsOnceThePayloadIsLetGo(t *testing.T) {
	t.Parallel()
	var getBody func() (io.ReadCloser, error)
	base := answers(func(req *http.Request) (*http.Response, error) {
		getBody = req.GetBody
		return response(200, ""), nil
	})
	resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, strings.NewReader("payload")))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	if body, err := getBody(); err == nil {
		sent, _ := io.ReadAll(body)
		t.Errorf("a late replay would send %q", sent)
	}
}

// A base may begin to read a body after it has returned.
func TestABodyThatIsReadDuringAWaitIsNotSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			calls++
			go func() {
				time.Sleep(time.Second)
				_, _ = io.ReadAll(r.Body)
				_ = r.Body.Close()
			}()
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		})
		req := keyed(t.Context(), t, opaque([]byte("payload")))
		_, err := NewTransport(base, Config{
			Backoff: steady(2 * time.Second), Safe: func(*http.Request) bool { return false },
			Repeatable: func(a *Attempt) bool { return a.NotSent },
		}).RoundTrip(req)
		if !errors.Is(err, errStreamUsed) || calls != 1 {
			t.Errorf("error %v after %d requests", err, calls)
		}
	})
}

func TestABodyThatABaseWithAnErrorLeftOpenIsClosed(t *testing.T) {
	t.Parallel()
	body := opaque([]byte("payload"))
	_, err := NewTransport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF }), Config{
		Safe: func(*http.Request) bool { return false },
	}).RoundTrip(keyed(t.Context(), t, body))
	if !errors.Is(err, io.EOF) || body.closed != 1 {
		t.Errorf("error %v, closed %d times", err, body.closed)
	}
}
