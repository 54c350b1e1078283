package retry

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

// listen serves each connection with handle, which may close it at any point.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			handle(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func hangUp(net.Conn) {}

func hangUpAfterReading(conn net.Conn) {
	if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
}

func proven(a *Attempt) bool { return a.NotSent }

func TestWhatWasProvenNeverSentIsRepeatedIfAsked(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		scheme     string
		server     func(net.Conn)
		repeatable func(*Attempt) bool
		attempts   int
	}{
		"cut off in the TLS handshake":                  {"https", hangUp, proven, 3},
		"cut off in the TLS handshake, nobody is asked": {"https", hangUp, nil, 1},
		"cut off when the request was read":             {"http", hangUpAfterReading, proven, 1},
		"cut off when connected":                        {"http", hangUp, proven, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := listen(t, row.server)
			base := &http.Transport{DisableKeepAlives: true}
			var report Report
			ctx := WithReport(t.Context(), &report)
			body := opaque([]byte("payload"))
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, row.scheme+"://"+addr, body)
			if err != nil {
				t.Fatal(err)
			}
			transport := NewTransport(base, Config{MaxAttempts: 3, Backoff: steady(time.Millisecond), Repeatable: row.repeatable})
			resp, err := transport.RoundTrip(req)
			if err == nil {
				t.Fatalf("a response: %v", resp)
			}
			if report.Attempts != row.attempts {
				t.Errorf("%d attempts, want %d (%v)", report.Attempts, row.attempts, err)
			}
			if body.Closed() != 1 {
				t.Errorf("the body was closed %d times", body.Closed())
			}
		})
	}
}

func TestABaseWithoutHooksProvesNothing(t *testing.T) {
	t.Parallel()
	base := answers(failure(errors.New("lost")), status(200))
	transport := NewTransport(base, Config{Backoff: steady(time.Millisecond), Repeatable: proven})
	req, err := NewRequest(t.Context(), http.MethodPost, testURL, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(req); err == nil || base.Calls() != 1 {
		t.Errorf("%d calls, %v", base.Calls(), err)
	}
}

func TestRepeatableMayRepeatWhatIsKept(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		kept bool
		yes  bool
		want int
	}{
		"kept":               {true, true, 2},
		"kept, but no proof": {true, false, 1},
		"streamed":           {false, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := answers(status(429), status(200))
			transport := NewTransport(base, Config{
				Backoff:    steady(time.Millisecond),
				Repeatable: func(a *Attempt) bool { return row.yes && !a.Safe },
			})
			req, err := NewRequest(t.Context(), http.MethodPost, testURL, []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			if !row.kept {
				req.Body, req.GetBody = opaque([]byte("payload")), nil
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
			if base.Calls() != row.want {
				t.Errorf("%d attempts, want %d", base.Calls(), row.want)
			}
		})
	}
}

func TestRepeatableIsNotAskedOfWhatIsNotRetryable(t *testing.T) {
	t.Parallel()
	for name, base := range map[string]*stub.Base{"success": answers(status(200)), "a mistake": answers(status(400))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := NewTransport(base, Config{Repeatable: func(*Attempt) bool {
				t.Error("asked")
				return true
			}})
			req, err := NewRequest(t.Context(), http.MethodPost, testURL, []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
		})
	}
}

func TestTheCallersTraceIsStillTold(t *testing.T) {
	t.Parallel()
	addr := listen(t, func(conn net.Conn) {
		hangUpAfterReading(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	var told atomic.Int32
	ctx := httptrace.WithClientTrace(context.WithoutCancel(t.Context()), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { told.Add(1) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr, strings.NewReader("payload"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := NewTransport(&http.Transport{DisableKeepAlives: true}, Config{Repeatable: proven}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	if told.Load() != 1 {
		t.Errorf("the caller's trace was told %d times", told.Load())
	}
}

// A base that dials by other means, as for HTTP/3, may have sent something with
// its first packet.
func TestNotSentIsProvenByNetHTTPAlone(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, row := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		want   bool
	}{
		"a dial error of another base":      {failure(dial), false},
		"a DNS error of another base":       {failure(&net.DNSError{IsTemporary: true}), false},
		"a TLS error of another base":       {failure(tls.RecordHeaderError{}), false},
		"no connection of net/http's":       {unconnected(dial), true},
		"a lost connection of net/http's":   {disconnected(syscall.ECONNRESET), false},
		"a second dial, after a connection": {disconnected(dial), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got := false
				_, err := NewTransport(answers(row.answer), Config{
					Safe: func(*http.Request) bool { return false }, Repeatable: proven,
					Policy: func(a *Attempt) Decision { got = a.NotSent; return Stop(StopPolicy) },
				}).RoundTrip(keyed(t.Context(), t, nil))
				if err == nil || got != row.want {
					t.Errorf("NotSent = %v (%v)", got, err)
				}
			})
		})
	}
}

func TestAnAttemptTimeoutInTheConnectionPoolSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		base := &http.Transport{MaxConnsPerHost: 1, DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				if _, err := http.ReadRequest(bufio.NewReader(there)); err != nil {
					return
				}
				<-release
			}()
			return here, nil
		}}
		defer base.CloseIdleConnections()
		send := func(timeout time.Duration) error {
			req := keyed(t.Context(), t, nil)
			req.URL.Scheme = "http"
			resp, err := NewTransport(base, Config{AttemptTimeout: timeout, MaxAttempts: 1}).RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			return err
		}
		first := make(chan error)
		go func() { first <- send(time.Minute) }()
		synctest.Wait()
		var queued, sent *fault.TimeLimitError
		if err := send(time.Second); !errors.As(err, &queued) || !queued.Queued || !strings.Contains(err.Error(), "MaxConnsPerHost") {
			t.Errorf("in the pool: %v", err)
		}
		if err := <-first; !errors.As(err, &sent) || sent.Queued {
			t.Errorf("once sent: %v", err)
		}
		close(release)
	})
}
