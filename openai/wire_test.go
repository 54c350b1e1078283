package openai_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/retrip-go/retrip/openai"
)

// A countedConn counts its Writes.
type countedConn struct {
	net.Conn

	writes *atomic.Int32
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// serve returns the URL of a server, and a base for it.
func serve(t *testing.T, http2 bool, handler http.HandlerFunc) (url string, base *http.Transport) {
	t.Helper()
	srv := httptest.NewUnstartedServer(handler)
	if srv.EnableHTTP2 = http2; http2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv.URL, srv.Client().Transport.(*http.Transport)
}

func TestASmallPayloadIsSentInOneWriteWithItsHeaders(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"kept": "/v1/chat/completions", "kept though stateful": "/v1/responses", "handed on": "/v1/batches"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, base := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{}`)
			})
			var writes, conns atomic.Int32
			base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conns.Add(1)
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				return countedConn{conn, &writes}, err
			}
			tr := newChain(t, base, openai.Config{})
			for range 10 {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader(hello))
				if err != nil {
					t.Fatal(err)
				}
				if got := do(t, tr, req); got.err != nil || got.status != 200 {
					t.Fatalf("%+v", got)
				}
			}
			if writes.Load() != 10 || conns.Load() != 1 {
				t.Errorf("%d writes on %d connections", writes.Load(), conns.Load())
			}
		})
	}
}

// A blockedUpload blocks in Read and hears of nothing, not even of its Close.
type blockedUpload struct{ until chan struct{} }

func (b blockedUpload) Read([]byte) (int, error) {
	<-b.until
	return 0, io.EOF
}

func (blockedUpload) Close() error { return nil }

func TestAnUploadThatHearsOfNothingDoesNotHoldACallPastItsDeadline(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"that is kept": "/v1/chat/completions", "that is handed on": "/v1/files"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, base := serve(t, true, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			tr := newChain(t, base, openai.Config{})
			body := blockedUpload{make(chan struct{})}
			defer close(body.until)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, body)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				resp, err := tr.RoundTrip(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				done <- err
			}()
			select {
			case err := <-done:
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("it ends with %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("it hangs")
			}
		})
	}
}
