package storm

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
)

// A trial is a small incident, or one that lasts: callers, and what serves them.
type trial struct {
	name   string
	serve  func(w *world) server
	call   func(w *world)
	config openai.Config
	plays  int                  // with another seed each
	sdk    bool                 // it is played with an SDK's retries, too
	large  bool                 // only in the table
	long   bool                 // not with -short
	wrong  func(outcome) string // what is wrong with an outcome, "" if nothing

	outcome outcome
}

// A server says what becomes of a request, and when, that comes so long after the
// start. It is not asked concurrently.
type server func(at time.Duration) (code int, after time.Duration)

// A world is a trial that is being played. It is the base that all calls reach.
type world struct {
	start   time.Time
	chance  *rand.Rand // of callers
	luck    *rand.Rand // of the server
	through http.RoundTripper
	running sync.WaitGroup
	state   atomic.Int32 // of the breaker
	opened  atomic.Int64 // times

	mu    sync.Mutex // held while the server is asked
	serve server

	calls, answered, requests atomic.Int64
	lateCalls, lateRequests   atomic.Int64 // from lateFrom on
}

// lateFrom is when a breaker must have seen what is wrong.
const lateFrom = 2 * time.Second

func (w *world) since() time.Duration { return time.Since(w.start) }

// RoundTrip implements http.RoundTripper.
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	code, after := w.ask()
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

func (w *world) ask() (code int, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.since()
	w.requests.Add(1)
	if at >= lateFrom {
		w.lateRequests.Add(1)
	}
	return w.serve(at)
}

// one makes one call, and waits for its answer.
func (w *world) one() {
	w.calls.Add(1)
	if w.since() >= lateFrom {
		w.lateCalls.Add(1)
	}
	if call(context.Background(), 24*time.Hour, w.through, 0) {
		w.answered.Add(1)
	}
}

// An outcome is what became of a trial, in all of its plays.
type outcome struct {
	plays, opened int // opened is in how many
	own, sdk      tally
}

// A tally is of all plays.
type tally struct {
	calls, answered         int64
	lateCalls, lateRequests int64
	worst, of               int64 // calls that were not answered in the worst play, of so many
}

func (y *tally) add(w *world) {
	calls, answered := w.calls.Load(), w.answered.Load()
	y.calls, y.answered = y.calls+calls, y.answered+answered
	y.lateCalls, y.lateRequests = y.lateCalls+w.lateCalls.Load(), y.lateRequests+w.lateRequests.Load()
	if lost := calls - answered; lost >= y.worst {
		y.worst, y.of = lost, calls
	}
}

// late is the number of requests a call from the third second on.
func (y *tally) late() float64 { return float64(y.lateRequests) / float64(max(y.lateCalls, 1)) }

// play plays a trial through the chain.
func (tr *trial) play(t *testing.T) {
	o := outcome{plays: tr.plays}
	for seed := range uint64(tr.plays) {
		w := tr.once(t, seed, chain)
		o.own.add(w)
		if w.opened.Load() > 0 {
			o.opened++
		}
		if tr.sdk {
			o.sdk.add(tr.once(t, seed, func(base http.RoundTripper, _ openai.Config) http.RoundTripper { return sdk{base} }))
		}
	}
	tr.outcome = o
}

func (tr *trial) once(t *testing.T, seed uint64, through func(http.RoundTripper, openai.Config) http.RoundTripper) *world {
	w := &world{chance: rand.New(rand.NewPCG(seed, 3)), luck: rand.New(rand.NewPCG(seed, 4))}
	synctest.Test(t, func(*testing.T) {
		w.start = time.Now()
		w.serve = tr.serve(w)
		cfg := tr.config
		cfg.Breaker.OnStateChange = func(c breaker.StateChange) {
			w.state.Store(int32(c.To))
			if c.To == breaker.Open {
				w.opened.Add(1)
			}
		}
		w.through = through(w, cfg)
		tr.call(w)
		w.running.Wait()
	})
	return w
}

// An sdk does what openai-go does by default: two retries, after half a second and
// a second, less a quarter of that at random.
type sdk struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s sdk) RoundTrip(req *http.Request) (*http.Response, error) {
	const retries = 2
	for attempt := 0; ; attempt++ {
		response, err := s.base.RoundTrip(req)
		if attempt == retries || err == nil && !sdkRetries(response.StatusCode) {
			return response, err
		}
		if err == nil {
			_ = response.Body.Close()
		}
		delay := min(500*time.Millisecond<<attempt, 8*time.Second)
		if !sleep(req.Context(), delay-rand.N(delay/4)) {
			return nil, context.Cause(req.Context())
		}
	}
}

func sdkRetries(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return code >= http.StatusInternalServerError
}

// callers are so many who make so many calls each, one after the other.
func callers(many, each int) func(*world) {
	return func(w *world) {
		for range many {
			w.running.Go(func() {
				for range each {
					w.one()
				}
			})
		}
	}
}

// bursts are so many callers who all call at once, so often.
func bursts(many, times int) func(*world) {
	return func(w *world) {
		for range times {
			for range many {
				w.running.Go(w.one)
			}
			w.running.Wait()
			time.Sleep(time.Second)
		}
	}
}

// atRandom is so many calls a second, at random times.
func atRandom(perSecond float64, lasts time.Duration) func(*world) {
	return func(w *world) {
		w.arrivals(lasts, func() time.Duration {
			return time.Duration(w.chance.ExpFloat64() / perSecond * float64(time.Second))
		})
	}
}

// evenly is so many calls a second, all as far apart.
func evenly(perSecond float64, lasts time.Duration) func(*world) {
	return func(w *world) {
		w.arrivals(lasts, func() time.Duration { return time.Duration(float64(time.Second) / perSecond) })
	}
}

func (w *world) arrivals(lasts time.Duration, gap func() time.Duration) {
	for next := w.start; next.Sub(w.start) < lasts; next = next.Add(gap()) {
		time.Sleep(time.Until(next))
		w.running.Go(w.one)
	}
}
