package batch

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

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
	shape

	mu      sync.Mutex
	tokens  float64
	at      time.Time
	start   time.Time
	others  func() time.Duration // how long until the next call of others
	next    time.Time            // when that is
	sent    int
	refused int
	spent   float64
	perSec  []int // admitted, by second
}

// A shape is what makes a provider other than a token bucket of one second.
type shape struct {
	shortest, longest time.Duration // that an answer takes; 0 is 2 and 6 s
	window            time.Duration // of a limiter that counts in fixed windows; 0 for a bucket
	chance            float64       // that a call is refused whatever the rate is
	first             bool          // so are the first attempts of each call, and no others
	wait              time.Duration // that those are asked for
	taken             float64       // share of the limit that others draw, who do not care about it
	changes           []change      // of the rate, in their order
}

// A change is that of a rate, so long after the beginning.
type change struct {
	after time.Duration
	rate  float64
}

func newProvider(rate float64, h hints, s shape) *provider {
	now := time.Now()
	p := &provider{rate: rate, size: max(rate, 1), hints: h, shape: s, at: now, start: now, next: now}
	if p.longest == 0 {
		p.shortest, p.longest = 2*time.Second, 6*time.Second
	}
	p.tokens = p.size
	if p.window > 0 {
		p.tokens = p.rate * p.window.Seconds()
	}
	others := source(3)
	p.others = func() time.Duration { return inSeconds(others.ExpFloat64() / (p.taken * p.rate)) }
	return p
}

// RoundTrip implements http.RoundTripper. No two calls arrive at the same time,
// not even if they are sent so.
func (p *provider) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	c := callerOf(req.Context())
	within := func(d time.Duration) time.Duration { return time.Duration(c.random.Float64() * float64(d)) }
	if err := sleep(req.Context(), 5*time.Millisecond+within(20*time.Millisecond)); err != nil {
		return nil, err
	}
	c.sent++
	wait := p.take(req, c)
	if wait < 0 {
		if err := sleep(req.Context(), p.shortest+within(p.longest-p.shortest)); err != nil {
			return nil, err
		}
		return answer(req, http.StatusOK, `{"choices":[{"message":{"content":"ok"}}]}`), nil
	}
	if err := sleep(req.Context(), 10*time.Millisecond+within(40*time.Millisecond)); err != nil {
		return nil, err
	}
	response := answer(req, http.StatusTooManyRequests, `{"error":{"code":"rate_limit_exceeded","type":"`+p.kind()+`"}}`)
	switch p.hints {
	case millis:
		response.Header.Set("Retry-After-Ms", strconv.FormatInt((wait+time.Millisecond-1).Milliseconds(), 10))
	case seconds:
		response.Header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	return response, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *provider) kind() string {
	if p.cost != nil {
		return "tokens"
	}
	return "requests"
}

// take spends what a call costs, or returns how long that takes to flow in.
// Less than 0 says that it is admitted.
func (p *provider) take(req *http.Request, c *caller) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, cost := time.Now(), 1.0
	if p.cost != nil {
		cost = p.cost(req)
	}
	p.sent++
	for p.taken > 0 && !p.next.After(now) {
		p.flow(p.next)
		if p.tokens >= 1 {
			p.tokens--
		}
		p.next = p.next.Add(p.others())
	}
	p.flow(now)
	if wait := p.missing(now, cost, c); wait >= 0 {
		p.refused++
		return wait
	}
	p.tokens -= cost
	p.spent += cost
	second := int(now.Sub(p.start) / time.Second)
	for len(p.perSec) <= second {
		p.perSec = append(p.perSec, 0)
	}
	p.perSec[second]++
	return -1
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

// missing returns how long it takes until a call may go, less than 0 if it may.
func (p *provider) missing(now time.Time, cost float64, c *caller) time.Duration {
	switch {
	case p.chance > 0:
		if c.random.Float64() < p.chance {
			return p.wait
		}
	case p.first:
		if c.sent == 1 {
			return p.wait
		}
	case p.tokens >= cost:
	case p.window > 0:
		return p.window - now.Sub(p.start)%p.window
	default:
		return inSeconds((cost - p.tokens) / p.rate)
	}
	return -1
}

// admitted returns how many calls were, in the time of a batch.
func (p *provider) admitted() (sum int) {
	for _, n := range p.perSec[:min(len(p.perSec), int(length/time.Second))] {
		sum += n
	}
	return sum
}

func answer(req *http.Request, code int, text string) *http.Response {
	return &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)),
	}
}

func inSeconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
