package retry

import (
	"bytes"
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

func TestAPauseIsNotWaitedOutForAPayloadThatIsUsedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var report Report
		base := answers(reject(time.Second, true)) // which reads the payload, as a signer above a breaker
		body := opaque([]byte("payload"))
		req := keyed(WithReport(t.Context(), &report), t, body)
		start := time.Now()
		_, err := NewTransport(base, Config{Safe: func(*http.Request) bool { return false }}).RoundTrip(req)
		if _, ok := fault.AsRejection(err); !ok || time.Since(start) != 0 || body.Closed() != 1 || report.Attempts != 0 {
			t.Errorf("error %v after %v, body closed %d times, report %+v", err, time.Since(start), body.Closed(), report)
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
		base := stub.Func(func(r *http.Request) (*http.Response, error) {
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
	_, err := NewTransport(stub.Func(func(*http.Request) (*http.Response, error) { return nil, io.EOF }), Config{
		Safe: func(*http.Request) bool { return false },
	}).RoundTrip(keyed(t.Context(), t, body))
	if !errors.Is(err, io.EOF) || body.Closed() != 1 {
		t.Errorf("error %v, closed %d times", err, body.Closed())
	}
}

// The caller's bytes are sent as they are, and may be used for something else
// as soon as net/http's callers may: once the response's body is closed.
func TestTheCallersBytesAreNotReadOnceTheCallIsOver(t *testing.T) {
	t.Parallel()
	ends := map[string]func(req *http.Request) (*http.Response, error){
		"with the end of an answer": status(200),
		"with a failure":            failure(errors.New("broken")),
		"with an answer without a body": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, nil
		},
		"with a wait that is not begun": status(503, "Retry-After", "3600"),
	}
	for how, end := range ends {
		for name, request := range map[string]func(data []byte) (*http.Request, error){
			"http.NewRequest, bytes.Reader": func(data []byte) (*http.Request, error) {
				return http.NewRequestWithContext(t.Context(), http.MethodPut, testURL, bytes.NewReader(data))
			},
			"http.NewRequest, bytes.Buffer": func(data []byte) (*http.Request, error) {
				return http.NewRequestWithContext(t.Context(), http.MethodPut, testURL, bytes.NewBuffer(data))
			},
			"NewRequest": func(data []byte) (*http.Request, error) {
				return NewRequest(t.Context(), http.MethodPut, testURL, data)
			},
		} {
			data := []byte("payload")
			var late []io.ReadCloser
			base := stub.Func(func(req *http.Request) (*http.Response, error) {
				again, err := req.GetBody()
				if err != nil {
					return nil, err
				}
				late = append(late, req.Body, again)
				if len(late) == 2 {
					return response(503, "down"), nil // while it is still being sent
				}
				return end(req)
			})
			req, err := request(data)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := NewTransport(base, Config{Backoff: steady(time.Microsecond), MaxAttempts: 2}).RoundTrip(req)
			if err == nil {
				if resp.Body != http.NoBody {
					if _, err := late[3].Read(make([]byte, 1)); err != nil {
						t.Errorf("%s, %s: a payload that is still being sent was cut: %v", name, how, err)
					}
				}
				readAll(t, resp)
			}
			clear(data)
			if len(late) != 4 {
				t.Fatalf("%s, %s: %d readers", name, how, len(late))
			}
			for i, body := range late {
				if got, err := io.ReadAll(body); err == nil || len(got) > 0 {
					t.Errorf("%s, %s: reader %d read %q, %v", name, how, i, got, err)
				}
			}
		}
	}
}

func TestBytesThatAreStreamedAreGivenBackToo(t *testing.T) {
	t.Parallel()
	inMemory := func(data []byte, change func(*http.Request)) *http.Request {
		req := keyed(t.Context(), t, bytes.NewReader(data))
		change(req)
		return req
	}
	for name, request := range map[string]func(data []byte) *http.Request{
		"not Safe": func(data []byte) *http.Request {
			return inMemory(data, func(r *http.Request) { r.Header.Del("Idempotency-Key") })
		},
		"with Expect": func(data []byte) *http.Request {
			return inMemory(data, func(r *http.Request) { r.Header.Set("Expect", "100-continue") })
		},
		"an upgrade": func(data []byte) *http.Request {
			return inMemory(data, func(r *http.Request) { r.Header.Set("Upgrade", "x") })
		},
		"above the limit":             func(data []byte) *http.Request { return inMemory(data, func(*http.Request) {}) },
		"of unknown length, above it": func(data []byte) *http.Request { return inMemory(data, func(r *http.Request) { r.ContentLength = -1 }) },
		"of NewRequest, begun elsewhere": func(data []byte) *http.Request {
			req, err := NewRequest(t.Context(), http.MethodPut, testURL, data)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = req.Body.Read(make([]byte, 1))
			req.ContentLength--
			return req
		},
	} {
		for how, code := range map[string]int{"whole": 200, "in vain": 500, "switched": 101} {
			data := bytes.Repeat([]byte("a"), 1000)
			var sent io.ReadCloser
			base := stub.Func(func(req *http.Request) (*http.Response, error) {
				sent = req.Body
				if _, err := sent.Read(make([]byte, 10)); err != nil {
					t.Errorf("%s, %s: %v", name, how, err)
				}
				return response(code, ""), nil
			})
			resp, err := NewTransport(base, Config{MaxReplayBytes: 100, MaxAttempts: 1}).RoundTrip(request(data))
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
			clear(data)
			if got, err := io.ReadAll(sent); err == nil || len(got) > 0 {
				t.Errorf("%s, %s: then %d bytes were read, %v", name, how, len(got), err)
			}
		}
	}
}
