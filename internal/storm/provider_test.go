package storm

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

const seed = 6

// What the provider is like. Work is measured in the time that it takes.
const (
	headroom = 1.5              // its capacity, in normal loads
	tipping  = time.Second      // of work in the queue: with more, each request costs more
	thrash   = 2.0              // times as much, from twice that queue on: 0.75 normal loads a second
	queueMax = 10 * time.Second // of work in the queue: more is refused at once
	gateway  = 5 * time.Second  // after which whoever waits gets a 504; the work is done for nothing
	quick    = 20 * time.Millisecond
	fastest  = 300 * time.Millisecond // to answer when nothing waits
	slowest  = 700 * time.Millisecond
)

// A weather is what is wrong with the provider during an incident.
type weather struct {
	down     bool    // nobody listens
	failing  float64 // share of requests that fail at the front door, at no cost
	capacity float64 // share of its capacity that is left, if above 0
}

// A provider is a base RoundTripper with limited capacity: one queue, in which
// work is done in the order of arrival, at a speed that depends on how much of
// it waits. Nothing tells it that a caller has left.
type provider struct {
	start    time.Time
	cost     time.Duration // of one request, undisturbed
	incident incident
	log      *record

	mu     sync.Mutex
	random *rand.Rand
	idleAt time.Time // when all work is done
}

func newProvider(load float64, in incident, log *record) *provider {
	return &provider{
		start: time.Now(), cost: time.Duration(float64(time.Second) / (headroom * load)),
		incident: in, log: log, random: rand.New(rand.NewPCG(seed, 1)),
	}
}

// RoundTrip implements http.RoundTripper.
func (p *provider) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	now := time.Now()
	p.log.request(now, clientOf(req.Context()))
	code, after := p.take(now)
	if !sleep(req.Context(), after) {
		return nil, context.Cause(req.Context())
	}
	switch code {
	case noConnection:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case lostConnection:
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return answer(req, code), nil
}

const (
	noConnection   = -1
	lostConnection = -2
)

// take decides what becomes of a request, and when.
func (p *provider) take(now time.Time) (code int, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.incident.at(now.Sub(p.start))
	switch {
	case w.down:
		return noConnection, quick
	case p.random.Float64() < w.failing:
		return [...]int{503, 500, lostConnection}[p.random.IntN(3)], quick
	}
	waiting := max(p.idleAt.Sub(now), 0)
	if waiting > queueMax && !p.incident.mute {
		return 503, quick
	}
	cost := float64(p.cost) * slowdown(waiting)
	if w.capacity > 0 {
		cost /= w.capacity
	}
	p.idleAt = now.Add(waiting + time.Duration(cost))
	after = waiting + fastest + time.Duration(p.random.Int64N(int64(slowest-fastest)))
	if after > gateway && !p.incident.mute {
		return 504, gateway
	}
	return 200, after
}

// slowdown is how much more a request costs when so much work waits.
func slowdown(waiting time.Duration) float64 {
	over := float64(waiting-tipping) / float64(tipping)
	return 1 + (thrash-1)*min(max(over, 0), 1)
}

func (p *provider) queue() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(time.Until(p.idleAt), 0)
}

const (
	said   = `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ok"}}]}`
	failed = `{"error":{"message":"no","type":"server_error"}}`
)

func answer(req *http.Request, code int) *http.Response {
	text := said
	if code != http.StatusOK {
		text = failed
	}
	return &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)),
	}
}

// sleep reports whether ctx lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
