package openai

import (
	"sync"
	"sync/atomic"
	"time"
)

// wellEvery is how exactly it is known when a target last answered well. If each call
// wrote that down, calls to a healthy target would contend for one cache line.
const wellEvery = time.Second

// A targetHealth is what people want to know of a target that calls avoid: since when,
// and why. It decides nothing. It is safe for concurrent use. The zero value is of a
// target that no call has gone to.
type targetHealth struct {
	well atomic.Int64 // when it last answered well, in Unix nanoseconds; 0 for never

	mu     sync.Mutex // of the following, which belong together
	failed time.Time
	why    string // the error.type of the latest failure
}

// succeeded notes that the target has answered a call that began at start. It compares
// with start, which the call has anyway, and reads the clock only when there is
// something to write.
func (h *targetHealth) succeeded(start time.Time, now func() time.Time) {
	if start.UnixNano()-h.well.Load() >= int64(wellEvery) {
		h.well.Store(now().UnixNano())
	}
}

// failedWith notes the latest failure and its error.type. A lock keeps the two
// together, and failures are rare enough for one.
func (h *targetHealth) failedWith(why string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed, h.why = now, why
}

// fill fills in the fields of t that are about health.
func (h *targetHealth) fill(t *TargetSnapshot) {
	if well := h.well.Load(); well != 0 {
		t.LastWell = time.Unix(0, well)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.LastFailed, t.LastError = h.failed, h.why
}
