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

// A trial is one short incident: so many calls, to a provider that serves them.
type trial struct {
	serve   func(seed uint64) server
	send    func(world *world)
	cfg     openai.Config
	timeout time.Duration // of each call, 0 for none
}

// A server says what becomes of a request that comes so long after the start.
type server func(at time.Duration) (code int, after time.Duration)

// A result is what became of a trial.
type result struct {
	calls, answered, requests atomic.Int64
	late                      struct{ calls, requests atomic.Int64 } // from the third second on
	opened                    atomic.Int64
}

// A world is a trial under way.
type world struct {
	result
	start   time.Time
	chance  *rand.Rand
	through http.RoundTripper
	timeout time.Duration
	running sync.WaitGroup
	last    atomic.Int32 // state
}

func (w *world) since() time.Duration { return time.Since(w.start) }

// RoundTrip implements http.RoundTripper for a world's server.
type served struct {
	*world
	serve server
	mu    sync.Mutex
}

func (s *served) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	s.mu.Lock()
	at := s.since()
	s.requests.Add(1)
	if at >= 2*time.Second {
		s.late.requests.Add(1)
	}
	code, after := s.serve(at)
	s.mu.Unlock()
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

// call makes one call.
func (w *world) call() bool {
	late := w.since() >= 2*time.Second
	w.calls.Add(1)
	if late {
		w.late.calls.Add(1)
	}
	timeout := w.timeout
	if timeout == 0 {
		timeout = 24 * time.Hour
	}
	ok := call(context.Background(), timeout, w.through, 0)
	if ok {
		w.answered.Add(1)
	}
	return ok
}

// loops is so many callers, each of whom makes so many calls, one after the other.
func loops(callers, each int) func(*world) {
	return func(w *world) {
		for range callers {
			w.running.Go(func() {
				for range each {
					w.call()
				}
			})
		}
		w.running.Wait()
	}
}

// rounds is so many callers who all call at once, so often, with a pause between.
func rounds(callers, times int, pause time.Duration) func(*world) {
	return func(w *world) {
		for range times {
			for range callers {
				w.running.Go(func() { w.call() })
			}
			w.running.Wait()
			time.Sleep(pause)
		}
	}
}

func regular(perSecond float64, lasts time.Duration) func(*world) {
	return func(w *world) {
		for i := range int(lasts.Seconds() * perSecond) {
			next := w.start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
			time.Sleep(time.Until(next))
			w.running.Go(func() { w.call() })
		}
		w.running.Wait()
	}
}

// arrivals is so many calls a second, at random times.
func arrivals(perSecond float64, lasts time.Duration) func(*world) {
	return func(w *world) {
		for next := w.start; ; {
			next = next.Add(time.Duration(w.chance.ExpFloat64() / perSecond * float64(time.Second)))
			if next.Sub(w.start) >= lasts {
				break
			}
			time.Sleep(time.Until(next))
			w.running.Go(func() { w.call() })
		}
		w.running.Wait()
	}
}

// play plays a trial through the chain, or through what sdk makes of a base.
func (tr trial) play(t *testing.T, seed uint64, through func(http.RoundTripper, openai.Config) http.RoundTripper) *result {
	var w *world
	synctest.Test(t, func(*testing.T) {
		w = &world{start: time.Now(), chance: rand.New(rand.NewPCG(seed, 3)), timeout: tr.timeout}
		cfg := tr.cfg
		cfg.Breaker.OnStateChange = func(c breaker.StateChange) {
			w.last.Store(int32(c.To))
			if c.To == breaker.Open {
				w.opened.Add(1)
			}
			if testing.Verbose() && *verbose {
				println(w.since().String(), c.From.String(), c.To.String(), c.Reason)
			}
		}
		w.through = through(&served{world: w, serve: tr.serve(seed)}, cfg)
		tr.send(w)
	})
	return &w.result
}

func ours(base http.RoundTripper, cfg openai.Config) http.RoundTripper { return chain(base, cfg) }

// sdks makes of a base what an SDK does without us: two retries.
func sdks(base http.RoundTripper, _ openai.Config) http.RoundTripper { return sdk{base} }

type sdk struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper, as openai-go's defaults.
func (s sdk) RoundTrip(req *http.Request) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		response, err := s.base.RoundTrip(req)
		if attempt == 2 || err == nil && response.StatusCode < 500 &&
			response.StatusCode != 408 && response.StatusCode != 409 && response.StatusCode != 429 {
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
