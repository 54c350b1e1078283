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
	reasonPlacesRanOut    = "places_ran_out"
	reasonRested          = "open_duration_over"
	reasonTripped         = "tripped"
	reasonReset           = "reset"
	reasonWaryFailure     = "failure_after_advice"
	reasonQuorum          = "advised_by_others"
)

// How long a breaker is open.
const (
	firstStep   = 5 * time.Second   // the first time, if OpenDuration is not shorter
	longestOpen = 120 * time.Second // whatever the failure asked for

	// Where calls go somewhere else meanwhile a probe costs no call, and they
	// should come back soon.
	longestAway = 15 * time.Second
)

// What it takes to open a breaker. Evidence needs time: what fails together fails
// for one reason, and an open breaker would refuse the calls that retries save.
const (
	rowLasts    = time.Second     // at least, from the first failure in a row that counts to the one that opens
	ratioLasts  = 2 * time.Second // at least, for which the share of failures stays too high
	justNow     = 2 * time.Second // the ratio must hold for these outcomes alone, too
	leashLength = 2               // failures in a row, soon after a breaker closed
)

// A machine is what a breaker does: it knows no lock, no clock and no chance, so that
// every rule can be tested by itself. Its Breaker guards it by a lock. Times are
// nanoseconds on the breaker's clock.
type machine struct {
	cfg *Config

	state      State
	since      int64
	generation uint64 // counts states; an outcome of an older one is stale
	openFor    int64  // as planned when it opened
	openUntil  int64
	limit      int64  // the longest time limit of ours that the failures since it was closed ran into
	step       int64  // how long it opens the next time
	leashed    bool   // a short row opens it
	why        string // it left the closed state the last time
	jitter     int64  // thousandths of its time for which it stays open beyond it
	others     others // who say that it had better be open; none unless it is closed

	// While closed.
	window  window
	recent  window // of the last two seconds
	latest  latest
	row     row
	high    row    // of failures at which the ratio was high
	quiet   int64  // since then there was no failure
	endedAt uint64 // tally.ended when it closed

	places    places // while half open
	succeeded int    // probes

	seq     uint64
	changes []change // not yet announced
}

// A change is one transition that is still to be announced.
type change struct {
	from, to State
	at       int64
	seq      uint64
	reason   string
	advise   int64 // until when other processes hear that it is open; 0 if they hear nothing
}

// A tally is the successes counted so far, without locks, outside the machine.
type tally struct {
	all   uint64
	ended uint64 // those that ended well
	sent  int64  // requests that were admitted while a row was under way, less all that were ignored
}

// A failure is what a machine must know of one.
type failure struct {
	call       *call.Call // that the request is an attempt of; may be nil
	probe      uint64     // its id, if it is one, else 0
	retryAfter int64      // what the server asked for, else 0
	limit      int64      // the time limit of ours that it ran into, else 0
	inRow      bool       // the request was admitted in the row that is under way
	standIn    bool       // its call may go somewhere else
}

// newMachine returns a closed machine.
func newMachine(cfg *Config, now int64) machine {
	m := machine{cfg: cfg, window: newWindow(cfg.Window), recent: newWindow(justNow), since: now}
	m.forgive()
	m.begin(now, tally{})
	return m
}

// roll lets the windows forget, where seen is the number of successes when the
// clock was read before. It comes before all that happens at now.
func (m *machine) roll(now int64, seen uint64) {
	if m.state == Closed {
		m.window.roll(now, seen)
		m.recent.roll(now, seen)
	}
}

// rollAt returns when roll is due.
func (m *machine) rollAt() int64 { return min(m.window.end(), m.recent.end()) }

// An admission is the answer to a request.
type admission struct {
	ok    bool
	probe uint64 // its id if the request is one, else 0
	wait  time.Duration
}

// admit answers a request. Nothing else moves an open breaker on, since there is no timer:
// without requests it does not matter what state it is in.
func (m *machine) admit(now int64, t tally) admission {
	if m.state == Open && now >= m.openUntil {
		m.move(HalfOpen, now, t, reasonRested)
	}
	if m.state == HalfOpen {
		m.expire(now, t)
	}
	switch m.state {
	case Open:
		return admission{wait: time.Duration(m.openUntil - now)}
	case HalfOpen:
		probe, wait := m.places.take(now)
		return admission{ok: probe != 0, probe: probe, wait: time.Duration(wait)}
	default:
		return admission{ok: true}
	}
}

// expire closes a half-open breaker in which so many places have run out that
// waiting for an outcome would keep everybody out.
func (m *machine) expire(now int64, t tally) {
	m.places.expire(now)
	if m.places.ranOut >= enoughRan {
		m.close(now, t, reasonPlacesRanOut)
	}
}

// succeed takes a probe's success. Those of a closed breaker only count, and
// they do so without the machine. A probe whose place has run out counts as any other:
// what it says is no less true.
func (m *machine) succeed(now int64, t tally, probe uint64) {
	m.places.leave(probe)
	m.succeeded++
	if m.succeeded >= m.cfg.SuccessThreshold {
		m.close(now, t, reasonProbesSucceeded)
	}
}

