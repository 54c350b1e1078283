package retry

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestMaxReplayBytesMayBeAsLargeAsItGets(t *testing.T) {
	t.Parallel()
	base := answers(status(200))
	resp, err := NewTransport(base, Config{MaxReplayBytes: math.MaxInt64}).RoundTrip(keyed(t.Context(), t, opaque([]byte("payload"))))
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); base.Payloads()[0] != "payload" {
		t.Errorf("sent %q", base.Payloads()[0])
	}
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
		base := stub.Func(func(r *http.Request) (*http.Response, error) {
			calls++
			httptrace.ContextClientTrace(r.Context()).GetConn(r.URL.Host)
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
	_, err := NewTransport(stub.Func(func(*http.Request) (*http.Response, error) { return nil, io.EOF }), Config{
		Safe: func(*http.Request) bool { return false },
	}).RoundTrip(keyed(t.Context(), t, body))
	if !errors.Is(err, io.EOF) || body.Closed() != 1 {
		t.Errorf("error %v, closed %d times", err, body.Closed())
	}
}

// What net/http replays by itself, it replays through a Transport, and no more.
func TestAnAttemptHasAGetBodyWhereNetHTTPWouldReplayItToo(t *testing.T) {
	t.Parallel()
	own := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("payload")), nil }
	for name, row := range map[string]struct {
		kept, safe, own, key bool
		want                 bool
	}{
		"kept, safe":                             {kept: true, safe: true, want: true},
		"kept, safe, with a key":                 {kept: true, safe: true, key: true, want: true},
		"kept, unsafe":                           {kept: true, want: true},
		"kept, unsafe, with a key":               {kept: true, key: true, want: false},
		"kept, unsafe, with a key and a GetBody": {kept: true, key: true, own: true, want: true},
		"handed on":                              {want: false},
		"handed on, with a key":                  {key: true, want: false},
		"handed on, with a GetBody":              {own: true, want: true},
		"handed on, with a key and a GetBody":    {key: true, own: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got *http.Request
			base := answers(func(r *http.Request) (*http.Response, error) {
				got = r
				if r.GetBody != nil {
					again, err := r.GetBody()
					if err != nil {
						return nil, err
					}
					if sent, err := io.ReadAll(again); string(sent) != "payload" || err != nil {
						t.Errorf("GetBody yields %q, %v", sent, err)
					}
				}
				return response(200, ""), nil
			})
			c := (&call.Call{Listener: new(listener), ReadsPayload: row.kept}).Init(t.Context())
			req := keyed(c, t, opaque([]byte("payload")))
			if !row.key {
				req.Header.Del("Idempotency-Key")
			}
			if row.own {
				req.GetBody = own
			}
			resp, err := NewTransport(base, Config{Safe: func(*http.Request) bool { return row.safe }}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
			if (got.GetBody != nil) != row.want || base.Payloads()[0] != "payload" {
				t.Errorf("GetBody: %v, sent %q", got.GetBody != nil, base.Payloads()[0])
			}
		})
	}
}

// net/http knows what is in memory, and sends it in one write with the headers.
func TestABodyInMemoryThatIsNotKeptIsHandedOnAsItIs(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]io.Reader{
		"a bytes.Reader": bytes.NewReader([]byte("payload")), "a bytes.Buffer": bytes.NewBufferString("payload"), "a strings.Reader": strings.NewReader("payload"),
	} {
		var sent io.ReadCloser
		base := stub.Func(func(r *http.Request) (*http.Response, error) {
			sent = r.Body
			return response(200, ""), nil
		})
		req := keyed(t.Context(), t, body)
		resp, err := NewTransport(base, Config{Safe: func(*http.Request) bool { return false }}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if readAll(t, resp); sent != req.Body {
			t.Errorf("%s: sent as %T", name, sent)
		}
	}
}

func TestABodyInMemoryIsSentAgainOnlyIfItCanBeHadAgain(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		getBody bool
		calls   int
	}{"with a GetBody": {true, 2}, "without": {false, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := answers(unconnected(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), status(200))
			req := keyed(t.Context(), t, strings.NewReader("payload"))
			if !row.getBody {
				req.GetBody = nil
			}
			resp, err := NewTransport(base, Config{
				Backoff: steady(time.Microsecond), Safe: func(*http.Request) bool { return false },
				Repeatable: func(a *Attempt) bool { return a.NotSent },
			}).RoundTrip(req)
			if err == nil {
				readAll(t, resp)
			}
			if (err == nil) != row.getBody || base.Calls() != row.calls || base.Payloads()[base.Calls()-1] != "payload" {
				t.Errorf("error %v after %d requests, sent %q", err, base.Calls(), base.Payloads())
			}
		})
	}
}

func TestAPayloadThatIsKeptIsACopy(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 100_000} {
		data := bytes.Repeat([]byte("x"), size)
		var late []io.ReadCloser
		base := stub.Func(func(r *http.Request) (*http.Response, error) {
			again, err := r.GetBody()
			late = append(late, r.Body, again)
			return response(200, ""), err
		})
		resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		clear(data) // what net/http's callers may do now
		for _, body := range late {
			if sent, err := io.ReadAll(body); err != nil || len(sent) != size || bytes.Count(sent, []byte("x")) != size {
				t.Errorf("%d bytes of %d, %v", len(sent), size, err)
			}
		}
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
