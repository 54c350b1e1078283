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

	shortest, longest time.Duration // that an answer takes
	window            time.Duration // of a limiter that counts in fixed windows; 0 for a bucket
	chance            float64       // that a call is refused whatever the rate is
	changes           []change      // of the rate, in their order

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

// A change is that of a rate, so long after the beginning.
type change struct {
	after time.Duration
	rate  float64
}

func newProvider(rate float64, h hints, n uint64) *provider {
	now := time.Now()
	size := max(rate, 1)
	return &provider{
		rate: rate, size: size, hints: h, random: rand.New(rand.NewPCG(seed, n)), tokens: size, at: now, start: now,
		shortest: 2 * time.Second, longest: 6 * time.Second,
	}
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
	p.flow(now)
	if wait := p.missing(now, cost); wait > 0 {
		p.refused++
		return max(wait, time.Millisecond), 20*time.Millisecond + p.within(60*time.Millisecond)
	}
	p.tokens -= cost
	p.spent += cost
	second := int(now.Sub(p.start) / time.Second)
	for len(p.perSec) <= second {
		p.perSec = append(p.perSec, 0)
	}
	p.perSec[second]++
	return 0, p.shortest + p.within(p.longest-p.shortest)
}

// flow brings the tokens up to date.
func (p *provider) flow(now time.Time) {
	if len(p.changes) > 0 && now.Sub(p.start) >= p.changes[0].after {
		p.rate, p.changes = p.changes[0].rate, p.changes[1:]
		p.size = max(p.rate, 1)
	}
	switch {
	case p.window == 0:
		p.tokens = min(p.size, p.tokens+p.rate*now.Sub(p.at).Seconds())
	case p.windowOf(now) > p.windowOf(p.at):
		p.tokens = p.rate * p.window.Seconds()
	}
	p.at = now
}

func (p *provider) windowOf(at time.Time) time.Duration { return at.Sub(p.start) / p.window }

// missing returns how long it takes until a call may go.
func (p *provider) missing(now time.Time, cost float64) time.Duration {
	switch {
	case p.chance > 0:
		if p.random.Float64() < p.chance {
			return 700 * time.Millisecond
		}
	case p.tokens >= cost:
	case p.window > 0:
		return p.window - now.Sub(p.start)%p.window
	default:
		return inSeconds((cost - p.tokens) / p.rate)
	}
	return 0
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
