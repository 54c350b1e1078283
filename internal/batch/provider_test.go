package batch

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const seed = 16

// What a provider says when it refuses a call.
type hints int

const (
	millis  hints = iota // retry-after-ms
	seconds              // Retry-After, in whole seconds
	silent               // nothing
)

func (h hints) String() string { return [...]string{"ms", "s", "none"}[h] }

// A provider is a base RoundTripper that admits calls by a token bucket, which
// holds what flows in in a second. Refusals come soon, answers after seconds.
type provider struct {
	rate  float64
	hints hints
	cost  func(*http.Request) float64 // of a call; nil is 1
	size  float64                     // of the bucket

	mu      sync.Mutex
	random  *rand.Rand
	tokens  float64
	at      time.Time
	start   time.Time
	sent    int
	refused int
	spent   float64
	perSec  []int // admitted, by second
}

func newProvider(rate float64, h hints, n uint64) *provider {
	now := time.Now()
	size := max(rate, 1)
	return &provider{rate: rate, size: size, hints: h, random: rand.New(rand.NewPCG(seed, n)), tokens: size, at: now, start: now}
}

// RoundTrip implements http.RoundTripper.
func (p *provider) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	wait, delay := p.take(req)
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	if wait == 0 {
		return answer(req, http.StatusOK, `{"choices":[{"message":{"content":"ok"}}]}`), nil
	}
	response := answer(req, http.StatusTooManyRequests, `{"error":{"code":"rate_limit_exceeded","type":"`+p.kind()+`"}}`)
	switch p.hints {
	case millis:
		response.Header.Set("Retry-After-Ms", strconv.FormatInt(wait.Milliseconds()+1, 10))
	case seconds:
		response.Header.Set("Retry-After", strconv.FormatInt(int64(wait/time.Second)+1, 10))
	}
	return response, nil
}

func (p *provider) kind() string {
	if p.cost != nil {
		return "tokens"
	}
	return "requests"
}

// take spends what a call costs, or returns how long that takes to flow in. It
// also returns how long the answer takes.
func (p *provider) take(req *http.Request) (wait, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, cost := time.Now(), 1.0
	if p.cost != nil {
		cost = p.cost(req)
	}
	p.sent++
	p.tokens = min(p.size, p.tokens+p.rate*now.Sub(p.at).Seconds())
	p.at = now
	if p.tokens < cost {
		p.refused++
		missing := time.Duration((cost - p.tokens) / p.rate * float64(time.Second))
		return max(missing, time.Millisecond), 20*time.Millisecond + p.within(60*time.Millisecond)
	}
	p.tokens -= cost
	p.spent += cost
	second := int(now.Sub(p.start) / time.Second)
	for len(p.perSec) <= second {
		p.perSec = append(p.perSec, 0)
	}
	p.perSec[second]++
	return 0, 2*time.Second + p.within(4*time.Second)
}

func (p *provider) within(d time.Duration) time.Duration {
	return time.Duration(p.random.Int64N(int64(d)))
}

func answer(req *http.Request, code int, text string) *http.Response {
	return &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)),
	}
}
