package openai

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// How long a 429 pauses its key.
const (
	firstPause   = time.Second       // without a hint; doubled each time
	maxPause     = 30 * time.Second  // without a hint
	longestHint  = 120 * time.Second // the longest hint obeyed
	minSpreadOut = time.Second       // callers come back over at least this time
)

// A LimitError says that a request was refused because its rate limit is
// exhausted: nothing has been sent. A call waits out a pause of up to
// Config.Retry.MaxRetryAfter by itself; its caller sees a LimitError when the
// pause is longer, or would not end in time.
type LimitError struct {
	Key        string        // what the limit is taken to hold for: the server and the model or deployment
	RetryAfter time.Duration // when to come back: the end of the pause, and a random share on top, so that not all come at once
}

var _ fault.Rejection = (*LimitError)(nil)

func (e *LimitError) Error() string {
	return fmt.Sprintf("openai: the rate limit of %q is exhausted: come back in %s, or with fewer calls", e.Key, e.RetryAfter.Round(time.Millisecond))
}

// ErrorType returns the value of the error.type attribute, "rate_limited".
func (e *LimitError) ErrorType() string { return fault.RateLimited }

// Paused returns RetryAfter and true: a rate limit's pause ends by itself.
func (e *LimitError) Paused() (wait time.Duration, ok bool) { return e.RetryAfter, true }

// A PacingSnapshot is what a rate limit does at one moment.
type PacingSnapshot struct {
	Key         string    `json:"key"` // as in a LimitError
	PausedUntil time.Time `json:"paused_until"`
}

// A pacer is the layer that knows rate limits: a 429 pauses its key until the
// limit is over, and requests are refused meanwhile. As long as there was none,
// it takes no lock and looks nothing up.
type pacer struct {
	base    http.RoundTripper
	breaker *breaker.Transport // below it; nil if disabled
	maxKeys int

	paused atomic.Pointer[map[pacingKey]*pause] // what has met a 429; replaced, not changed
	mu     sync.Mutex                           // held to replace it
}

// A pacingKey is what a rate limit is taken to hold for: a model's limit holds
// whatever endpoint it is asked through.
type pacingKey struct{ scheme, host, model, target string }

func pacingKeyOf(req *http.Request) pacingKey {
	k := pacingKey{scheme: strings.ToLower(req.URL.Scheme), host: strings.ToLower(req.URL.Host)}
	if c := call.From(req.Context()); c != nil {
		k.model, k.target = c.Model, c.Target
	}
	return k
}

func (k pacingKey) String() string { return words(k.scheme+"://"+k.host, k.model, k.target) }

// RoundTrip refuses a request whose key is paused with a *LimitError.
func (p *pacer) RoundTrip(req *http.Request) (*http.Response, error) {
	pause := p.find(req)
	begun, wait := pause.admit()
	if wait > 0 && !p.isOpen(req) {
		roundtrip.CloseBody(req)
		return nil, &LimitError{Key: pacingKeyOf(req).String(), RetryAfter: wait}
	}
	response, err := p.base.RoundTrip(req)
	switch {
	case err != nil || response == nil:
	case isRateLimit(req, response):
		now := time.Now()
		wait, known := waitOf(response.Header, true, now)
		p.keep(pacingKeyOf(req)).begin(now, wait, known, begun)
	case response.StatusCode < http.StatusBadRequest:
		pause.end()
	}
	return response, err
}

// isOpen reports whether the breaker will refuse the request anyway: then nobody
// waits for a pause before it does.
func (p *pacer) isOpen(req *http.Request) bool {
	return p.breaker != nil && p.breaker.RefusesFor(req) > 0
}

// isRateLimit reports whether a response says that a limit is exhausted which
// ends by itself, as a quota's does not.
func isRateLimit(req *http.Request, response *http.Response) bool {
	c := call.From(req.Context())
	if c == nil {
		return false
	}
	e, ok := c.Answer.(*errorAnswer)
	return ok && e.response == response && e.verdict().limited
}

