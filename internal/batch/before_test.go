package batch

import (
	"net/http"
	"sync"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// pausing is the chain as it was before it paced: a 429 pauses the key, and then
// all that wait come back over a second.
func pausing(base http.RoundTripper, p *process) http.RoundTripper {
	return retry.NewTransport(&pauses{base: base}, retry.Config{
		Backoff: backoffs(p), Policy: openai.DefaultPolicy, Safe: func(*http.Request) bool { return true },
	})
}

type pauses struct {
	base http.RoundTripper

	mu        sync.Mutex
	until     time.Time
	length    time.Duration
	begun     int
	level     int
	succeeded bool
}

// A pause is an error that retry waits out.
type pause time.Duration

func (p pause) Error() string                 { return "paused" }
func (p pause) ErrorType() string             { return fault.RateLimited }
func (p pause) Paused() (time.Duration, bool) { return time.Duration(p), true }

func (p *pauses) RoundTrip(req *http.Request) (*http.Response, error) {
	begun, wait := p.admit(req)
	if wait > 0 {
		_ = req.Body.Close()
		return nil, pause(wait)
	}
	response, err := p.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	p.learn(begun, response)
	return response, nil
}

func (p *pauses) admit(req *http.Request) (begun int, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := time.Until(p.until); left > 0 {
		share := call.Random(req.Context())() * float64(max(p.length/4, time.Second))
		return p.begun, left + time.Duration(share)
	}
	return p.begun, 0
}

func (p *pauses) learn(begun int, response *http.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if response.StatusCode != http.StatusTooManyRequests {
		p.succeeded = true
		return
	}
	now := time.Now()
	hint, known := (&retry.Attempt{Response: response}).Hint()
	if known && hint <= 0 {
		return
	}
	news := p.begun == begun
	if !p.until.After(now) {
		p.begun++
	}
	length := hint
	switch {
	case !known:
		length = p.double(news)
	case news && p.length > 0 && now.Before(p.until.Add(time.Second)):
		length = max(length, time.Second)
	}
	if until := now.Add(length); until.After(p.until) {
		p.until, p.length = until, length
	}
}

func (p *pauses) double(news bool) time.Duration {
	switch {
	case p.level == 0 || p.succeeded:
		p.level = 1
	case news:
		p.level++
	}
	p.succeeded = false
	return min(time.Second<<min(p.level-1, 10), 30*time.Second)
}
