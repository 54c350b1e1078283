package openai

import (
	"sync"
	"sync/atomic"
	"time"
)

// wellEvery is how exactly it is known when a target last answered well: a healthy
// one is not written to by each call.
const wellEvery = time.Second

// A targetHealth is what people want to know of a target that calls avoid: since
// when, and why. The zero value is of one that nobody has asked.
type targetHealth struct {
	well atomic.Int64 // when it last answered well, in Unix nanoseconds; 0 for never

	mu     sync.Mutex
	failed time.Time
	why    string // the error.type of the latest failure
}

// succeeded notes that the target has answered a call that began at start.
func (h *targetHealth) succeeded(start time.Time, now func() time.Time) {
	if start.UnixNano()-h.well.Load() >= int64(wellEvery) {
		h.well.Store(now().UnixNano())
	}
}

func (h *targetHealth) failedWith(why string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed, h.why = now, why
}

// tell fills in what is known.
func (h *targetHealth) tell(t *TargetSnapshot) {
	if well := h.well.Load(); well != 0 {
		t.LastWell = time.Unix(0, well)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.LastFailed, t.LastError = h.failed, h.why
}
