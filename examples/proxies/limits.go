package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
)

// A crowd makes more calls than a proxy lets through.
type crowd struct {
	name           string
	proxy          proxy
	callers, calls int  // so many callers at the same time, so many calls of each
	mayFail        bool // of retrip's calls, too: the README says why
}

// limit is how many requests a second the proxies let through.
const limit = 40

func crowds() []crowd {
	limits := []crowd{
		{name: "nginx: limit_req, burst, 429", proxy: limitReq("burst=10 nodelay", "limit_req_status 429;")},
		{name: "nginx: limit_req, burst, 503", proxy: limitReq("burst=10 nodelay", "")},
		{name: "nginx: limit_req, 503", proxy: limitReq("", "")},
		{name: "nginx: limit_req, 429", proxy: limitReq("", "limit_req_status 429;"), mayFail: true},
		{name: "HAProxy: http_req_rate, 429", proxy: stickTable("")},
		{name: "HAProxy: http_req_rate, 429, Retry-After", proxy: stickTable("hdr Retry-After 1")},
	}
	var all []crowd
	for _, c := range limits {
		c.callers, c.calls = 30, 5
		all = append(all, c)
		c.callers, c.calls = 150, 1
		c.mayFail = c.mayFail || strings.HasSuffix(c.name, "503")
		all = append(all, c)
	}
	return all
}

// crowdsNamed returns the crowds whose names begin so.
func crowdsNamed(start string) []crowd {
	return slices.DeleteFunc(crowds(), func(c crowd) bool { return !strings.HasPrefix(c.name, start) })
}

func limitReq(burst, status string) proxy {
	return nginx{http: fmt.Sprintf("limit_req_zone $server_addr zone=all:1m rate=%dr/s; limit_req zone=all %s; %s", limit, burst, status)}
}

// stickTable counts the requests of an address in the last second, also those that
// are refused.
func stickTable(with string) proxy {
	return haproxy{frontend: fmt.Sprintf("stick-table type ip size 1k expire 10s store http_req_rate(1s)\n\thttp-request track-sc0 src\n\thttp-request deny deny_status 429 %s if { sc_http_req_rate(0) gt %d }", with, limit)}
}

// How a call of a crowd is made.
var ways = []struct {
	name    string
	through func(base http.RoundTripper) http.RoundTripper
}{
	{"net/http", func(base http.RoundTripper) http.RoundTripper { return base }},
	{"naive loop", func(base http.RoundTripper) http.RoundTripper { return loop{base} }},
	{"retrip", func(base http.RoundTripper) http.RoundTripper { return retrip.NewTransport(base, retrip.Config{}) }},
}

// A loop is the usual one: as many attempts as retrip has, and a backoff with full
// jitter.
type loop struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l loop) RoundTrip(req *http.Request) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		again := req.Clone(req.Context())
		var err error
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		resp, err := l.base.RoundTrip(again)
		if attempt == 3 || err != nil || !isRefusal(resp.StatusCode) {
			return resp, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		wait(req.Context(), rand.N(500*time.Millisecond<<attempt))
	}
}

func isRefusal(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable
}

// A tally is what came of a crowd that goes one way.
type tally struct {
	way                    string
	calls, failed, refused int
	took                   time.Duration
}

// perAnswer returns how many requests were refused for each call that was answered.
func (y tally) perAnswer() float64 { return float64(y.refused) / float64(max(y.calls-y.failed, 1)) }

// A crossing has a tally for each way.
type crossing struct {
	crowd

	tallies []tally
}

// crossAll lets all crowds try, some of them at the same time.
func crossAll(ctx context.Context, crowds []crowd) ([]crossing, error) {
	return each(crowds, func(c *crowd) (crossing, error) {
		x, err := c.cross(ctx)
		if err == nil && x.breaks() != "" { // a few calls may be unlucky
			x, err = c.cross(ctx)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", c.name, err)
		}
		return x, err
	})
}

func (c *crowd) cross(ctx context.Context) (crossing, error) {
	x := crossing{*c, make([]tally, len(ways))}
	errs := make([]error, len(ways))
	var all sync.WaitGroup
	for i := range ways {
		all.Go(func() { x.tallies[i], errs[i] = c.take(ctx, i) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return x, err
		}
	}
	return x, nil
}

// take lets a crowd go one way.
func (c *crowd) take(ctx context.Context, way int) (tally, error) {
	r, err := newRig(ctx, &scene{proxy: c.proxy}, homeKey)
	defer r.close()
	if err != nil {
		return tally{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*sceneLimit)
	defer cancel()
	through := newCaller(pairing{}, r.url(), nil, retrip.Config{}) //nolint:contextcheck // a Transport is for many calls
	defer through.end()
	through.client.Transport = ways[way].through(through.client.Transport)
	began := time.Now()
	outcomes := through.crowd(ctx, c.callers, c.calls, asked(20*ms, 0))
	y := tally{way: ways[way].name, calls: len(outcomes), refused: int(through.refused.Load()), took: time.Since(began)}
	for _, o := range outcomes {
		if !o.answered {
			y.failed++
		}
	}
	return y, nil
}

// breaks says how the rule is broken; empty if it is not: no call through retrip
// fails, and no more of its requests are refused than of the loop's.
func (x crossing) breaks() string {
	at := func(way string) tally {
		return x.tallies[slices.IndexFunc(x.tallies, func(y tally) bool { return y.way == way })]
	}
	ours, naive := at("retrip"), at("naive loop")
	switch {
	case ours.failed > 0 && !x.mayFail:
		return fmt.Sprintf("%d of %d calls failed", ours.failed, ours.calls)
	case ours.refused > naive.refused:
		return fmt.Sprintf("%d requests were refused, where %d of the naive loop's were", ours.refused, naive.refused)
	}
	return ""
}
