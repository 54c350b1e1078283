package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/retry"
)

// A timeline prints what happens, with the milliseconds since its start.
type timeline struct {
	start time.Time

	mu sync.Mutex // hooks may run on any goroutine
	w  io.Writer
}

func newTimeline(w io.Writer) *timeline { return &timeline{start: time.Now(), w: w} }

func (t *timeline) title(text string) { t.printf("\n%s\n", text) }

func (t *timeline) line(format string, args ...any) {
	t.begin(format, args...)
	t.end()
}

// begin starts a line that more goes on with and end ends.
func (t *timeline) begin(format string, args ...any) {
	t.printf("%5d ms  %s", time.Since(t.start).Milliseconds(), fmt.Sprintf(format, args...))
}

func (t *timeline) more(text string) { t.printf("%s", text) }
func (t *timeline) end()             { t.printf("\n") }

func (t *timeline) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = fmt.Fprintf(t.w, format, args...)
}

// retry is a retry.Config's OnRetry.
func (t *timeline) retry(e retry.Event) {
	where, wait := "", "no wait"
	if e.Target != "" {
		where = " at " + e.Target
	}
	if e.Delay > 0 {
		wait = fmt.Sprintf("wait %v (%s)", e.Delay.Round(time.Millisecond), e.DelaySource)
	}
	t.line("attempt %d%s: %s, %s; %s, then retry", e.Attempt, where, e.ErrorType, e.Reason, wait)
}

// stateChange is a breaker.Config's OnStateChange.
func (t *timeline) stateChange(c breaker.StateChange) {
	t.line("breaker: %v → %v (%s)", c.From, c.To, c.Reason)
}
