package breaker

import (
	"context"
	"sync/atomic"
	"time"
)

// succeed counts a success in counter, of which that of streams is provisional;
// it reports false if the success came too late. It is the path of nearly every
// request, which is why it takes no lock but where the success changes something.
func (b *Breaker) succeed(p *Permit, counter *atomic.Uint64) bool {
	if p.probe != 0 {
		return b.succeedProbe(p, counter)
	}
	w := word(b.word.Load())
	if w.generation() != p.word.generation() {
		b.late()
		return false
	}
	n := counter.Add(1)
	if w&wordWary != 0 {
		b.trust(p)
	}
	if n%every == 1 {
		b.readClock()
	}
	if counter == &b.streams {
		p.nth = b.all()
	} else {
		b.endRow(p)
	}
	return true
}

// succeedProbe counts the success of a probe, which may close the breaker. Probes are
// few, so that it can afford the lock.
func (b *Breaker) succeedProbe(p *Permit, counter *atomic.Uint64) bool {
	now, t := b.lock()
	ok := word(b.word.Load()).generation() == p.word.generation()
	if ok {
		counter.Add(1)
		t.all++
		if counter == &b.plain {
			t.ended++
		}
		p.nth = t.all
		b.seen.Store(t.all)
		b.served.Store(now)
		b.m.succeed(now, t, p.probe)
	}
	_, changed := b.unlock()
	if !ok {
		b.late()
	}
	if changed {
		b.announce()
	}
	return ok
}

// readClock notes that the successes so far are not younger than now, and has
// the windows forget what they must.
func (b *Breaker) readClock() {
	if now := b.now(); now < b.rollAt.Load() {
		b.seen.Store(b.all())
		b.served.Store(now)
		return
	}
	b.lock()
	b.publish()
	b.mu.Unlock()
}

// endRow ends the row of failures that was under way when the permit was given, if
// it still is. No other success costs a lock. A request that was admitted before the
// row began says nothing of what came after. The word is compared again under the lock,
// because the row may have ended meanwhile and another begun.
func (b *Breaker) endRow(p *Permit) {
	if !p.word.isInRow(word(b.word.Load())) {
		return
	}
	b.mu.Lock()
	if p.word.isInRow(word(b.word.Load())) {
		b.m.endRow()
		b.publish()
	}
	b.mu.Unlock()
}

// trust ends the wariness that the success of a permit came in: the provider serves this
// process, whatever others say.
func (b *Breaker) trust(p *Permit) {
	b.mu.Lock()
	if word(b.word.Load()).generation() == p.word.generation() {
		b.m.trust()
		b.publish()
	}
	b.mu.Unlock()
}

// fail counts a failure, unless it belongs to an older state: a request that was sent
// before the breaker opened says nothing of the provider now.
func (b *Breaker) fail(p *Permit, retryAfter, limit time.Duration) {
	now, t := b.lock()
	w := word(b.word.Load())
	ok := w.generation() == p.word.generation()
	if ok {
		b.m.fail(now, t, p.failure(w, retryAfter, limit))
	}
	b.failed(ok)
}

// revoke counts a failure in the state that the success was counted in, or in
// the closed state that a probe's success led to. A probe that begins well and then
// breaks off must not leave the breaker closed without a trace.
func (b *Breaker) revoke(p *Permit, limit time.Duration) {
	now, t := b.lock()
	ok := b.current(p)
	if ok {
		b.m.revoke(p.nth)
		b.m.fail(now, t, p.failure(word(b.word.Load()), 0, limit))
	}
	b.revoked.Add(1)
	b.failed(ok)
}

// failed unlocks the machine after a failure, which counted or came too late. Callbacks
// come last, since they may panic.
func (b *Breaker) failed(counted bool) {
	_, changed := b.unlock()
	if counted {
		b.failures.Add(1)
		b.calls.Add(context.Background(), 1, b.label.failure)
	} else {
		b.late()
	}
	if changed {
		b.announce()
	}
}

// late counts an outcome from before a change of state. It has to be counted somewhere,
// so that outcomes add up to admissions.
func (b *Breaker) late() {
	b.stale.Add(1)
	b.calls.Add(context.Background(), 1, b.label.stale)
}

// ignore counts an outcome that says nothing. A probe's place is free again at once, for
// a request that may say something.
func (b *Breaker) ignore(p *Permit) {
	if p.probe != 0 {
		b.mu.Lock()
		b.m.places.leave(p.probe)
		b.mu.Unlock()
	}
	b.ignored.Add(1)
	b.calls.Add(context.Background(), 1, b.label.ignored)
}

// current reports whether what became of a settled permit still counts: in the
// state that admitted it, or in the closed one that its own success as a probe has
// led to.
func (b *Breaker) current(p *Permit) bool {
	w := word(b.word.Load())
	return w.generation() == p.word.generation() ||
		p.probe != 0 && w.state() == Closed && w.generation() == p.word.generation()+1
}
