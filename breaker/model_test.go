package breaker_test

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/retrip-go/retrip/breaker"
)

// What the rules say in numbers.
const (
	firstStep    = 5 * time.Second   // for which a breaker opens at first, at most
	longestOpen  = 120 * time.Second // for which a failure opens it
	rowLasts     = time.Second       // at least, until it opens
	ratioHolds   = 5                 // times, so far apart, until it opens
	ratioSpacing = 500 * time.Millisecond
	recently     = 2 * time.Second // how far back the ratio must hold by itself
	fewRecent    = 5               // or among so many outcomes, if there were fewer
	steps        = 10              // in which a window forgets
	mostPlaces   = 1000
	enoughRanOut = 64 // places, for a half-open breaker to close
	quorum       = 2  // of others, that opens a breaker
	servedSince  = 5 * time.Second
)

// A model is a breaker by the letter of its rules: it keeps every outcome with
// its time and looks at all of them each time. Times count from when the
// breaker was made.
//
// The rules leave one thing open. A breaker does not read the clock for each
// success, so it may count one as younger than it is. Where that makes a
// difference, the model goes by what the breaker has done.
type model struct {
	cfg   breaker.Config // with its defaults filled in
	start time.Time

	state      breaker.State
	since      time.Duration
	generation int // counts states, and each Trip and Reset
	changes    []breaker.StateChange

	// While closed.
	outcomes []outcome // in order of counting
	row      row
	highs    map[high]bool // what the breaker may make of the ratio so far

	// Since it closed, for the step and the leash to go back.
	quietSince time.Duration // when it closed, or failed last
	endedWell  int
	leash      bool
	step       time.Duration // for which the next failure opens it

	// While open, and for the places of the probes after it.
	openFor   time.Duration
	openUntil time.Duration
	limit     time.Duration // the longest of ours that a failure of the row or a failed probe ran into
	onAdvice  bool          // it opened because others said so, at least in part
	onOwn     bool          // it opened by its own failures alone

	// What others say, and what they hear.
	fleet       bool
	advised     map[string]time.Duration // by whom, until when
	published   []time.Duration          // until when
	succeededAt time.Duration            // last; -1 for never
	clockReadAt time.Duration            // at the latest, after that; -1 for not yet

	// While half open.
	places    []place // that are taken, and those that ran out unnoticed
	allowed   int     // places, taken or free
	ranOut    int
	succeeded int
	failed    int // of the probes, without opening it

	slack    int // successes of a kind that may be without a time
	admitted int
	totals   breaker.Totals
}

// An outcome is one that counts in the ratio.
type outcome struct {
	of      *ticket
	success bool
	at      time.Duration
	late    time.Duration // at which the breaker may take it to have been
}

// notYet is the late time of a success that may be without a time: when the
// breaker reads its clock next.
const notYet = time.Duration(math.MaxInt64)

// A row is one of failures without a success between them.
type row struct {
	counted []counted
	calls   map[int]bool  // that have failed in it, counted or not
	began   int           // how many requests had been admitted then
	limit   time.Duration // the longest of ours that one of its failures ran into
	beganAt time.Duration
	failed  int    // counted or not
	slow    int    // of these, after a long time
	marks   []mark // when it began, and when it was counted anew
}

// A mark is what there was at a moment of a row.
type mark struct{ admitted, ignored, failed, slow int }

type counted struct {
	at   time.Duration
	call int
}

// A high is for how long the ratio has held at each failure.
type high struct {
	times int           // that count
	last  time.Duration // of them
}

type place struct {
	of       *ticket
	deadline time.Duration
}

// A ticket is the model's permit.
type ticket struct {
	number      int // counts those admitted
	generation  int
	probe       bool
	call        int // 0 for none
	stream      bool
	settled     bool
	provisional bool // settled, with a success that may be revoked
}

// An ending is what an attempt came to.
type ending struct {
	outcome    breaker.Outcome
	retryAfter time.Duration
	limit      time.Duration // of ours, that it ran into
}

func newModel(cfg breaker.Config, start time.Time) *model {
	m := &model{cfg: cfg, start: start, slack: 15, fleet: cfg.Fleet != nil, succeededAt: -1, clockReadAt: -1}
	m.step = m.firstStep()
	return m
}

func (m *model) firstStep() time.Duration { return min(firstStep, m.cfg.OpenDuration) }

