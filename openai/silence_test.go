package openai_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// silent is a base that takes a request and never answers.
func silent(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, context.Cause(req.Context())
}

// wantTimeout fails the test unless err is a timeout of the named field.
func wantTimeout(t *testing.T, err error, field string) {
	t.Helper()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() || !strings.Contains(err.Error(), field) {
		t.Errorf("ended with %v, want a timeout of %s", err, field)
	}
}

func TestASilentProviderIsNotWaitedForWithoutEnd(t *testing.T) {
	t.Parallel()
	pings := make([]part, 2000)
	for i := range pings {
		pings[i] = part{time.Second, ": ping\n\n"}
	}
	for name, row := range map[string]struct {
		base stub.Func
		cfg  openai.Config
		want time.Duration
	}{
		"before its headers":          {silent, openai.Config{}, openai.DefaultFirstEventTimeout},
		"a stream of pings":           {timed(pings...), openai.Config{}, openai.DefaultFirstEventTimeout},
		"a stream of pings, Whole":    {timed(pings...), openai.Config{Delivery: openai.Whole}, openai.DefaultFirstEventTimeout},
		"a limit of the caller's own": {silent, openai.Config{FirstEventTimeout: time.Minute}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				base := stub.Func(func(req *http.Request) (*http.Response, error) {
					sent++
					return row.base(req)
				})
				start := time.Now()
				resp, err := openai.NewTransport(base, row.cfg).RoundTrip(chatRequest(context.Background(), t))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				wantTimeout(t, err, "FirstEventTimeout")
				if took := time.Since(start); took != row.want || sent != 1 {
					t.Errorf("ended after %v and %d requests, want %v and 1", took, sent, row.want)
				}
			})
		})
	}
}

// The time in which the provider does not have the whole request is not the
// provider's silence.
func TestFirstEventTimeoutBeginsWhenTheRequestIsWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := stub.Func(func(req *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(req.Context())
			trace.GetConn("x")
			time.Sleep(time.Hour) // a place in the pool, an upload
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			return silent(req)
		})
		start := time.Now()
		_, err := openai.NewTransport(base, openai.Config{FirstEventTimeout: time.Minute}).RoundTrip(chatRequest(t.Context(), t))
		wantTimeout(t, err, "FirstEventTimeout")
		if took := time.Since(start); took != time.Hour+time.Minute {
			t.Errorf("ended after %v", took)
		}
	})
}

// A slowReader needs a minute for each Read, as an upload over a slow line does.
type slowReader struct{ io.Reader }

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(time.Minute)
	return r.Reader.Read(p)
}

// A base without httptrace does not say when a request is written. Of a payload that is
// not in memory its last Read says so, or its Close.
func TestFirstEventTimeoutBeginsWhenAnUploadWithoutATraceIsRead(t *testing.T) {
	t.Parallel()
	const pieces = 60
	for name, row := range map[string]struct {
		path, key string
		length    int64 // announced
		limit     int64 // MaxReplayBytes
		getBody   bool
		read      func(body io.ReadCloser)
		want      time.Duration
	}{
		"to its end":    {read: func(b io.ReadCloser) { _, _ = io.Copy(io.Discard, b) }, length: -1, limit: 1, want: (pieces + 1) * time.Minute},
		"to its length": {read: func(b io.ReadCloser) { _, _ = io.CopyN(io.Discard, b, pieces) }, length: pieces, limit: 1, want: pieces * time.Minute},
		"to its length, with GetBody": {
			read: func(b io.ReadCloser) { _, _ = io.CopyN(io.Discard, b, pieces) }, length: pieces, limit: 1, getBody: true, want: pieces * time.Minute,
		},
		"closed early": {
			read: func(b io.ReadCloser) { _, _ = io.CopyN(io.Discard, b, 1); _ = b.Close() }, length: pieces, limit: 1, want: time.Minute,
		},
		"an upload that is not buffered": {
			path: "/v1/files", read: func(b io.ReadCloser) { _, _ = io.Copy(io.Discard, b) }, length: -1, want: (pieces + 1) * time.Minute,
		},
		"in memory, without GetBody": {
			path: "/v1/responses", key: "k", read: func(b io.ReadCloser) { _, _ = io.Copy(io.Discard, b) }, length: pieces, want: (pieces + 1) * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := stub.Func(func(req *http.Request) (*http.Response, error) {
					row.read(req.Body)
					return silent(req)
				})
				payload := func() (io.ReadCloser, error) {
					return io.NopCloser(slowReader{iotest.OneByteReader(strings.NewReader(strings.Repeat(" ", pieces)))}), nil
				}
				req := request(t, t.Context(), http.MethodPost, "http://x"+cmp.Or(row.path, "/v1/chat/completions"), "")
				req.Body, _ = payload()
				req.ContentLength = row.length
				if row.getBody {
					req.GetBody = payload
				}
				if row.key != "" {
					req.Header.Set("Idempotency-Key", row.key)
				}
				start := time.Now()
				_, err := newChain(t, base, openai.Config{FirstEventTimeout: time.Hour, Retry: retry.Config{MaxReplayBytes: row.limit}}).RoundTrip(req)
				wantTimeout(t, err, "FirstEventTimeout")
				if took := time.Since(start); took != row.want+time.Hour {
					t.Errorf("ended after %v, want %v", took, row.want+time.Hour)
				}
			})
		})
	}
}

// What bounds itself, or can't be judged, is left alone.
func TestNobodyIsHurriedWhoHasALimitOrNoFormat(t *testing.T) {
	t.Parallel()
	slow := timed(part{0, "a"}, part{time.Hour, "b"})
	for name, row := range map[string]struct {
		method, path string
		base         stub.Func
		deadline     time.Duration
		want         time.Duration
	}{
		"a call with a deadline":    {http.MethodPost, "/v1/chat/completions", silent, 20 * time.Minute, 20 * time.Minute},
		"a batch's file":            {http.MethodGet, "/v1/files/f/content", slow, 0, time.Hour},
		"an endpoint without a row": {http.MethodPost, "/v1/generate", slow, 0, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				if row.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.deadline)
					defer cancel()
				}
				start := time.Now()
				resp, err := openai.NewTransport(row.base, openai.Config{}).RoundTrip(request(t, ctx, row.method, "http://x"+row.path, streamed))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if took := time.Since(start); took != row.want || (err != nil) != (row.deadline > 0) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended after %v with %v", took, err)
				}
			})
		})
	}
}

// The attempt of headers that come when its time is over has ended: nobody could
// read what they promise, and its reader would be told of a context's end that is
// not his.
func TestHeadersThatComeWhenTheTimeIsOverComeTooLate(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/chat/completions", "/v1/responses", "/v1/files"} {
		for _, status := range []int{200, 204, 302, 409, 503} {
			t.Run(fmt.Sprintf("%s %d", path, status), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					body := new(stub.Body)
					base := stub.Func(func(req *http.Request) (*http.Response, error) {
						<-req.Context().Done()
						body.Reader = iotest.ErrReader(req.Context().Err()) // as HTTP/2 has it
						return &http.Response{StatusCode: status, Header: http.Header{}, Body: body, ContentLength: -1}, nil
					})
					resp, err := newChain(t, base, openai.Config{FirstEventTimeout: time.Minute}).RoundTrip(request(t, context.Background(), http.MethodPost, "http://x"+path, streamed))
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						_ = resp.Body.Close()
					}
					wantTimeout(t, err, "FirstEventTimeout")
					if n := body.Closed(); n == 0 || errors.Is(err, context.Canceled) {
						t.Errorf("the body was closed %d times; %v", n, err)
					}
				})
			})
		}
	}
}
