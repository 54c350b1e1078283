package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

const inBackground = `{"model":"m","input":"hi","background":true,"stream":true}`

// behind starts HAProxy before a provider, and returns a client that goes through it.
func behind(ctx context.Context, t *testing.T, provider string, http2 bool) (*rig, *retrip.Transport) {
	t.Helper()
	r := &rig{dir: t.TempDir(), proxied: haproxy{defaults: "option http-no-delay"}, upstream: provider}
	t.Cleanup(func() { r.proxy.stop() })
	var err error
	if http2 {
		if r.secure, r.roots, err = certify(r.dir); err != nil {
			t.Fatal(err)
		}
	}
	if r.address, err = freeAddress(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.startProxy(ctx); err != nil {
		t.Fatal(err)
	}
	base := retrip.BaseTransport()
	base.TLSClientConfig.RootCAs = r.roots
	chain := retrip.NewTransport(base, retrip.Config{}) //nolint:contextcheck // a Transport is for many calls
	t.Cleanup(func() {
		_ = chain.Close()
		chain.CloseIdleConnections()
	})
	return r, chain
}

func TestAResponseInTheBackgroundIsWholeThoughHAProxyIsKilledInItsMidst(t *testing.T) {
	t.Parallel()
	if !installed(t) {
		return
	}
	for name, http2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			provider := openaitest.NewServer()
			defer provider.Close()
			text := strings.TrimSpace(strings.Repeat("word ", 40))
			provider.Always(openaitest.Responses, openaitest.Answer{Text: text, Pace: 25 * time.Millisecond})
			r, chain := behind(ctx, t, strings.TrimSuffix(strings.TrimPrefix(provider.URL, "http://"), "/v1"), http2)
			var report retry.Report
			req, err := retry.NewRequest(retry.WithReport(ctx, &report), http.MethodPost, r.url()+"/v1/responses", []byte(inBackground))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := chain.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var got bytes.Buffer
			for _, events := range []int{8, 25} { // and then it is killed
				for bytes.Count(got.Bytes(), []byte("\n\n")) < events {
					if _, err := io.CopyN(&got, resp.Body, 64); err != nil {
						t.Fatalf("%v after %s", err, &got)
					}
				}
				r.proxy.kill()
				wait(ctx, outage)
				if err := r.startProxy(ctx); err != nil {
					t.Fatal(err)
				}
			}
			_, err = io.Copy(&got, resp.Body)
			provider.Always(openaitest.Responses, openaitest.OK())
			want := stored(ctx, t, provider)
			if err != nil || got.String() != want || report.Resumes < 2 {
				t.Errorf("%v, %+v: %s\nwant %s", err, report, &got, want)
			}
			t.Logf("%d requests to resume", report.Resumes)
		})
	}
}

// stored returns the whole stream as the provider has it.
func stored(ctx context.Context, t *testing.T, provider *openaitest.Server) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, provider.URL+"/responses/resp_1?stream=true", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := provider.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}
