package openai

import "time"

// These constants bound how often a stream is resumed. A stream may last for hours
// and break many times, so only breaks without progress count as a failure. The
// total is bounded all the same, against a server that brings one event at a time.
const (
	maxResumes        = 100              // requests of one stream
	maxIdleResumes    = 5                // in a row that brought no new event
	firstResumeWait   = time.Second / 2  // before the second one; doubled each time
	longestResumeWait = 8 * time.Second  // between two of them
	steadyAfter       = 10 * time.Second // of new events: then the waits begin anew
)

// A resumeSchedule says when a stream may be resumed. The first request goes at
// once, because most breaks are those of one connection. The zero value is ready for
// use.
type resumeSchedule struct {
	all   int       // requests
	idle  int       // of those, the latest ones that brought nothing
	step  int       // waits since the stream was steady
	since time.Time // when the first new event of the latest request came
}

// next returns how long to wait for the next request. ok is false if there is to be
// none. The number of steps is bounded, so that the shift can't overflow.
func (s *resumeSchedule) next() (wait time.Duration, ok bool) {
	if s.all == maxResumes || s.idle == maxIdleResumes {
		return 0, false
	}
	if s.step > 0 {
		wait = min(firstResumeWait<<(s.step-1), longestResumeWait)
	}
	s.all++
	s.idle++
	s.step = min(s.step+1, 10) // beyond that nothing changes
	s.since = time.Time{}
	return wait, true
}

// progress notes that a new event has come. One event shows that asking helps, so
// the count of vain requests begins anew. The waits do so only after ten seconds of
// events, since a stream that breaks right after each event is not well.
func (s *resumeSchedule) progress(now time.Time) {
	s.idle = 0
	if s.since.IsZero() {
		s.since = now
	}
	if now.Sub(s.since) >= steadyAfter {
		s.step = 0
	}
}
