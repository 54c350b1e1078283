package openai_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// BenchmarkFirstEvent measures the time from a call to the first useful event
// of its stream, over loopback; bare and chain take turns in one run, so that
// what disturbs the machine disturbs both.
func BenchmarkFirstEvent(b *testing.B) {
	srv := newServer(b)
	base := openai.BaseTransport()
	b.Cleanup(base.CloseIdleConnections)
	chain := newChain(b, base, openai.Config{})
	answer := openaitest.Stream(roleEvent, tokenEvent, endEvent, doneEvent)
	srv.Always(openaitest.Chat, answer)
	first := func(over http.RoundTripper) time.Duration {
		req, err := retry.NewRequest(b.Context(), http.MethodPost, srv.URL+"/chat/completions", []byte(streamed))
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		resp, err := over.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		var seen []byte
		for buffer := make([]byte, 4<<10); !bytes.Contains(seen, []byte(`"content":"x"`)); {
			n, err := resp.Body.Read(buffer)
			if seen = append(seen, buffer[:n]...); err != nil && n == 0 {
				b.Fatal(err)
			}
		}
		took := time.Since(start)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return took
	}
	var bare, through time.Duration
	n := 0
	for b.Loop() {
		bare += first(base)
		through += first(chain)
		n++
	}
	b.ReportMetric(float64(bare.Nanoseconds())/float64(n), "bare-ns")
	b.ReportMetric(float64(through.Nanoseconds())/float64(n), "chain-ns")
	b.ReportMetric(float64((through-bare).Nanoseconds())/float64(n), "added-ns")
}
