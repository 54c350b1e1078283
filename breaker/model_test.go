package breaker_test

import (
	"time"

	"github.com/retrip-go/retrip/breaker"
)

// A model is a breaker by the letter of its rules: it keeps every outcome with
// its time and looks at all of them each time. Times count from when the
// breaker was made.
//
// The rules leave one thing open: a breaker may count a success as somewhat
// older than it is, because it does not read the clock for each. Where that
// makes a difference, the model goes by what the breaker has done.
type model struct {
	cfg   breaker.Config // with its defaults filled in
	start time.Time

	state      breaker.State
	since      time.Duration
	generation int           // counts states, and each Trip and Reset
	begun      time.Duration // when the generation did
	changes    []breaker.StateChange

	// While closed.
	outcomes []outcome // in order
	run      []outcome // the failures since the last success that ends a run

	// While open.
	openUntil time.Duration

	// While half open.
	places    []place
	succeeded int

	pausedUntil time.Duration
	pauseLength time.Duration
	pauses      int // begun
	doublings   int // of pauses without a hint, and one, since the last success

	slack    int // successes that may be taken for older than they are
	admitted uint64
	totals   breaker.Totals
}

type outcome struct {
	at      time.Duration
	of      *ticket
	success bool
}

type place struct {
	of       *ticket
	deadline time.Duration
}

// A ticket is the model's permit.
type ticket struct {
	generation, pauses int
	probe              bool
	call               int // 0 for none
	settled            bool
	provisional        bool // settled, with a success that may be revoked
}

// A refusal is the model's OpenError; its wait is up to spread longer.
type refusal struct {
	wait, spread time.Duration
	limited      bool
}

func (m *model) allow(now time.Duration, call int) (*ticket, *refusal) {
	paused := m.pausedUntil > now
	if m.state == breaker.Open && now < m.openUntil {
		m.totals.Rejected++
		return nil, &refusal{wait: max(m.openUntil, m.pausedUntil) - now}
	}
	if paused {
		m.totals.Paused++
		return nil, &refusal{wait: m.pausedUntil - now, spread: max(m.pauseLength/4, time.Second), limited: true}
	}
	if m.state == breaker.Open {
		m.move(breaker.HalfOpen, now, "open_duration_over")
	}
	t := &ticket{generation: m.generation, pauses: m.pauses, call: call, probe: m.state == breaker.HalfOpen}
	if t.probe {
		taken := m.taken(now)
		if len(taken) == m.cfg.MaxProbes {
			m.totals.Rejected++
			first := taken[0].deadline
			for _, p := range taken {
				first = min(first, p.deadline)
			}
			return nil, &refusal{wait: first - now}
		}
		taken = append(taken, place{of: t, deadline: now + m.cfg.ProbeTimeout})
		m.places = taken
	}
	m.admitted++
	return t, nil
}

// taken returns the places of probes that have not timed out.
func (m *model) taken(now time.Duration) (taken []place) {
	for _, p := range m.places {
		if p.deadline > now {
			taken = append(taken, p)
		}
	}
	return taken
}

func (m *model) leave(t *ticket) {
	for i, p := range m.places {
		if p.of == t {
			m.places = append(m.places[:i:i], m.places[i+1:]...)
			return
		}
	}
}

// settle and the other verdicts are told what the breaker has done: the reason
// why it has just opened, or "".
func (m *model) settle(now time.Duration, t *ticket, o breaker.Outcome, h breaker.Hint, done string) {
	if t.settled || o == breaker.Undecided {
		return
	}
	t.settled = true
	if h.RateLimited {
		m.rateLimited(now, t, h)
	}
	switch o {
	case breaker.Success:
		if m.succeed(now, t) {
			m.run = nil
		}
	case breaker.Failure:
		m.fail(now, t, t.generation == m.generation, h, done)
	default:
		m.leave(t)
		m.totals.Ignored++
	}
}

// firstEvent is a stream's success.
func (m *model) firstEvent(now time.Duration, t *ticket) {
	if !t.settled {
		t.settled = true
		t.provisional = m.succeed(now, t)
	}
}

// endWell, endEarly and breakOff end a stream that has had its first event.
func (m *model) endWell(t *ticket) {
	if t.provisional && m.stillCounts(t) {
		m.run = nil
	}
	t.provisional = false
}

func (m *model) endEarly(t *ticket) { t.provisional = false }

func (m *model) breakOff(now time.Duration, t *ticket, done string) {
	if !t.provisional {
		return
	}
	t.provisional = false
	m.totals.Success--
	for i, o := range m.outcomes {
		if o.of == t {
			m.outcomes = append(m.outcomes[:i:i], m.outcomes[i+1:]...)
			break
		}
	}
	m.fail(now, t, m.stillCounts(t), breaker.Hint{}, done)
}

// stillCounts reports whether the end of a stream counts: in the state that its
// success counted in, or in the closed one that it led to as a probe.
func (m *model) stillCounts(t *ticket) bool {
	return t.generation == m.generation ||
		t.probe && m.state == breaker.Closed && t.generation+1 == m.generation
}

