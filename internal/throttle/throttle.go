// Package throttle decides when the calls of one account may go, once the
// account's rate limit has refused one. It is pure: times are parameters, since
// whatever beginning its user likes, and nothing waits here.
package throttle

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// What was refused without a hint waits for firstGate, then for twice as long
	// after each burst of refusals without an answer between, at most maxGate.
	firstGate = 250 * time.Millisecond
	maxGate   = 30 * time.Second

	// gateShare of a gate is added to it at random, at most. And a gate for a refusal
	// that stands alone may be that share of the time since the last one.
	gateShare = 0.1

	// Refusals are in a row when so many more of them came than half of what was
	// sent; more where some come by chance.
	inARow         = 2.5
	inARowByChance = 3

	// gateGrowth is how much of a gate counts as time in which the rate grows: what
	// nobody spends meanwhile is there afterwards.
	gateGrowth = time.Second

	// trialEvery is how often one call is let out while a gate lies farther ahead.
	trialEvery = 30 * time.Second

	// Most calls are shed when that many more of them are than so many times what was
	// admitted. What is shed at random, a third or half of all, stays below.
	shedTimes = 1.5
	shedMore  = 10

	// forgotten is how long nobody has to wait before there is no limit any more.
	forgotten = time.Minute
)

// The units that a limit may be of.
const (
	ofCalls = iota
	ofCost
	units
)

// A Sent is what is known of a call that was let go. Its caller hands it back with
// the call's outcome. The zero value stands for no call.
type Sent struct {
	At   time.Duration
	Cost int64
	// The epoch tells what was sent before a burst of refusals from what was sent
	// after it.
	Epoch uint64

	UnderWay bool // it is counted among those under way, until it has Returned
}

// A Refusal is what a provider said as it refused a call for its rate limit.
type Refusal struct {
	Wait   time.Duration // that it asked for
	Known  bool          // it has asked for a Wait; else
	AtMost time.Duration // no more is needed than this; 0 if it did not say
	Tokens bool          // the limit is one of tokens
	Before int           // how often it had refused the call before
}

// A Throttle is the rate limit of one account. It must not be copied. Its user locks
// it: only Recent and Epoch may be used by several goroutines at a time. Its user
// sets MaxWait and Random before the first use.
type Throttle struct {
	MaxWait time.Duration  // for a gate: who would have to wait longer is refused
	Random  func() float64 // in [0, 1)

	Recent Recent
	epoch  atomic.Uint64 // changes with each burst of refusals: what was sent before is no news

	active bool
	sheds  bool // who sheds calls does so for the rate
	// An account may have a limit of calls and one of tokens at the same time. A
	// call has to satisfy both.
	limits  [units]limit
	support support       // of the limit of calls
	cut     int           // the limit that was cut last
	cutAt   time.Duration // when that was
	// score rises with each refusal and falls with what is sent. Refusals in a row
	// stand out that way.
	score    float64
	sent     int // since the last gate
	refusals int // of these
	underWay int // let go while active, and not returned yet
	asked    time.Duration
	gate     time.Duration // asked, and a random share: nothing is let go before
	// trial is when a call is let go although the gate is closed. Zero means never.
	trial time.Duration
	// bursts counts those without a hint since the last answer. The wait doubles
	// with each.
	bursts int
	// needed is when somebody had to wait last. The limit is forgotten some time
	// after that.
	needed time.Duration
	seen   time.Duration // until when the time is accounted for

	retries, calls queue
	early          queue // of retries that the provider does not want yet
}

// Epoch returns the epoch of a call that is let go now without asking.
func (t *Throttle) Epoch() uint64 { return t.epoch.Load() }

// Active reports whether calls have to ask at all. They do from the first refusal or
// pause on, until the limit is forgotten.
func (t *Throttle) Active() bool { return t.active }

// Length returns how many wait.
func (t *Throttle) Length() int { return t.queued() + t.early.length }

// queued returns how many wait for the rate.
func (t *Throttle) queued() int { return t.retries.length + t.calls.length }

// Gate returns when the provider's last pause ends or ended.
func (t *Throttle) Gate() time.Duration { return t.gate }

// Felt reports whether the limit holds somebody back, or has done so lately.
func (t *Throttle) Felt(now time.Duration) bool {
	return t.active && (t.Length() > 0 || now-max(t.needed, t.gate) <= forgotten)
}