// close closes a half-open breaker. One that has opened on the word of others was
// no worse than theirs, and is on no leash for it: a false alarm ends where it
// began.
func (m *machine) close(now int64, t tally, reason string) {
	m.move(Closed, now, t, reason)
	m.leashed = m.leashed || !m.onAdvice()
}

// onAdvice reports whether it was the word of others that opened the breaker.
func (m *machine) onAdvice() bool { return m.why == reasonWaryFailure || m.why == reasonQuorum }

// onEvidence reports whether its own failures alone opened the breaker.
func (m *machine) onEvidence() bool {
	return m.why == reasonFailuresInARow || m.why == reasonFailureRatio
}

// fail takes a failure, of any request.
func (m *machine) fail(now int64, t tally, f failure) {
	switch m.state {
	case HalfOpen:
		m.failProbe(now, t, f)
	case Closed:
		m.failClosed(now, t, f)
	case Open:
	}
}

// failProbe takes the failure of a request in a half-open breaker. It opens again, for
// twice as long as the last time.
func (m *machine) failProbe(now int64, t tally, f failure) {
	if early := m.places.leave(f.probe); early && m.tolerates() {
		return
	}
	m.step = min(2*m.step, int64(m.cfg.OpenDuration))
	m.open(now, t, f, reasonProbeFailed)
}

// tolerates reports whether a half-open breaker bears a failure that came before
// its place ran out. As long as no place did, it bears none. Later there are many
// probes under way, of which a few fail even if the provider is well.
func (m *machine) tolerates() bool {
	p := &m.places
	p.failed++
	well := p.ranOut + len(p.held) + m.succeeded
	return p.ranOut > 0 && m.cfg.FailureRatio > 0 && !m.isHigh(uint64(well), uint64(p.failed))
}

// failClosed takes a failure of a closed breaker, which may open it. A breaker that was
// healthy for long first forgets that it was open, so that this failure is its first.
func (m *machine) failClosed(now int64, t tally, f failure) {
	if m.healthy(now, t) {
		m.forgive()
	}
	m.quiet = now
	m.window.fail()
	m.recent.fail()
	m.latest.fail(t.all)
	m.row.fail(now, gap(rowLasts, m.cfg.FailureThreshold), t.sent, f)
	if m.rowIsLong() && m.row.provesNothing(t.sent) {
		m.row.countAnew(t.sent)
	}
	switch {
	case m.rowIsLong():
		m.open(now, t, f, reasonFailuresInARow)
	case m.ratioStaysHigh(now, t):
		m.open(now, t, f, reasonFailureRatio)
	case m.others.wary(now):
		m.open(now, t, f, reasonWaryFailure)
	}
}

// advise takes the word of another process that the provider is down until then.
// A closed breaker becomes wary. One that has not been served for a while, as far
// as is known, opens at once where a quorum says so.
func (m *machine) advise(now int64, t tally, served int64, origin string, until int64) {
	until = min(until, now+int64(longestOpen))
	if m.state != Closed || until <= now {
		return
	}
	if m.healthy(now, t) {
		m.forgive()
	}
	m.others.add(origin, until)
	if end := m.others.agreed(); end > now && now-served >= int64(servedLately) {
		m.limit = max(m.limit, m.row.limit)
		m.move(Open, now, t, reasonQuorum)
		m.rest(now, end-now)
		m.stagger()
	}
}

// trust ends the wariness of a breaker, for a success.
func (m *machine) trust() { m.others = others{} }

// stagger keeps replicas that have opened together from probing together.
func (m *machine) stagger() { m.openUntil += m.openFor / 1000 * m.jitter }

// healthy reports whether a closed breaker has been so for long enough to forget
// that it was open.
func (m *machine) healthy(now int64, t tally) bool {
	return now-m.quiet >= int64(m.cfg.Window) || t.ended-m.endedAt >= uint64(m.cfg.MinRequests)
}

// forgive forgets that the breaker was open.
func (m *machine) forgive() {
	m.step, m.leashed = int64(min(firstStep, m.cfg.OpenDuration)), false
}

// gap is how far apart failures must lie to count, so that so many of them take
// as long as evidence must last.
func gap(lasts time.Duration, failures int) int64 { return int64(lasts) / int64(max(failures-1, 1)) }

// rowIsLong reports whether so many failures in a row have counted that the breaker
// opens. On a leash it takes fewer.
func (m *machine) rowIsLong() bool {
	enough := m.cfg.FailureThreshold
	if m.leashed {
		enough = min(enough, leashLength)
	}
	return enough > 0 && m.row.counted >= enough
}

// ratioStaysHigh reports whether the share of failures opens the breaker. It must
// stay high for a while: at five failures that lie apart, with none between them at
// which it was not. Else the burst that a limiter sheds would open it.
func (m *machine) ratioStaysHigh(now int64, t tally) bool {
	if !m.ratioIsHigh(now, t) {
		m.high = row{}
		return false
	}
	m.high.fail(now, gap(ratioLasts, lately), 0, failure{})
	return m.high.counted >= lately
}