// allow returns a ticket, or nil and how long to wait.
func (m *model) allow(now time.Duration, call int) (*ticket, time.Duration) {
	if m.state == breaker.Open {
		if now < m.openUntil {
			m.totals.Rejected++
			return nil, m.openUntil - now
		}
		m.move(breaker.HalfOpen, now, "open_duration_over")
		m.allowed = m.cfg.MaxProbes
	}
	if m.state == breaker.HalfOpen {
		m.noticeRanOut(now)
	}
	t := &ticket{number: m.admitted, generation: m.generation, call: call, probe: m.state == breaker.HalfOpen}
	if t.probe {
		if len(m.places) >= m.allowed {
			m.totals.Rejected++
			return nil, m.firstDeadline() - now
		}
		m.places = append(m.places, place{of: t, deadline: now + m.placeLasts()})
	}
	m.admitted++
	return t, 0
}

// noticeRanOut clears the places that ran out. Each doubles their number.
func (m *model) noticeRanOut(now time.Duration) {
	taken := m.taken(now)
	for range len(m.places) - len(taken) {
		m.ranOut++
		m.allowed = min(2*m.allowed, mostPlaces)
	}
	m.places = taken
	if m.ranOut >= enoughRanOut {
		m.close(now, "places_ran_out")
	}
}

// taken returns the places that have not run out.
func (m *model) taken(now time.Duration) (taken []place) {
	for _, p := range m.places {
		if p.deadline > now {
			taken = append(taken, p)
		}
	}
	return taken
}

// holdsPlace reports whether a probe has its place still, or did not lose it
// before anybody noticed.
func (m *model) holdsPlace(t *ticket) bool {
	return slices.ContainsFunc(m.places, func(p place) bool { return p.of == t })
}

func (m *model) firstDeadline() time.Duration {
	first := notYet
	for _, p := range m.places {
		first = min(first, p.deadline)
	}
	return first
}

// placeLasts returns for how long a probe keeps its place.
func (m *model) placeLasts() time.Duration {
	if m.cfg.ProbeTimeout > 0 {
		return m.cfg.ProbeTimeout
	}
	return max(m.openFor, m.limit)
}

