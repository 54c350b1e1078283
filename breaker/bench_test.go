package breaker_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/retrip-go/retrip/breaker"
)

func BenchmarkAllowSuccess(b *testing.B) {
	br := newBreaker(b, breaker.Config{})
	for _, goroutines := range []int{1, 2, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			b.ReportAllocs()
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					var p breaker.Permit
					for range b.N / goroutines {
						if br.Allow(&p) == nil {
							p.Success()
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// nothing is a base that costs as little as one can.
type nothing struct {
	resp   http.Response
	header http.Header
	body   replay
}

type replay struct{ strings.Reader }

func (*replay) Close() error { return nil }

func newNothing() *nothing {
	return &nothing{header: http.Header{"Content-Type": {"application/json"}, "Content-Length": {"1024"}}}
}

var kibibyte = strings.Repeat("x", 1024)

func (n *nothing) RoundTrip(req *http.Request) (*http.Response, error) {
	n.body.Reset(kibibyte)
	n.resp = http.Response{StatusCode: http.StatusOK, Header: n.header, Body: &n.body, ContentLength: 1024, Request: req}
	return &n.resp, nil
}

func roundTrip(tb testing.TB, rt http.RoundTripper, req *http.Request, buf []byte) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	for err == nil {
		_, err = resp.Body.Read(buf)
	}
	if !errors.Is(err, io.EOF) {
		tb.Fatal(err)
	}
	_ = resp.Body.Close()
}

func BenchmarkTransport(b *testing.B) {
	req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, "https://api.openai.com/v1/chat/completions", http.NoBody)
	buf := make([]byte, 2048)
	transport := breaker.NewTransport(newNothing(), breaker.Config{})
	b.Cleanup(func() { _ = transport.Close() })
	for _, bench := range []struct {
		name string
		rt   http.RoundTripper
	}{
		{"bare", newNothing()},
		{"breaker", transport},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, bench.rt, req, buf)
			}
		})
	}
}