// ratioIsHigh reports whether the share of failures opens the breaker: that of
// all outcomes in the window, and that of the latest alone. Neither a burst that
// is over nor a single late failure is a reason, nor are failures to which the
// successes are still missing.
func (m *machine) ratioIsHigh(now int64, t tally) bool {
	if m.row.provesNothing(t.sent) {
		return false
	}
	successes, failures := m.window.counts(now, t.all)
	if successes+failures < uint64(m.cfg.MinRequests) || !m.isHigh(successes, failures) {
		return false
	}
	successes, failures = m.recent.counts(now, t.all)
	if successes+failures < lately {
		successes, failures = m.latest.counts(t.all)
	}
	return m.isHigh(successes, failures)
}

// isHigh reports whether failures have the share that opens a breaker. A negative ratio
// turns the rule off.
func (m *machine) isHigh(successes, failures uint64) bool {
	return m.cfg.FailureRatio > 0 && float64(failures)/float64(successes+failures) >= m.cfg.FailureRatio
}

// open opens the breaker for its step, or for longer if the failure asked for it.
func (m *machine) open(now int64, t tally, f failure, reason string) {
	m.limit = max(m.limit, m.row.limit, f.limit)
	m.move(Open, now, t, reason)
	longest := int64(longestOpen)
	if f.standIn {
		longest = int64(longestAway)
	}
	m.rest(now, min(max(m.step, f.retryAfter), longest))
	if m.onEvidence() {
		m.changes[len(m.changes)-1].advise = m.openUntil
	}
	m.stagger()
}

// rest sets for how long the breaker is open.
func (m *machine) rest(now, length int64) { m.openFor, m.openUntil = length, now+length }

// trip opens the breaker, or keeps it open, for OpenDuration from now.
func (m *machine) trip(now int64, t tally) {
	if m.state == Closed && m.healthy(now, t) {
		m.forgive()
	}
	m.limit = max(m.limit, m.row.limit)
	m.move(Open, now, t, reasonTripped)
	m.rest(now, int64(m.cfg.OpenDuration))
}

// reset closes the breaker and forgets what it has learned.
func (m *machine) reset(now int64, t tally) {
	m.move(Closed, now, t, reasonReset)
	m.forgive()
}

// move changes the state, and begins a generation also where the state stays: what was
// admitted before a Trip or Reset does not count after it. A probe's failure is not why
// the breaker has left the closed state.
func (m *machine) move(to State, now int64, t tally, reason string) {
	if m.state != to {
		m.seq++
		m.changes = append(m.changes, change{from: m.state, to: to, at: now, seq: m.seq, reason: reason})
		m.state, m.since = to, now
	}
	if to == Open && reason != reasonProbeFailed {
		m.why = reason
	}
	m.begin(now, t)
}

// nextChange returns the oldest change that is not yet announced.
func (m *machine) nextChange() (c change, ok bool) {
	if len(m.changes) == 0 {
		return change{}, false
	}
	c, m.changes = m.changes[0], m.changes[1:]
	return c, true
}

// begin begins a generation, in which nothing has been counted yet.
func (m *machine) begin(now int64, t tally) {
	m.generation++
	m.row, m.high, m.others, m.succeeded = row{}, row{}, others{}, 0
	m.places.reset(m.cfg.MaxProbes, m.placeLength())
	if m.state != Closed {
		return
	}
	m.limit, m.quiet, m.endedAt = 0, now, t.ended
	m.window.reset(now, t.all)
	m.recent.reset(now, t.all)
	m.latest.reset(t.all)
}

// placeLength is how long a probe holds its place: for less than it may take to
// fail again, nothing could be learned from it.
func (m *machine) placeLength() int64 {
	if m.cfg.ProbeTimeout > 0 {
		return int64(m.cfg.ProbeTimeout)
	}
	return max(m.openFor, m.limit)
}

// revoke takes back the nth success of all. The failure that it turned into is
// still to be taken.
func (m *machine) revoke(nth uint64) {
	m.window.revoke(nth)
	m.recent.revoke(nth)
	m.latest.revoke(nth)
}

// endRow ends a row of failures, for a success that was admitted in it.
func (m *machine) endRow() { m.row = row{} }

// stateAt returns the state at now: an open breaker is half open from when it
// would let a probe through, though it moves only with the first probe.
func (m *machine) stateAt(now int64) State {
	if m.state == Open && now >= m.openUntil {
		return HalfOpen
	}
	return m.state
}

// refusesFor returns for how long requests are certain to be refused from now
// on. A half-open breaker may let one through at any time.
func (m *machine) refusesFor(now int64) time.Duration {
	if m.state == Open {
		return time.Duration(max(m.openUntil-now, 0))
	}
	return 0
}

// idle reports whether the breaker is closed, knows of no failures and is on no
// leash. Another one that is made anew would then decide no differently.
func (m *machine) idle(now int64, t tally) bool {
	if m.state != Closed || m.row.number != 0 || m.leashed && !m.healthy(now, t) {
		return false
	}
	_, failures := m.window.counts(now, 0)
	return failures == 0
}
