package openai

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/prefetch"
)

// A phase is what an answer is waiting for, and which limit holds meanwhile.
type phase int

const (
	noPhase    phase = iota // no limit holds
	firstEvent              // FirstEventTimeout: its first useful byte
	idle                    // IdleTimeout: its next bytes
	tail                    // after its end: what still belongs to it
)

// After the end of an answer more bytes may come, as usage after the last
// choice. Some servers then leave the connection open: silence of this length
// ends the body.
const (
	tailAfterEnd    = time.Second      // after [DONE], a whole JSON value or the like
	tailAfterFinish = 10 * time.Second // after a mere finish_reason
)

// end returns the error that a body ends with when the limit of the phase is
// over, and the cause that its attempt is canceled with.
func (p phase) end(limit time.Duration) (err, cause error) {
	switch p {
	case firstEvent:
		cause = &fault.TimeLimitError{Limit: "openai: Config.FirstEventTimeout", After: limit}
		return cause, cause
	case tail:
		return io.EOF, io.EOF
	default:
		return ErrStalled, &fault.TimeLimitError{Limit: "openai: Config.IdleTimeout", After: limit}
	}
}

// A limiter ends an attempt in which nothing comes: by its context, since the
// bodies of net/http have no deadline. Only the time that somebody waits for
// the provider counts, in the base or in a Read: a reader who takes his time is
// no silence of the provider. A nil limiter sets no limit.
type limiter struct {
	attempt prefetch.Canceler

	waiting atomic.Int64 // when the pending wait began, since epoch and plus 1; 0 if there is none
	waited  atomic.Int64 // in waits that are over, while the phase is firstEvent
	parked  atomic.Bool  // the timer is off: the next wait sets it
	ended   atomic.Pointer[error]

	mu      sync.Mutex
	headers bool          // the base has answered
	limit   time.Duration // of the phase
	phase   phase         // written by the reader only
	timer   *time.Timer
	stopped bool
}

// epoch is what all limiters count their time from: one reading of the clock less
// for each. Under testing/synctest it lies in the future.
var epoch = time.Now()

// newLimiter returns a limiter of an attempt's time. It is an allocation of its
// own that lets go of the attempt when it stops, because the runtime may keep a
// stopped timer, and what its function refers to, for as long as it was set for.
func newLimiter(attempt prefetch.Canceler) *limiter {
	return &limiter{attempt: attempt}
}

// enter begins a phase, unless it has begun before. Without a limit none holds.
func (l *limiter) enter(p phase, limit time.Duration) {
	if l == nil || l.phase == p && l.limit == limit {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.limit, l.phase = limit, p
	if l.stopped || limit <= 0 {
		return
	}
	l.parked.Store(false)
	if l.timer == nil {
		l.timer = time.AfterFunc(limit, l.check)
	} else {
		l.timer.Reset(limit)
	}
}

// present returns the phase that has begun last, and its limit.
func (l *limiter) present() (phase, time.Duration) {
	if l == nil {
		return noPhase, 0
	}
	return l.phase, l.limit
}

// begin says that somebody begins to wait for the provider. Like end, it is
// inlined where there is no limiter.
func (l *limiter) begin() {
	if l != nil {
		l.beginWait()
	}
}

func (l *limiter) beginWait() {
	l.waiting.Store(l.now())
	if l.parked.Load() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unpark()
	}
}

// now returns the time as waiting has it.
func (l *limiter) now() int64 { return int64(time.Since(epoch)) + 1 }

// unpark sets the timer again. The caller holds mu.
func (l *limiter) unpark() {
	if !l.stopped && l.parked.Swap(false) {
		l.timer.Reset(l.limit - l.before())
	}
}

// before returns how much of the limit was used up by waits that are over: the
// time to the first event adds up, silence does not.
func (l *limiter) before() time.Duration {
	if l.phase != firstEvent {
		return 0
	}
	return time.Duration(l.waited.Load())
}

// end says that the wait is over, and returns what the body ends with if a
// limit ended it.
func (l *limiter) end() error {
	if l == nil {
		return nil
	}
	return l.endWait()
}

func (l *limiter) endWait() error {
	began := l.waiting.Swap(0)
	if l.phase == firstEvent && began != 0 {
		l.waited.Add(int64(time.Since(epoch)) - began + 1)
	}
	if err := l.ended.Load(); err != nil {
		return *err
	}
	return nil
}

// written says that the request is written, and that the provider is waited for
// from now on. net/http may say so after it has answered.
func (l *limiter) written() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.headers {
		return
	}
	l.waiting.Store(l.now())
	l.unpark()
}

// answered is end for the wait in the base, after which nobody waits until the
// next Read. It returns an error if the limit was over first, and else sees to
// it that the limit does not end the attempt behind its back.
func (l *limiter) answered() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.headers = true
	return l.endWait()
}

// stop says that no limit holds any more.
func (l *limiter) stop() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.attempt = nil
	if l.timer != nil {
		l.timer.Stop()
	}
}

// check runs when the limit may be over.
func (l *limiter) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.limit <= 0 {
		return
	}
	began := l.waiting.Load()
	if began == 0 {
		// Nobody waits. No timer runs for a body that is left lying about.
		l.parked.Store(true)
		if began = l.waiting.Load(); began == 0 {
			return
		}
		l.parked.Store(false) // a wait has begun meanwhile
	}
	if waited := time.Since(epoch) - time.Duration(began-1) + l.before(); waited < l.limit {
		l.timer.Reset(l.limit - waited)
		return
	}
	l.stopped = true
	err, cause := l.phase.end(l.limit)
	l.ended.Store(&err)
	l.attempt.Cancel(cause)
}
