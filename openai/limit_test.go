package openai

import (
	"testing"
	"testing/synctest"
	"time"
)

// A body that is neither read nor closed, because a hook panicked, say, must
// not be kept by a timer that goes round and round.
func TestNoTimerRunsForABodyThatNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		c := newLimiter(cancelFunc(func(error) { ended++ }))
		c.enter(firstEvent, time.Second)
		time.Sleep(time.Hour)
		if c.timer.Stop() {
			t.Error("a timer runs while nobody waits for the first event")
		}
		c.begin()
		_ = c.end()
		c.enter(idle, time.Minute)
		time.Sleep(time.Hour)
		if c.timer.Stop() || ended != 0 {
			t.Errorf("a timer runs while nobody reads; ended %d times", ended)
		}
		c.begin()
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := c.end(); ended != 1 || err != ErrStalled { //nolint:errorlint // it is that value
			t.Errorf("ended %d times: %v", ended, err)
		}
	})
}

// net/http answers before it says that the request is written, where a server
// answers early.
func TestARequestWrittenAfterItsAnswerBeginsNoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(cancelFunc(func(error) { t.Error("a reader who takes his time was cut off") }))
		l.enter(firstEvent, time.Second)
		l.begin()
		if err := l.answered(); err != nil {
			t.Error(err)
		}
		l.written()
		time.Sleep(time.Hour)
		l.stop()
	})
}