// Rate returns how many calls a second may go. A limit of tokens is converted by
// what calls cost lately.
func (t *Throttle) Rate(now time.Duration) float64 {
	rate := t.limits[ofCalls].rate()
	if l := &t.limits[ofCost]; l.on {
		calls, cost := t.Recent.Sum(now-span, now)
		rate = min(rate, l.rate()*float64(max(calls, 1))/float64(max(cost, 1)))
	}
	return rate
}

// Arrive decides whether a call may go: at once, later or not at all. A call that
// can't go in time is refused now, because its caller can do something else with the
// time. One that waits has to Leave unless Next returns it.
func (t *Throttle) Arrive(now time.Duration, w *Waiter) State {
	t.advance(now)
	early := w.NotBefore > now
	behind := t.retries.first != nil || !w.Retry && t.calls.first != nil
	if !early && (!t.active || !behind && now >= t.ready(t.Length())) {
		return t.admit(now, w)
	}
	if !early && t.Length() == 0 && t.trialDue(now) {
		return t.try(now, w)
	}
	if wait, hopeless := t.hopeless(now, w); hopeless {
		w.retryAfter = wait
		return w.end(Refused)
	}
	t.needed = now
	switch {
	case early:
		t.early.pushByTime(w)
	case w.Retry:
		t.retries.push(w)
	default:
		t.calls.push(w)
	}
	return Waiting
}

// all returns the queues in the order in which they are served.
func (t *Throttle) all() [3]*queue { return [...]*queue{&t.retries, &t.calls, &t.early} }

// Due returns when Next will have something to do. ok is false if nobody waits. One
// timer for all waiters is enough that way.
func (t *Throttle) Due() (at time.Duration, ok bool) {
	if t.Length() == 0 {
		return 0, false
	}
	at = math.MaxInt64
	if t.queued() > 0 {
		at = t.ready(t.Length() - 1)
		if t.trial > 0 {
			at = min(at, t.trial)
		}
	}
	if w := t.early.first; w != nil {
		at = min(at, w.NotBefore)
	}
	for _, q := range t.all() {
		if q.first != nil && q.first.Latest > 0 {
			at = min(at, q.first.Latest)
		}
	}
	return at, true
}

// Next returns the next Waiter whose wait is over now, or nil if there is none. Its
// state says whether it was admitted or refused.
func (t *Throttle) Next(now time.Duration) *Waiter {
	t.advance(now)
	for w := t.early.first; w != nil && w.NotBefore <= now; w = t.early.first {
		t.early.remove(w)
		t.retries.push(w)
	}
	for _, q := range t.all() {
		if w := q.first; w != nil && w.Latest > 0 && w.Latest <= now {
			t.refuse(w, t.asked-now)
			return w
		}
	}
	w := t.retries.first
	if w == nil {
		w = t.calls.first
	}
	switch {
	case w == nil:
		return nil
	case now >= t.ready(t.Length()-1):
		w.queue.remove(w)
		t.admit(now, w)
		return w
	case t.trialDue(now):
		w = t.smallest()
		w.queue.remove(w)
		t.try(now, w)
		return w
	}
	return nil
}

// Leave removes a Waiter from its queue, if it stands in one. That costs the others
// nothing, because nobody books a slot ahead.
func (t *Throttle) Leave(now time.Duration, w *Waiter) {
	t.advance(now)
	if w.queue != nil {
		w.retryAfter, _ = t.hopeless(now, w)
		w.queue.remove(w)
	}
}

// Unsent takes back what was let go and has not been sent after all. What never asked
// has nothing to take back. A refund after a burst would go to a rate that the call was
// not charged to, so there is none.
func (t *Throttle) Unsent(now time.Duration, s Sent) {
	if s == (Sent{}) {
		return
	}
	t.advance(now)
	t.Recent.Remove(s.At, s.Cost)
	if s.Epoch == t.Epoch() {
		t.limits[ofCalls].refund(1)
		t.limits[ofCost].refund(float64(s.Cost))
	}
}

// Returned says that a call is not under way any more, whatever came of it. Whether
// others are under way decides if a call is alone.
func (t *Throttle) Returned(s Sent) {
	if s.UnderWay {
		t.underWay--
	}
}

