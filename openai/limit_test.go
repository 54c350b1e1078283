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
		l := newLimiter(cancelFunc(func(error) { ended++ }))
		l.enter(firstEvent, time.Second)
		time.Sleep(time.Hour)
		if l.timer.Stop() {
			t.Error("a timer runs while nobody waits for the first event")
		}
		l.begin()
		_ = l.end()
		l.enter(idle, time.Minute)
		time.Sleep(time.Hour)
		if l.timer.Stop() || ended != 0 {
			t.Errorf("a timer runs while nobody reads; ended %d times", ended)
		}
		l.begin()
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := l.end(); ended != 1 || err != ErrStalled { //nolint:errorlint // it is that value
			t.Errorf("ended %d times: %v", ended, err)
		}
	})
}