// refused pauses a request's key for a rate limit that a 2xx has told of, which
// names no time to wait.
func (p *pacer) refused(req *http.Request) {
	if req.URL == nil {
		return
	}
	pause := p.keep(pacingKeyOf(req))
	pause.mu.Lock()
	begun := pause.begun
	pause.mu.Unlock()
	pause.begin(time.Now(), 0, false, begun)
}

// find returns the pause of a request's key, or nil if it never had one.
func (p *pacer) find(req *http.Request) *pause {
	if paused := p.paused.Load(); paused != nil && req.URL != nil {
		return (*paused)[pacingKeyOf(req)]
	}
	return nil
}

// keep returns the pause of a key, a new one if there is none.
func (p *pacer) keep(k pacingKey) *pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[pacingKey]*pause)
	if old := p.paused.Load(); old != nil {
		if found := (*old)[k]; found != nil {
			return found
		}
		maps.Copy(all, *old)
	}
	if len(all) >= p.maxKeys {
		delete(all, firstToEnd(all))
	}
	made := new(pause)
	all[k] = made
	p.paused.Store(&all)
	return made
}

// firstToEnd returns the key whose pause ended first or, if none has, ends first.
func firstToEnd(all map[pacingKey]*pause) pacingKey {
	var first pacingKey
	var earliest time.Time
	for k, pause := range all {
		if until := pause.over(); earliest.IsZero() || until.Before(earliest) {
			first, earliest = k, until
		}
	}
	return first
}

// snapshot returns the pauses that are not over, ordered by key.
func (p *pacer) snapshot() []PacingSnapshot {
	list := []PacingSnapshot{}
	paused := p.paused.Load()
	if paused == nil {
		return list
	}
	for k, pause := range *paused {
		if until := pause.over(); time.Until(until) > 0 {
			list = append(list, PacingSnapshot{Key: k.String(), PausedUntil: until})
		}
	}
	slices.SortFunc(list, func(a, b PacingSnapshot) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// CloseIdleConnections closes those of the base, if it has any.
func (p *pacer) CloseIdleConnections() { roundtrip.CloseIdleConnections(p.base) }

// A pause is a key's rest after a 429. The zero value is none, as is nil.
type pause struct {
	mu        sync.Mutex
	until     time.Time
	length    time.Duration // of the latest pause
	begun     uint64        // pauses
	level     int           // how often a pause without a hint was doubled, and one
	succeeded bool          // since the latest one without a hint began
}

// admit returns how long a request has to wait, 0 if it may go now, and how
// many pauses have begun before it.
func (p *pause) admit() (begun uint64, wait time.Duration) {
	if p == nil {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := time.Until(p.until); left > 0 {
		return p.begun, left + spreadOut(p.length)
	}
	return p.begun, 0
}

// begin starts a pause or prolongs the one there is. Without a hint the wait
// doubles, but only if the 429 is news: it answers a request admitted after the
// last pause began. News that comes as soon as a hint is over says that the hint
// was true for one caller and not for so many: then a pause is a second at
// least, or those who obey it would use up their attempts.
func (p *pause) begin(now time.Time, hint time.Duration, known bool, begun uint64) {
	if known && hint <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	news := p.begun == begun
	if !p.until.After(now) {
		p.begun++
	}
	var length time.Duration
	if known {
		length = min(hint, longestHint)
		if news && p.length > 0 && now.Before(p.until.Add(minSpreadOut)) {
			length = max(length, firstPause)
		}
	} else {
		length = p.double(news)
	}
	if until := now.Add(length); until.After(p.until) {
		p.until, p.length = until, length
	}
}

// double returns the length of a pause without a hint.
func (p *pause) double(news bool) time.Duration {
	if p.level == 0 || p.succeeded {
		p.level = 1
	} else if news {
		p.level++
	}
	p.succeeded = false
	return min(firstPause<<min(p.level-1, 10), maxPause)
}

// end says that a request of the key was answered: the limit lets some through.
func (p *pause) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.succeeded = true
}

// over returns when the latest pause ends, or ended.
func (p *pause) over() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until
}

// spreadOut returns a caller's random share of the time over which those who
// wait for a pause of the given length come back.
func spreadOut(length time.Duration) time.Duration {
	return rand.N(max(length/4, minSpreadOut))
}
