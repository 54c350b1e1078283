package breaker

import (
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// Why a breaker changed its state; the values of StateChange.Reason.
const (
	reasonFailuresInARow  = "failures_in_a_row"
	reasonFailureRatio    = "failure_ratio"
	reasonProbeFailed     = "probe_failed"
	reasonProbesSucceeded = "probes_succeeded"
	reasonRested          = "open_duration_over"
	reasonTripped         = "tripped"
	reasonReset           = "reset"
)

// longestHint is the longest that a breaker is open.
const longestHint = 120 * time.Second

// A machine is what a breaker does: it knows no lock, no clock and no chance.
// Times are nanoseconds on the breaker's clock.
type machine struct {
	cfg *Config

	state      State
	since      int64
	generation uint64 // counts states; an outcome of an older one is stale
	openUntil  int64

	window window // while closed
	run    run    // while closed

	probes    []probe // places of a half-open breaker
	probesEnd uint64  // id of the latest probe
	succeeded int     // probes

	seq     uint64
	changes []change // not yet told
}

// A probe holds a place until its deadline, or until it is settled.
type probe struct {
	id       uint64 // 0 is a free place
	deadline int64
}

type change struct {
	from, to State
	at       int64
	seq      uint64
	reason   string
}

// A tally is the successes counted so far, without locks, outside the machine.
type tally struct {
	all    uint64
	enders uint64 // those that end a run of failures
}

func newMachine(cfg *Config) machine {
	m := machine{cfg: cfg, window: newWindow(cfg.Window, cfg.MinRequests)}
	m.window.reset(0, 0)
	return m
}

// An admission is the answer to a request.
type admission struct {
	ok    bool
	probe uint64 // its id if the request is one, else 0
	wait  time.Duration
}

// admit answers a request.
func (m *machine) admit(now int64, t tally) admission {
	switch {
	case m.state == Closed:
		return admission{ok: true}
	case m.state == Open && now < m.openUntil:
		return admission{wait: time.Duration(m.openUntil - now)}
	case m.state == Open:
		m.move(HalfOpen, now, t, reasonRested)
	}
	return m.admitProbe(now)
}

// refusesFor returns for how long requests would be refused from now on.
func (m *machine) refusesFor(now int64) time.Duration {
	if m.state == Open {
		return time.Duration(max(m.openUntil-now, 0))
	}
	return 0
}

func (m *machine) admitProbe(now int64) admission {
	if m.probes == nil {
		m.probes = make([]probe, m.cfg.MaxProbes)
	}
	next := m.probes[0].deadline
	for i := range m.probes {
		p := &m.probes[i]
		if p.id == 0 || p.deadline <= now {
			m.probesEnd++
			*p = probe{id: m.probesEnd, deadline: now + int64(m.cfg.ProbeTimeout)}
			return admission{ok: true, probe: p.id}
		}
		next = min(next, p.deadline)
	}
	return admission{wait: time.Duration(next - now)}
}

// free gives a probe's place back.
func (m *machine) free(id uint64) {
	for i := range m.probes {
		if p := &m.probes[i]; p.id == id {
			*p = probe{}
		}
	}
}

// succeed takes a probe's success. Those of a closed breaker only count, and
// they do so without the machine.
func (m *machine) succeed(now int64, t tally, probe uint64) {
	m.free(probe)
	m.succeeded++
	if m.succeeded >= m.cfg.SuccessThreshold {
		m.move(Closed, now, t, reasonProbesSucceeded)
	}
}

// fail takes a failure, of any request.
func (m *machine) fail(now int64, t tally, c *call.Call, retryAfter time.Duration) {
	reason := ""
	switch m.state {
	case HalfOpen:
		reason = reasonProbeFailed
	case Closed:
		m.window.fail(now, t.all)
		m.run.fail(now, t.enders, c)
		reason = m.reasonToOpen(now, t)
	case Open:
	}
	if reason == "" {
		return
	}
	rest := m.cfg.OpenDuration
	if retryAfter > 0 {
		rest = min(retryAfter, longestHint)
	}
	m.move(Open, now, t, reason)
	m.openUntil = now + int64(rest)
}

// reasonToOpen returns why the latest failure opens a closed breaker, or "".
func (m *machine) reasonToOpen(now int64, t tally) string {
	successes, failures := m.window.counts(now, t.all)
	outcomes := successes + failures
	busy := outcomes >= uint64(m.cfg.MinRequests)
	inARow := m.cfg.FailureThreshold > 0 && m.run.length >= m.cfg.FailureThreshold
	switch {
	case inARow && (!busy || m.run.last-m.run.first >= minSpread):
		return reasonFailuresInARow
	case busy && m.cfg.FailureRatio > 0 && float64(failures)/float64(outcomes) >= m.cfg.FailureRatio && m.window.spread(now, failures):
		return reasonFailureRatio
	default:
		return ""
	}
}

// trip opens the breaker, or keeps it open, for OpenDuration from now.
func (m *machine) trip(now int64, t tally) {
	m.move(Open, now, t, reasonTripped)
	m.openUntil = now + int64(m.cfg.OpenDuration)
}

// reset closes the breaker and forgets what it has learned.
func (m *machine) reset(now int64, t tally) {
	m.move(Closed, now, t, reasonReset)
}

// move begins a new state, in which nothing has been counted yet.
func (m *machine) move(to State, now int64, t tally, reason string) {
	if m.state != to {
		m.seq++
		m.changes = append(m.changes, change{from: m.state, to: to, at: now, seq: m.seq, reason: reason})
		m.state, m.since = to, now
	}
	m.generation++
	m.succeeded = 0
	clear(m.probes)
	m.run = run{}
	m.window.reset(now, t.all)
}

// stateAt returns the state at now: an open breaker is half open from when it
// would let a probe through, though it moves only with the first probe.
func (m *machine) stateAt(now int64) State {
	if m.state == Open && now >= m.openUntil {
		return HalfOpen
	}
	return m.state
}