func (m *model) succeed(now time.Duration, t *ticket) bool {
	if t.generation != m.generation {
		m.totals.Stale++
		return false
	}
	m.totals.Success++
	m.doublings = 0
	if !t.probe {
		m.outcomes = append(m.outcomes, outcome{at: now, of: t, success: true})
		return true
	}
	m.leave(t)
	if m.succeeded++; m.succeeded == m.cfg.SuccessThreshold {
		m.move(breaker.Closed, now, "probes_succeeded")
	}
	return true
}

func (m *model) fail(now time.Duration, t *ticket, counts bool, h breaker.Hint, done string) {
	if !counts {
		m.totals.Stale++
		return
	}
	m.totals.Failure++
	reason := "probe_failed"
	if m.state == breaker.Closed {
		failure := outcome{at: now, of: t}
		m.outcomes = append(m.outcomes, failure)
		m.run = append(m.run, failure)
		least, most := m.successes(now)
		reason = m.reasonToOpen(now, most)
		for n := least; n < most; n++ {
			if r := m.reasonToOpen(now, n); r == done {
				reason = r
			}
		}
	}
	if reason == "" {
		return
	}
	rest := m.cfg.OpenDuration
	if h.Known && h.RetryAfter > 0 {
		rest = min(h.RetryAfter, 2*time.Minute)
	}
	m.move(breaker.Open, now, reason)
	m.openUntil = now + rest
}

// reasonToOpen returns why the latest failure opens the breaker, if there were
// so many successes in the window, or "".
func (m *model) reasonToOpen(now time.Duration, successes int) string {
	failures := m.failures(now)
	outcomes := successes + len(failures)
	busy := outcomes >= m.cfg.MinRequests
	if m.cfg.FailureThreshold > 0 && m.runLength() >= m.cfg.FailureThreshold &&
		(!busy || now-m.run[0].at >= time.Second) {
		return "failures_in_a_row"
	}
	last := failures[max(0, len(failures)-max(m.cfg.MinRequests, 2)):]
	if m.cfg.FailureRatio > 0 && busy && float64(len(failures))/float64(outcomes) >= m.cfg.FailureRatio &&
		now-last[0].at >= time.Second {
		return "failure_ratio"
	}
	return ""
}

// runLength counts failures in a row, and those of one call once.
func (m *model) runLength() int {
	n := 0
	calls := map[int]bool{0: false}
	for _, f := range m.run {
		if !calls[f.of.call] {
			n++
			calls[f.of.call] = f.of.call != 0
		}
	}
	return n
}

// inWindow: a window has ten steps and forgets one at a time.
func (m *model) inWindow(now, at time.Duration) bool {
	step := m.cfg.Window / 10
	return now/step-at/step < 10
}

func (m *model) failures(now time.Duration) (failures []outcome) {
	for _, o := range m.outcomes {
		if !o.success && m.inWindow(now, o.at) {
			failures = append(failures, o)
		}
	}
	return failures
}

// successes returns how many successes a breaker may see in its window. It has
// read the clock when the state began and at each failure: what came after one
// of those in the window is not taken for older than the window.
func (m *model) successes(now time.Duration) (least, most int) {
	clockRead := m.inWindow(now, m.begun)
	for _, o := range m.outcomes {
		switch inside := m.inWindow(now, o.at); {
		case !inside:
		case !o.success:
			clockRead = true
		default:
			most++
			if clockRead {
				least++
			}
		}
	}
	return max(least, most-m.slack), most
}

func (m *model) rateLimited(now time.Duration, t *ticket, h breaker.Hint) {
	if h.Known && h.RetryAfter <= 0 {
		return
	}
	news := t.pauses == m.pauses
	var length time.Duration
	switch {
	case h.Known:
		length = min(h.RetryAfter, 2*time.Minute)
		if news && m.pauseLength > 0 && now < m.pausedUntil+time.Second {
			length = max(length, time.Second)
		}
	case m.doublings == 0 || news:
		m.doublings++
		fallthrough
	default:
		length = time.Second
		for range m.doublings - 1 {
			length = min(2*length, 30*time.Second)
		}
	}
	if m.pausedUntil <= now {
		m.pauses++
	}
	if now+length > m.pausedUntil {
		m.pausedUntil, m.pauseLength = now+length, length
	}
}

func (m *model) trip(now time.Duration) {
	m.move(breaker.Open, now, "tripped")
	m.openUntil = now + m.cfg.OpenDuration
}

func (m *model) reset(now time.Duration) {
	m.move(breaker.Closed, now, "reset")
	m.pausedUntil, m.pauseLength, m.doublings = 0, 0, 0
}

func (m *model) move(to breaker.State, now time.Duration, reason string) {
	if to != m.state {
		m.changes = append(m.changes, breaker.StateChange{
			Key: key, From: m.state, To: to, At: m.start.Add(now), Seq: uint64(len(m.changes) + 1), Reason: reason,
		})
		m.since = now
	}
	m.state = to
	m.generation, m.begun = m.generation+1, now
	m.outcomes, m.run, m.places, m.succeeded = nil, nil, nil, 0
}

// shows returns the state that the world sees: an open breaker that would let a
// probe through is half open.
func (m *model) shows(now time.Duration) breaker.State {
	if m.state == breaker.Open && now >= max(m.openUntil, m.pausedUntil) {
		return breaker.HalfOpen
	}
	return m.state
}
