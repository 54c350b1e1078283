package openai

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/prefetch"
)

// A clock ends an attempt in whose body nothing comes: by its context, since
// the bodies of net/http have no deadline. Only the time that somebody waits
// in a Read counts: a reader who takes his time is no silence of the provider.
// A nil clock sets no limit.
type clock struct {
	attempt prefetch.Canceler
	base    time.Time

	reading atomic.Int64 // when the pending Read began, since base and plus 1; 0 if there is none
	waited  atomic.Int64 // in Reads that are over, while FirstEventTimeout is on
	parked  atomic.Bool  // the timer is off: the next Read sets it
	verdict atomic.Pointer[error]

	mu      sync.Mutex
	limit   time.Duration // the one that is on
	first   bool          // it is FirstEventTimeout; written by the reader only
	timer   *time.Timer
	stopped bool
}

func newClock(attempt prefetch.Canceler) *clock { return &clock{attempt: attempt, base: time.Now()} }

// awaitFirst sets a limit on the time until alive is first called.
func (c *clock) awaitFirst(limit time.Duration) { c.set(limit, true) }

// alive says that the body lives: from now on idle is the limit; 0 is none.
func (c *clock) alive(idle time.Duration) {
	switch {
	case c == nil:
	case idle > 0 && (c.timer == nil || c.first):
		c.set(idle, false)
	case c.first:
		c.stop()
		c.first = false
	}
}

func (c *clock) set(limit time.Duration, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.limit, c.first = limit, first
	c.parked.Store(false)
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(limit, c.check)
}

// begin says that a Read begins. Like end, it is inlined where there is no clock.
func (c *clock) begin() {
	if c != nil {
		c.beginRead()
	}
}

func (c *clock) beginRead() {
	c.reading.Store(int64(time.Since(c.base)) + 1)
	if c.parked.Load() {
		c.unpark()
	}
}

// unpark sets the timer again.
func (c *clock) unpark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped && c.parked.Swap(false) {
		c.timer.Reset(c.limit - c.before())
	}
}

// before returns how much of the limit was used up by Reads that are over.
func (c *clock) before() time.Duration {
	if !c.first {
		return 0
	}
	return time.Duration(c.waited.Load())
}

// end says that it has ended, and returns the limit that ended it, if one did.
func (c *clock) end() error {
	if c == nil {
		return nil
	}
	return c.endRead()
}

func (c *clock) endRead() error {
	began := c.reading.Swap(0)
	if c.first {
		c.waited.Add(int64(time.Since(c.base)) - began + 1)
	}
	if err := c.verdict.Load(); err != nil {
		return *err
	}
	return nil
}

// stop says that no limit holds any more.
func (c *clock) stop() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// check runs when the limit may be over.
func (c *clock) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	began := c.reading.Load()
	if began == 0 {
		// Nobody waits. No timer runs for a body that is left lying about.
		c.parked.Store(true)
		if began = c.reading.Load(); began == 0 {
			return
		}
		c.parked.Store(false) // a Read has begun meanwhile
	}
	if waited := time.Since(c.base) - time.Duration(began-1) + c.before(); waited < c.limit {
		c.timer.Reset(c.limit - waited)
		return
	}
	c.stopped = true
	limit := &fault.TimeLimitError{Limit: "openai: Config.IdleTimeout", After: c.limit}
	err := ErrStalled
	if c.first {
		limit.Limit, err = "openai: Config.FirstEventTimeout", limit
	}
	c.verdict.Store(&err)
	c.attempt.Cancel(limit)
}