// leave frees the place of a probe that is over, also one that ran out and was
// not noticed yet.
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
func (m *model) settle(now time.Duration, t *ticket, e ending, done string) {
	if t.settled || e.outcome == breaker.Undecided {
		return
	}
	t.settled = true
	switch e.outcome {
	case breaker.Success:
		if m.succeed(now, t) && t.generation == m.generation {
			m.endWell(t)
		}
	case breaker.Failure:
		m.fail(now, t, t.generation == m.generation, e, done)
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

// streamEndsWell, streamEndsEarly and streamBreaks end a stream that has had its
// first event.
func (m *model) streamEndsWell(t *ticket) {
	if t.provisional && m.stillCounts(t) {
		m.endWell(t)
	}
	t.provisional = false
}

func (m *model) streamEndsEarly(t *ticket) { t.provisional = false }

func (m *model) streamBreaks(now time.Duration, t *ticket, e ending, done string) {
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
	m.fail(now, t, m.stillCounts(t), e, done)
}

// stillCounts reports whether the end of a stream counts: in the state that its
// success counted in, or in the closed one that it led to as a probe.
func (m *model) stillCounts(t *ticket) bool {
	return t.generation == m.generation ||
		t.probe && m.state == breaker.Closed && t.generation+1 == m.generation
}

// succeed counts a success, and reports whether it counts in this state.
func (m *model) succeed(now time.Duration, t *ticket) bool {
	if t.generation != m.generation {
		m.totals.Stale++
		return false
	}
	m.totals.Success++
	m.succeededAt, m.clockReadAt = now, -1
	m.advised = nil
	if !t.probe {
		m.outcomes = append(m.outcomes, outcome{of: t, success: true, at: now, late: notYet})
		m.every16th(now, t.stream)
		return true
	}
	m.leave(t)
	if m.succeeded++; m.succeeded == m.cfg.SuccessThreshold {
		m.close(now, "probes_succeeded")
	}
	return true
}

// endWell is for a success that is final: it ends the row, if it was admitted
// after that began.
func (m *model) endWell(t *ticket) {
	if m.state != breaker.Closed {
		return
	}
	if m.endedWell++; m.endedWell >= m.cfg.MinRequests {
		m.goBack()
	}
	if len(m.row.counted) > 0 && t.number >= m.row.began {
		m.row = row{}
	}
}

// quieten lets step and leash go back after a Window without a failure.
func (m *model) quieten(now time.Duration) {
	if m.state == breaker.Closed && now-m.quietSince >= m.cfg.Window {
		m.goBack()
	}
}

func (m *model) goBack() { m.step, m.leash = m.firstStep(), false }

func (m *model) fail(now time.Duration, t *ticket, counts bool, e ending, done string) {
	m.noteReading(now)
	if !counts {
		m.totals.Stale++
		return
	}
	m.totals.Failure++
	if m.state == breaker.HalfOpen {
		m.failProbe(now, t, e)
		return
	}
	m.quieten(now)
	m.quietSince = now
	m.readClock(now)
	m.outcomes = append(m.outcomes, outcome{of: t, at: now, late: now})
	m.addToRow(now, t, e.limit)
	if m.rowOpens() && m.rowProvesNothing() {
		m.row.counted = append(m.row.counted[:0:0], m.row.counted[len(m.row.counted)-1])
		m.row.marks = append(m.row.marks, m.mark())
	}
	reason := ""
	switch {
	case m.rowOpens():
		reason = "failures_in_a_row"
	case m.ratioOpens(now, done):
		reason = "failure_ratio"
	case m.advisers(now) > 0:
		reason = "failure_after_advice"
	}
	if reason != "" {
		m.open(now, reason, e.retryAfter, m.row.limit)
	}
}

// noteReading notes that the breaker has read its clock: no success so far is
// younger.
func (m *model) noteReading(now time.Duration) {
	if m.clockReadAt < 0 {
		m.clockReadAt = now
	}
}

// advisers returns how many say that it had better be open.
func (m *model) advisers(now time.Duration) (n int) {
	for _, until := range m.advised {
		if until > now {
			n++
		}
	}
	return n
}

// advise takes the word of somebody else. A breaker that has not been served for a
// while goes by that of a quorum, for as long as so many agree.
func (m *model) advise(now time.Duration, origin string, until time.Duration, done string) {
	m.noteReading(now)
	until = min(until, now+longestOpen)
	if m.state != breaker.Closed || until <= now {
		return
	}
	m.quieten(now)
	if m.advised == nil {
		m.advised = map[string]time.Duration{}
	}
	m.advised[origin] = max(m.advised[origin], until)
	if m.advisers(now) < quorum || m.isServed(now, done) {
		return
	}
	ends := slices.Sorted(maps.Values(m.advised))
	m.limit = m.row.limit
	m.move(breaker.Open, now, "advised_by_others")
	m.openFor = ends[len(ends)-quorum] - now
	m.openUntil = now + m.openFor
}

// isServed reports whether there was a success lately. One whose time the breaker
// has not read may be as young as the next reading.
func (m *model) isServed(now time.Duration, done string) bool {
	switch {
	case m.succeededAt < 0 || now-m.clockReadAt >= servedSince:
		return false
	case now-m.succeededAt < servedSince:
		return true
	default:
		return done == ""
	}
}

// addToRow adds a failure to the row, where it counts unless it comes together
// with the last that did, or is of a call that has failed in it before.
func (m *model) addToRow(now time.Duration, t *ticket, limit time.Duration) {
	call := t.call
	m.row.limit = max(m.row.limit, limit)
	first := m.row.marks == nil
	if first {
		m.row.marks, m.row.beganAt = []mark{m.mark()}, now
	}
	fromBefore := !first && t.number < m.row.began
	// The burst that a row begins with is one failure.
	if !fromBefore || now-m.row.beganAt >= m.spacing() {
		m.row.failed++
		if fromBefore || limit > 0 {
			m.row.slow++
		}
	}
	if call != 0 && m.row.calls[call] {
		return
	}
	if m.row.calls == nil {
		m.row.calls = map[int]bool{}
	}
	m.row.calls[call] = true
	if n := len(m.row.counted); n == 0 {
		m.row.began = m.admitted
	} else if now-m.row.counted[n-1].at < m.spacing() {
		return
	}
	m.row.counted = append(m.row.counted, counted{at: now, call: call})
}

// spacing is how far apart the failures lie that count in a row.
func (m *model) spacing() time.Duration {
	return rowLasts / time.Duration(max(1, m.cfg.FailureThreshold-1))
}

func (m *model) rowOpens() bool {
	threshold := m.cfg.FailureThreshold
	if threshold < 0 {
		return false
	}
	if m.leash {
		threshold = min(2, threshold)
	}
	return len(m.row.counted) >= threshold
}

func (m *model) mark() mark {
	return mark{admitted: m.admitted, ignored: int(m.totals.Ignored), failed: m.row.failed, slow: m.row.slow}
}

// rowProvesNothing reports whether less than two thirds of what was admitted in the row have
// failed, as far as it is looked at: to the last but one time that it was counted anew.
// What was ignored is left out. A row in which more than half have failed after a long
// time, in a request from before the row or at a limit of ours, is not judged so.
func (m *model) rowProvesNothing() bool {
	from, to := m.row.marks[max(0, len(m.row.marks)-2)], m.mark()
	if 2*(to.slow-from.slow) > to.failed-from.failed {
		return false
	}
	return 2*(to.admitted-from.admitted-(to.ignored-from.ignored)) > 3*(to.failed-from.failed)
}

// failProbe opens the breaker again. Once places have run out there are many
// probes, of which one that fails before its place runs out does not say much.
func (m *model) failProbe(now time.Duration, t *ticket, e ending) {
	held := m.holdsPlace(t)
	m.leave(t)
	m.failed++
	all := m.ranOut + len(m.places) + m.succeeded + m.failed
	if held && m.ranOut > 0 && m.cfg.FailureRatio > 0 && !m.isRatio(m.failed, all) {
		return
	}
	m.step = min(2*m.step, m.cfg.OpenDuration)
	m.open(now, "probe_failed", e.retryAfter, max(m.limit, e.limit))
}

// ratioOpens reports whether the latest failure opens the breaker for the ratio,
// which must have held at some failures in turn. By how old the breaker takes its
// successes to be, it may have held or not.
func (m *model) ratioOpens(now time.Duration, done string) bool {
	must, may := m.ratioIsHigh(now)
	before := m.highs
	if len(before) == 0 {
		before = map[high]bool{{}: true}
	}
	m.highs = map[high]bool{}
	opens := false
	for h := range before {
		if !must {
			m.highs[high{}] = true
		}
		if !may {
			continue
		}
		if h.times == 0 || now-h.last >= ratioSpacing {
			h.times++
			h.last = now
		}
		if h.times == ratioHolds {
			opens = true
		} else {
			m.highs[h] = true
		}
	}
	return opens && (done == "failure_ratio" || len(m.highs) == 0)
}

// ratioIsHigh reports whether so many have failed, in the window and of the latest
// alone, and whether the breaker may take it for so.
func (m *model) ratioIsHigh(now time.Duration) (must, may bool) {
	if m.cfg.FailureRatio < 0 || m.rowProvesNothing() {
		return false, false
	}
	windowMust, windowMay := m.holds(now, m.cfg.Window/steps, func(failures, outcomes int) bool {
		return outcomes >= m.cfg.MinRequests && m.isRatio(failures, outcomes)
	})
	recentMust, recentMay := m.holds(now, recently/steps, func(failures, outcomes int) bool {
		if outcomes >= fewRecent {
			return m.isRatio(failures, outcomes)
		}
		last := m.outcomes[max(0, len(m.outcomes)-fewRecent):]
		failures = 0
		for _, o := range last {
			if !o.success {
				failures++
			}
		}
		return m.isRatio(failures, len(last))
	})
	return windowMust && recentMust, windowMay && recentMay
}

func (m *model) isRatio(failures, outcomes int) bool {
	return float64(failures)/float64(outcomes) >= m.cfg.FailureRatio
}

// holds reports whether a rule holds for a window of so long a step: for every
// number of successes that the breaker may see there, and for any.
func (m *model) holds(now, step time.Duration, rule func(failures, outcomes int) bool) (must, may bool) {
	failures, least, most := m.within(now, step)
	must = true
	for successes := least; successes <= most; successes++ {
		if rule(failures, failures+successes) {
			may = true
		} else {
			must = false
		}
	}
	return must, may
}

// within counts the outcomes in a window of so long a step: its ten steps are
// forgotten one at a time.
func (m *model) within(now, step time.Duration) (failures, least, most int) {
	inside := func(at time.Duration) bool { return now/step-at/step < steps }
	for _, o := range m.outcomes {
		switch {
		case !inside(min(o.late, now)):
		case !o.success:
			failures++
		default:
			most++
			if inside(o.at) {
				least++
			}
		}
	}
	return failures, least, most
}

// readClock is what a breaker does at each failure: every success has its time.
func (m *model) readClock(now time.Duration) {
	for i := range m.outcomes {
		m.outcomes[i].late = min(m.outcomes[i].late, now)
	}
}

// every16th lets those successes have their time of which a breaker cannot have
// kept so many without.
func (m *model) every16th(now time.Duration, stream bool) {
	untimed := 0
	for i := len(m.outcomes) - 1; i >= 0; i-- {
		o := &m.outcomes[i]
		if o.late != notYet || o.of.stream != stream {
			continue
		}
		if untimed++; untimed > m.slack {
			o.late = now
		}
	}
}

func (m *model) open(now time.Duration, reason string, retryAfter, limit time.Duration) {
	m.move(breaker.Open, now, reason)
	m.openFor = min(longestOpen, max(m.step, retryAfter))
	m.openUntil = now + m.openFor
	m.limit = limit
	if m.onOwn && m.fleet {
		m.published = append(m.published, m.openUntil)
	}
}

// close is for a breaker that was half open.
func (m *model) close(now time.Duration, reason string) {
	m.move(breaker.Closed, now, reason)
	if !m.onAdvice {
		m.leash = true
	}
}

func (m *model) trip(now time.Duration) {
	m.quieten(now)
	if m.state == breaker.Closed {
		m.limit = m.row.limit
	}
	m.move(breaker.Open, now, "tripped")
	m.openFor = m.cfg.OpenDuration
	m.openUntil = now + m.openFor
}

func (m *model) reset(now time.Duration) {
	m.move(breaker.Closed, now, "reset")
	m.goBack()
}

func (m *model) move(to breaker.State, now time.Duration, reason string) {
	if to != m.state {
		m.changes = append(m.changes, breaker.StateChange{
			Key: key, From: m.state, To: to, At: m.start.Add(now), Seq: uint64(len(m.changes) + 1), Reason: reason,
		})
		m.since = now
	}
	m.state = to
	if to == breaker.Open && reason != "probe_failed" {
		m.onOwn = reason == "failures_in_a_row" || reason == "failure_ratio"
		m.onAdvice = reason == "failure_after_advice" || reason == "advised_by_others"
	}
	m.generation++
	m.advised = nil
	m.outcomes, m.row, m.highs = nil, row{}, nil
	m.quietSince, m.endedWell = now, 0
	m.places, m.allowed, m.ranOut, m.succeeded, m.failed = nil, 0, 0, 0, 0
}

// refusesFor returns for how long requests are certain to be refused: the place
// of a probe may be free at any time.
func (m *model) refusesFor(now time.Duration) time.Duration {
	if m.state != breaker.Open {
		return 0
	}
	return max(0, m.openUntil-now)
}

// shows returns the state that the world sees: an open breaker that would let a
// probe through is half open.
func (m *model) shows(now time.Duration) breaker.State {
	if m.state == breaker.Open && now >= m.openUntil {
		return breaker.HalfOpen
	}
	return m.state
}

// snapshot returns what a breaker has to show, but for its successes.
func (m *model) snapshot(now time.Duration) breaker.Snapshot {
	s := breaker.Snapshot{
		Key: key, State: m.shows(now), Since: m.start.Add(m.since), Seq: uint64(len(m.changes)),
		Probes: len(m.taken(now)), Totals: m.totals,
	}
	if m.state == breaker.Closed {
		s.Failures = uint64(m.failures(now))
		s.ConsecutiveFailures = len(m.row.counted)
	}
	if s.State == breaker.Open {
		s.ProbeAt = m.start.Add(m.openUntil)
	}
	return s
}

// successes returns how many successes a breaker may show: those without a time
// may be missing.
func (m *model) successes(now time.Duration) (least, most int) {
	_, least, most = m.within(now, m.cfg.Window/steps)
	for _, o := range m.outcomes {
		if o.late == notYet && least > 0 {
			least--
		}
	}
	return least, most
}

// isUncertain reports whether a breaker may take successes for younger than
// they are, so that it matters.
func (m *model) isUncertain(now time.Duration) bool {
	for _, step := range []time.Duration{m.cfg.Window / steps, recently / steps} {
		if _, least, most := m.within(now, step); least != most {
			return true
		}
	}
	return false
}

func (m *model) failures(now time.Duration) int {
	failures, _, _ := m.within(now, m.cfg.Window/steps)
	return failures
}
