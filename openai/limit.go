package openai

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/prefetch"
)

// A phase is what an answer is waiting for. It decides which limit holds meanwhile, and
// whether the end of that limit is a failure.
type phase int

const (
	noPhase    phase = iota // no limit holds
	firstEvent              // its first useful byte, for Config.FirstEventTimeout
	idle                    // its next bytes, for Config.IdleTimeout
	tail                    // what may follow its end; silence ends the body as a success
)

// After the end of an answer more bytes may come, such as the usage after the last
// choice. They are passed on. Some servers leave the connection open after them, which
// would keep the caller waiting for an end that never comes: silence of these lengths
// ends the body. A mere finish_reason gets more time, because usage, filter results or
// other choices often follow it.
const (
	tailAfterEnd    = time.Second      // after a terminal event or a whole JSON value
	tailAfterFinish = 10 * time.Second // after a mere finish_reason
)

// end returns the error that a body ends with when the limit of the phase is over, and
// the cause that its attempt is cancelled with. They differ where the cause has to name
// the limit, for layers that tell our time limits from the caller's own context.
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

// A limiter ends an attempt in which nothing comes. It cancels the attempt's context,
// because the bodies of net/http have no deadline. Only the time counts in which the base
// or a Read waits for the provider: a reader who takes a pause between two Reads must
// not make the provider look silent.
//
// One timer is set for a whole phase and not for every Read, which would cost too much
// for a chunk. When it fires, check finds out how much of the limit was spent waiting,
// and sets it again for the rest.
//
// The methods of the reader (enter, begin, end, answered) are for one goroutine at a
// time; stop, written and check may run beside them. A nil limiter sets no limit, but
// written is not for it.
type limiter struct {
	attempt prefetch.Canceler

	waiting atomic.Int64          // when the pending wait began, since epoch and plus 1, so that 0 is for none
	waited  atomic.Int64          // nanoseconds spent in waits that are over, in the phase firstEvent
	traced  atomic.Bool           // the base is net/http's, which says when the request is written
	parked  atomic.Bool           // the timer is off because nothing waited: the next wait sets it
	ended   atomic.Pointer[error] // what the body ends with, once a limit was over

	mu      sync.Mutex
	headers bool          // the base has answered
	limit   time.Duration // of the phase
	phase   phase         // written by the reader only, who may therefore read it without mu
	timer   *time.Timer   // nil before the first phase with a limit
	stopped bool          // for good: no limit holds any more, or one was over
}

// epoch is what all limiters count their time from. It makes a point in time an int64,
// which fits an atomic, and spares each limiter a reading of the clock. Under
// testing/synctest it lies in the future, so the counted times may be negative.
var epoch = time.Now()

// newLimiter returns a limiter of an attempt's time. It is not a part of its answer, but
// an allocation of its own that forgets the attempt when it stops. The runtime may keep
// a stopped timer, with all that its function refers to, until the time that it was set
// for: that must not keep the answer and its buffers alive for minutes.
func newLimiter(attempt prefetch.Canceler) *limiter {
	return &limiter{attempt: attempt}
}

// enter begins a phase. It does nothing if the phase has begun before, which keeps the
// lock and the timer out of the path of every chunk. With 0 or less no
// limit holds.
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

// present returns the phase that has begun last, and its limit. It is for the reader,
// who alone begins phases.
func (l *limiter) present() (phase, time.Duration) {
	if l == nil {
		return noPhase, 0
	}
	return l.phase, l.limit
}

// begin says that a wait for the provider begins. It is apart from beginWait,
// as end is from endWait, so that the compiler can inline it: a Read without a limiter
// then costs no call.
func (l *limiter) begin() {
	if l != nil {
		l.beginWait()
	}
}

// beginWait stores the beginning of the wait before it looks at parked. check does the
// two in the opposite order, so that one of them always sees the other and no wait is
// left without a timer.
func (l *limiter) beginWait() {
	l.waiting.Store(l.now())
	if l.parked.Load() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unpark()
	}
}

// now returns the present time in the form that waiting holds.
func (l *limiter) now() int64 { return int64(time.Since(epoch)) + 1 }

// unpark sets the timer again if it is parked, for what is left of the limit. The caller
// holds mu.
func (l *limiter) unpark() {
	if !l.stopped && l.parked.Swap(false) {
		l.timer.Reset(l.limit - l.before())
	}
}

// before returns how much of the limit was used up by waits that are over. The waits for
// the first event add up, since pings may interrupt them. Silence does not add up,
// because any byte ends it.
func (l *limiter) before() time.Duration {
	if l.phase != firstEvent {
		return 0
	}
	return time.Duration(l.waited.Load())
}

// end says that the wait is over. If a limit was over first, it returns what the body
// ends with, which says more than the error of the cancelled Read: the bodies of HTTP/2
// don't return the cause of a cancellation.
func (l *limiter) end() error {
	if l == nil {
		return nil
	}
	return l.endWait()
}

// endWait is end for a limiter that is not nil. The lock is not needed: only the reader
// ends waits.
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

// written says that the request is written, and that the provider is waited for from now
// on. The time of an upload is no silence of the provider. net/http may call it after the
// base has returned: then Reads count the time, and written must not begin another wait.
func (l *limiter) written() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.headers {
		return
	}
	l.waiting.Store(l.now())
	l.unpark()
}

// answered is end for the wait in the base, after which nothing waits until the next Read.
// It holds the lock against check: either check has ended the attempt before, and
// answered returns its error, or check finds that nothing waits any more.
func (l *limiter) answered() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.headers = true
	return l.endWait()
}

// stop says that no limit holds any more. It may be called more than once, and beside a
// Read. It lets go of the attempt: see newLimiter.
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

// check runs on the timer's goroutine when the limit may be over. It is over only if
// the base or Reads have waited for all of it.
func (l *limiter) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.limit <= 0 {
		return
	}
	began := l.waiting.Load()
	if began == 0 {
		// Nothing waits. The timer stays off, so that none runs for a body that its
		// reader has forgotten.
		l.parked.Store(true)
		if began = l.waiting.Load(); began == 0 {
			return
		}
		l.parked.Store(false) // a wait has begun in between, and its reader may not have seen parked
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