// Refuse says that the provider refused a call for its rate limit. It returns when
// the call may be sent again.
//
// Refusals of what was sent before the last burst are no news: they are counted out
// of what was admitted, but cut nothing again.
func (t *Throttle) Refuse(now time.Duration, s Sent, r Refusal) (again time.Duration) {
	t.advance(now)
	t.Recent.Remove(s.At, s.Cost)
	return t.refused(now, s, r)
}

// Shed says that a call was shed: it was refused because there are too many, and
// nobody said whose. limited reports whether that is taken for the rate limit, and
// then Shed does what Refuse does. It is if most of what was sent lately was shed and
// yet some was let through, and as long as some is. Who sheds everything is down, and
// who sheds a third at random would do so at any rate.
func (t *Throttle) Shed(now time.Duration, s Sent, r Refusal) (again time.Duration, limited bool) {
	t.advance(now)
	t.Recent.Shed(s.At, s.Cost)
	if !t.letsThrough(now) || !t.sheds && !t.shedsMost(now) {
		return 0, false
	}
	t.sheds = true
	return t.refused(now, s, r), true
}

// letsThrough reports whether something was let through lately. What was sent just
// now shows nothing of that, because it may still be shed.
func (t *Throttle) letsThrough(now time.Duration) bool {
	settled := now - step - step/2
	calls, _ := t.Recent.Sum(now-span, settled)
	return settled > 0 && calls > 0
}

// shedsMost reports whether most of what was sent lately was shed.
func (t *Throttle) shedsMost(now time.Duration) bool {
	calls, _ := t.Recent.Sum(now-span, now)
	return float64(t.Recent.SumShed(now-span, now)) > shedTimes*float64(calls)+shedMore
}

// refused is what follows a refusal that is counted out of what was admitted.
func (t *Throttle) refused(now time.Duration, s Sent, r Refusal) (again time.Duration) {
	again = now + t.spread(t.turn(r))
	t.support.refused(t.limits[ofCalls].rate())
	if t.active && s.Epoch != t.Epoch() {
		t.limits[t.cut].measure(t.sum(t.cut))
		if r.Known && now < t.gate {
			t.close(now, r.Wait)
		}
		return again
	}
	unit := ofCalls
	if r.Tokens {
		unit = ofCost
	}
	cuts, closes := t.judge(now, unit, r)
	t.active, t.needed = true, now
	wait := r.wait(t.bursts)
	if closes {
		wait = t.burst(r)
	}
	if cuts {
		t.lower(now, unit, s)
	}
	if cuts || closes {
		t.epoch.Add(1)
	}
	if closes {
		t.trial, t.sent, t.refusals = 0, 0, 0
		if l := &t.limits[unit]; cuts && !l.guess {
			l.grown = min(wait, gateGrowth)
		}
		t.close(now, wait)
	}
	return again
}

// judge decides what follows a refusal that is news: whether it cuts the rate, and
// whether it stops everybody for the time that the provider asked for. A refusal
// that stands alone stops the others only if that costs next to nothing. It may be
// one that comes whatever the rate is.
func (t *Throttle) judge(now time.Duration, unit int, r Refusal) (cuts, closes bool) {
	l := &t.limits[unit]
	first := !t.active || !l.on
	t.score++
	t.refusals++
	switch {
	case first:
		return true, true
	case float64(t.refusals) >= max(float64(t.sent), l.chance.patience()), t.score >= inARowByChance*l.chance.patience(), t.score >= inARow && l.chance.share() == 0:
		return now-t.cutAt >= time.Second, true
	}
	cuts = l.refused()
	return cuts, cuts && r.wait(0) <= time.Duration(gateShare*float64(now-t.gate))
}

// burst returns how long nothing is let go after refusals in a row.
func (t *Throttle) burst(r Refusal) time.Duration {
	t.score = 0
	if t.sent > 2*t.refusals {
		t.bursts = 0 // most were admitted, even if it takes long to answer them
	}
	wait := r.wait(t.bursts)
	if !r.Known {
		t.bursts++
	}
	return wait
}

