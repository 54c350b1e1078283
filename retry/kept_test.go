package retry

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
)

func TestAKeptResponseEndsAsItEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(func(*http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
			return &http.Response{StatusCode: 503, Body: io.NopCloser(body)}, nil
		}, reject())
		resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); string(got) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read %q, then %v", got, err)
		}
	})
}

func TestAResponseOf64KiBIsKept(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{64 << 10: 503, 64<<10 + 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			base := answers(func(*http.Request) (*http.Response, error) { return response(503, strings.Repeat("x", size)), nil }, reject())
			resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
			got := 0
			if err == nil {
				got = resp.StatusCode
				readAll(t, resp)
			}
			if got != want {
				t.Errorf("of %d bytes: status %d, error %v", size, got, err)
			}
		})
	}
}

func TestARejectedRetryReturnsTheKeptResponse(t *testing.T) {
	t.Parallel()
	first := strings.Repeat("kept ", 1000)
	for name, second := range map[string]func(*http.Request) (*http.Response, error){
		"open":       reject(),
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
		base := answers(status(503), failure(io.EOF), reject())
		_, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
		if !fault.IsRejection(err) || base.Calls() != 3 {
			t.Errorf("error %v after %d requests", err, base.Calls())
		}
	})
}

func TestAResponseTooLargeToKeepIsReplacedByTheRejection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(func(*http.Request) (*http.Response, error) {
			return response(503, strings.Repeat("x", maxDrainBytes+1)), nil
		}, reject())
		_, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
		if !fault.IsRejection(err) {
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
