package breaker_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

// callersFaults are requests that fail on the caller's side.
var callersFaults = map[string]func(*http.Request) *http.Request{
	"a line end in a header": func(r *http.Request) *http.Request {
		r.Header.Set("Authorization", "Bearer x\n")
		return r
	},
	"a space in a header's name": func(r *http.Request) *http.Request {
		r.Header["a b"] = []string{"c"}
		return r
	},
	"a method that is none": func(r *http.Request) *http.Request {
		r.Method = "P T"
		return r
	},
	"a control character in the URL": func(r *http.Request) *http.Request {
		r.URL.RawQuery = "a=\x01"
		return r
	},
	"a body that fails at once": func(r *http.Request) *http.Request {
		return sending(r, -1, iotest.ErrReader(errDisk))
	},
	"a body that fails halfway": func(r *http.Request) *http.Request {
		return sending(r, -1, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errDisk)))
	},
	"a body of known length that fails": func(r *http.Request) *http.Request {
		return sending(r, 100, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errDisk)))
	},
	"a body above what is allowed": func(r *http.Request) *http.Request {
		return sending(r, -1, http.MaxBytesReader(nil, io.NopCloser(strings.NewReader(strings.Repeat("x", 100))), 10))
	},
	"a body longer than its ContentLength": func(r *http.Request) *http.Request {
		return sending(r, 5, strings.NewReader("123456"))
	},
	"a body shorter than its ContentLength": func(r *http.Request) *http.Request {
		return sending(r, 5, strings.NewReader("1234"))
	},
	"bytes longer than their ContentLength": func(r *http.Request) *http.Request {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("123456")), 5
		return r
	},
	"a ContentLength without a body": func(r *http.Request) *http.Request {
		r.Body, r.ContentLength = nil, 5
		return r
	},
	"a deadline that is over": func(r *http.Request) *http.Request {
		ctx, cancel := context.WithTimeout(r.Context(), 20*time.Millisecond)
		time.AfterFunc(time.Minute, cancel)
		r.Header.Set("Silent", "yes")
		return r.WithContext(ctx)
	},
	"a caller who leaves": func(r *http.Request) *http.Request {
		ctx, cancel := context.WithCancel(r.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		r.Header.Set("Silent", "yes")
		return r.WithContext(ctx)
	},
	"a limit of ours that ends the wait in the pool": func(r *http.Request) *http.Request {
		ctx, cancel := context.WithCancelCause(r.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(&fault.TimeLimitError{Queued: true}) })
		r.Header.Set("Silent", "yes")
		return r.WithContext(ctx)
	},
	answered501: func(r *http.Request) *http.Request {
		r.Header.Set("Status", "501")
		return r
	},
}

const answered501 = "a 501"

var errDisk = errors.New("the disk is gone")

// sending gives r a body that nobody can have again.
func sending(r *http.Request, length int64, body io.Reader) *http.Request {
	closer, ok := body.(io.ReadCloser)
	if !ok {
		closer = io.NopCloser(body)
	}
	r.Body, r.GetBody, r.ContentLength = closer, nil, length
	return r
}

// newPatients starts servers that do as they are told, for HTTP/1.1 and HTTP/2.
func newPatients(t *testing.T) map[string]*httptest.Server {
	t.Helper()
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case r.Header.Get("Silent") != "":
			<-r.Context().Done()
		case r.Header.Get("Status") != "":
			w.WriteHeader(http.StatusNotImplemented)
		}
	})
	servers := map[string]*httptest.Server{}
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		s := httptest.NewUnstartedServer(serve)
		s.EnableHTTP2 = http2
		s.StartTLS()
		t.Cleanup(s.Close)
		servers[name] = s
	}
	return servers
}

func TestWhatFailsOnTheCallersSideIsIgnoredAndItsProbesPlaceIsFree(t *testing.T) {
	t.Parallel()
	for protocol, server := range newPatients(t) {
		for name, fail := range callersFaults {
			t.Run(protocol+", "+name, func(t *testing.T) {
				t.Parallel()
				// A connection for each request: what breaks one is seen by no other.
				base := server.Client().Transport.(*http.Transport).Clone()
				base.DisableKeepAlives = true
				tr := newTransport(t, base, breaker.Config{
					FailureThreshold: 1, SuccessThreshold: 1, OpenDuration: time.Nanosecond,
					Key: func(*http.Request) string { return "k" },
				})
				post := func(change func(*http.Request) *http.Request) error {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("x"))
					if err != nil {
						t.Fatal(err)
					}
					resp, err := tr.RoundTrip(change(req))
					if err == nil {
						_, _ = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					}
					return err
				}
				fine := func(r *http.Request) *http.Request { return r }
				if err := post(fine); err != nil {
					t.Fatal(err)
				}
				b := tr.Breaker("k")
				for _, half := range []bool{false, true} {
					if half {
						b.Trip()
						time.Sleep(time.Millisecond)
					}
					before := b.Snapshot()
					err := post(fail)
					if err == nil && name != answered501 {
						return // nobody objected, or the answer was faster
					}
					if after := b.Snapshot(); after.Totals.Ignored != before.Totals.Ignored+1 || after.Totals.Failure != 0 || after.Probes != 0 || after.State != before.State {
						t.Fatalf("half open %v: %+v (%v)", half, after, err)
					}
				}
				if err := post(fine); err != nil || b.State() != breaker.Closed {
					t.Errorf("the next request: %v, %v", err, b.State())
				}
			})
		}
	}
}

// A server that goes away while it is being sent something ends the body, too.
func TestABodyThatALostConnectionEndsIsNoExcuse(t *testing.T) {
	t.Parallel()
	base := stub.Func(func(req *http.Request) (*http.Response, error) {
		_ = req.Body.Close()
		_, _ = req.Body.Read(make([]byte, 1))
		return nil, io.EOF
	})
	tr := newTransport(t, base, breaker.Config{})
	body, _ := io.Pipe() // which fails after its Close
	if _, err := tr.RoundTrip(sending(request(t.Context(), http.MethodPost), -1, body)); err == nil {
		t.Fatal("no error")
	}
	if got := totals(tr); got != failure {
		t.Errorf("%+v", got)
	}
}

func TestAProxyThatAsksForCredentialsSaysNothingOfTheServer(t *testing.T) {
	t.Parallel()
	base := stub.Func(func(*http.Request) (*http.Response, error) { return nil, &fault.ProxyAuthError{Proxy: "proxy"} })
	tr := newTransport(t, base, breaker.Config{})
	if _, err := tr.RoundTrip(request(t.Context(), http.MethodGet)); err == nil {
		t.Fatal("no error")
	}
	if got := totals(tr); got != ignored {
		t.Errorf("%+v", got)
	}
}