// turn returns how long a refused call itself has to wait. Where there are others it
// waits longer each time. Otherwise one call could be refused again and again for
// what the others send.
func (t *Throttle) turn(r Refusal) time.Duration {
	wait := r.wait(r.Before)
	if r.Known && r.Before > 0 && t.Length()+t.underWay > 0 {
		wait += firstGate << min(r.Before-1, 10)
	}
	return wait
}

// wait returns how long a refused call has to wait, if it was refused so often
// before. The provider's own word counts first. Without it the wait doubles, up to a
// bound.
func (r Refusal) wait(before int) time.Duration {
	if r.Known {
		return r.Wait
	}
	wait := min(firstGate<<min(before, 10), maxGate)
	if r.AtMost > 0 {
		wait = min(wait, r.AtMost)
	}
	return wait
}

// spread adds a random share to a wait, so that processes that were refused together
// do not come back together.
func (t *Throttle) spread(wait time.Duration) time.Duration {
	return wait + time.Duration(t.Random()*gateShare*float64(wait))
}

// Pause says that the provider wants nothing for a time, though it has refused
// nothing yet. It opens a new epoch, so that answers to what was sent before do not
// end the pause.
func (t *Throttle) Pause(now, wait time.Duration) {
	t.advance(now)
	t.epoch.Add(1)
	t.active, t.needed = true, now
	t.close(now, wait)
}

// Answer says that the provider did not refuse a call. If the call was sent behind a
// closed gate, the answer shows that the provider admits calls again, so the gate
// opens early. Answers to earlier calls show nothing of that.
func (t *Throttle) Answer(now time.Duration, s Sent) {
	if s.Epoch != t.Epoch() {
		return
	}
	t.advance(now)
	t.bursts = 0
	if now < t.gate {
		t.gate, t.asked, t.trial = now, now, 0
	}
}

// advance accounts for the time until now. A rate grows only while somebody waits
// for it, because nothing is learned from a rate that nobody uses. A limit that
// nobody feels is forgotten.
func (t *Throttle) advance(now time.Duration) {
	switch {
	case t.queued() > 0:
		if grown := now - max(t.seen, t.gate); grown > 0 {
			t.narrowest().grown += grown
		}
		t.needed = now
	case t.active && !t.Felt(now):
		t.active, t.sheds, t.limits, t.support, t.bursts, t.trial = false, false, [units]limit{}, support{}, 0, 0
	}
	t.seen = max(t.seen, now)
	if now >= t.gate {
		t.trial = 0
	}
}

// narrowest returns the limit that calls wait for. Only that one grows.
func (t *Throttle) narrowest() *limit {
	if t.limits[ofCost].next > t.limits[ofCalls].next {
		return &t.limits[ofCost]
	}
	return &t.limits[ofCalls]
}

// ready returns when the next call may go if so many others wait. A call that is
// alone is no burst, so it waits only for the provider's pause and not for the rate.
func (t *Throttle) ready(others int) time.Duration {
	if others == 0 && t.underWay == 0 {
		return t.gate
	}
	return max(t.gate, t.limits[ofCalls].next, t.limits[ofCost].next)
}

// admit lets a call go and charges it. It is charged when it goes and not when it
// arrives, so that a large call never bars a small one before it.
func (t *Throttle) admit(now time.Duration, w *Waiter) State {
	t.Recent.Add(now, w.Cost)
	t.spend(now, ofCalls, 1)
	t.spend(now, ofCost, float64(w.Cost))
	w.sent = Sent{now, w.Cost, t.Epoch(), t.active}
	if t.active {
		t.underWay++
		t.sent++
		t.score = max(t.score-(0.5+t.support.share/2), 0)
		t.uphold()
		for i := range t.limits {
			t.limits[i].sent()
		}
	}
	return w.end(Admitted)
}

// uphold counts what is let go for the support, and keeps the rate from falling
// below it.
func (t *Throttle) uphold() {
	l := &t.limits[ofCalls]
	waits := float64(t.queued()) > longWait.Seconds()*l.rate()
	t.support.sent(l.rate(), l.most, waits)
	if l.on {
		l.floor = max(l.floor, t.support.rate)
	}
}

// spend charges one unit of limit for what is let go.
func (t *Throttle) spend(now time.Duration, unit int, units float64) {
	l := &t.limits[unit]
	if t.Length() == 0 && t.underWay == 0 {
		l.next = min(l.next, now) // whoever is alone leaves no debt to those who come later
	}
	l.spend(now, units)
}

// trialDue reports whether a call may go while the gate is closed.
func (t *Throttle) trialDue(now time.Duration) bool { return t.trial > 0 && now >= t.trial }

// try lets a call go while the gate is closed. A provider may ask for a longer wait
// than it needs, and only a call can show that.
func (t *Throttle) try(now time.Duration, w *Waiter) State {
	t.trial = 0
	t.plan(now)
	return t.admit(now, w)
}

// plan plans a trial, if the gate lies far enough ahead and none is planned.
func (t *Throttle) plan(now time.Duration) {
	if t.trial == 0 && t.asked-now > trialEvery {
		t.trial = now + trialEvery
	}
}

// smallest returns the waiting call that costs least, since that one is the most
// likely to fit into what is left of a limit of tokens.
func (t *Throttle) smallest() *Waiter {
	var found *Waiter
	for _, q := range [...]*queue{&t.retries, &t.calls} {
		for w := q.first; w != nil; w = w.next {
			if found == nil || w.Cost < found.Cost {
				found = w
			}
		}
	}
	return found
}

// hopeless reports whether a call would have to wait too long, and how long that
// would be. The rate may rise while it waits, so a call is hopeless only if even
// twice the rate would come too late.
func (t *Throttle) hopeless(now time.Duration, w *Waiter) (wait time.Duration, hopeless bool) {
	wait = max(t.asked-now, 0)
	if wait > t.MaxWait {
		return wait, true
	}
	wait = max(wait, w.NotBefore-now)
	ahead := [units]float64{float64(t.retries.length), float64(t.retries.cost)}
	if !w.Retry {
		ahead[ofCalls] += float64(t.calls.length)
		ahead[ofCost] += float64(t.calls.cost)
	}
	soonest := wait
	for i := range t.limits {
		if l := &t.limits[i]; l.on && !l.guess {
			free := max(l.next-now, wait)
			rate := max(l.rate(), l.most)
			soonest = max(soonest, free+seconds(ahead[i]/(2*rate)))
			wait = max(wait, free+seconds(ahead[i]/rate))
		}
	}
	return wait, w.Latest > 0 && now+soonest >= w.Latest
}

// seconds converts a number of seconds to a Duration.
func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// refuse removes a Waiter whose wait would be too long.
func (t *Throttle) refuse(w *Waiter, retryAfter time.Duration) {
	w.queue.remove(w)
	w.retryAfter = max(retryAfter, 0)
	w.end(Refused)
}

// lower cuts the limit of one unit. The least rate of a limit of tokens follows from
// what calls cost lately.
func (t *Throttle) lower(now time.Duration, unit int, s Sent) {
	calls, cost := t.Recent.Sum(now-span, now)
	t.cut, t.cutAt = unit, now
	floor := slowest
	if unit == ofCost {
		floor *= float64(max(cost+s.Cost, 1)) / float64(calls+1)
	}
	var since time.Duration
	if !t.limits[t.cut].on {
		since = t.Recent.First(now-span, now)
	}
	if t.cut == ofCalls {
		floor = max(floor, t.support.rate)
	}
	t.limits[t.cut].cut(now, since, floor, t.sum(t.cut))
	if l := &t.limits[ofCalls]; l.on && !l.guess {
		t.support.measured(l.most)
	}
}

// sum returns a function that adds up what was sent in a unit.
func (t *Throttle) sum(unit int) func(from, until time.Duration) float64 {
	return func(from, until time.Duration) float64 {
		calls, cost := t.Recent.Sum(from, until)
		if unit == ofCost {
			return float64(cost)
		}
		return float64(calls)
	}
}

// close lets nothing go for a time. It refuses at once everybody for whom that is
// too long, because waiting could only end the same way. A wait that ends before the
// present one changes nothing.
func (t *Throttle) close(now, wait time.Duration) {
	if now+wait <= t.asked {
		t.plan(now)
		return
	}
	t.asked = now + wait
	t.gate = now + t.spread(wait)
	t.plan(now)
	for _, q := range t.all() {
		for w := q.first; w != nil; {
			next := w.next
			if wait > t.MaxWait || w.Latest > 0 && t.asked >= w.Latest {
				t.refuse(w, wait)
			}
			w = next
		}
	}
}
