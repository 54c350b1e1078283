package breaker

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// A Permit is one admitted request. Declare one, hand it to [Breaker.Allow],
// and settle it once the outcome is known: the first verdict counts, later
// ones do nothing. The zero value is no permit, and settling it does nothing.
// A Permit must not be copied. It may be settled by any goroutine.
type Permit struct {
	b     *Breaker
	req   *http.Request // nil outside a Transport
	word  word          // of the breaker when it admitted
	probe uint64        // its id, if it is a probe
	end   int64         // of the bucket in which a provisional success counts
	state atomic.Uint32
}

// The states of a permit.
const (
	outstanding uint32 = iota
	provisional        // a success that may still be revoked
	settled
)

// Success settles the permit: the request succeeded.
func (p *Permit) Success() {
	// Add asks Enabled too, but this way a counter nobody reads costs least.
	if p.claim(outstanding, settled) && p.b.succeed(p, &p.b.plain) && p.b.calls.Enabled(context.Background()) {
		p.b.calls.Add(context.Background(), 1, p.b.label.success)
	}
}

// Failure settles the permit: the request failed.
func (p *Permit) Failure() { p.Settle(Failure, 0) }

// Ignore settles the permit: the request says nothing of the API's health.
func (p *Permit) Ignore() { p.Settle(Ignored, 0) }

// Settle settles the permit with an outcome. A Failure that opens the breaker
// opens it for retryAfter at least, the wait that the server asked for: 0 if it
// asked for none. Undecided does nothing.
func (p *Permit) Settle(o Outcome, retryAfter time.Duration) {
	if o == Undecided || !p.claim(outstanding, settled) {
		return
	}
	switch o {
	case Success:
		if p.b.succeed(p, &p.b.plain) {
			p.b.calls.Add(context.Background(), 1, p.b.label.success)
		}
	case Failure:
		p.b.fail(p, retryAfter)
	default:
		p.b.ignore(p)
	}
}

// succeedForNow settles the permit with a success that may be revoked. It must
// be followed by confirm, keep or revoke.
func (p *Permit) succeedForNow() {
	if p.claim(outstanding, provisional) {
		if !p.b.succeed(p, &p.b.streams) {
			p.state.Store(settled)
		}
		p.end = p.b.rollAt.Load() // the success may have begun a bucket
	}
}

// confirm makes a provisional success a whole one, which ends a run of
// failures.
func (p *Permit) confirm() {
	if p.claim(provisional, settled) {
		if p.b.current(p) {
			p.b.endedWell.Add(1)
		}
		p.b.calls.Add(context.Background(), 1, p.b.label.success)
	}
}

// keep leaves a provisional success as it is.
func (p *Permit) keep() {
	if p.claim(provisional, settled) {
		p.b.calls.Add(context.Background(), 1, p.b.label.success)
	}
}

// revoke turns a provisional success into a failure.
func (p *Permit) revoke() {
	if p.claim(provisional, settled) {
		p.b.revoke(p)
	}
}

func (p *Permit) claim(from, to uint32) bool {
	return p.b != nil && p.state.CompareAndSwap(from, to)
}

// call returns the call that the request is an attempt of, or nil.
func (p *Permit) call() *call.Call {
	if p.req == nil {
		return nil
	}
	return call.From(p.req.Context())
}

func (p *Permit) done() bool { return p.state.Load() == settled }

// succeed counts a success in counter; it reports false if it came too late.
func (b *Breaker) succeed(p *Permit, counter *atomic.Uint64) bool {
	if p.probe != 0 {
		return b.succeedProbe(p, counter)
	}
	if word(b.word.Load()).generation() != p.word.generation() {
		b.late()
		return false
	}
	if counter.Add(1)%every == 1 {
		b.roll()
	}
	return true
}

func (b *Breaker) succeedProbe(p *Permit, counter *atomic.Uint64) bool {
	b.mu.Lock()
	now := b.now()
	ok := word(b.word.Load()).generation() == p.word.generation()
	if ok {
		counter.Add(1)
		b.m.succeed(now, b.tally(), p.probe)
	}
	b.unlock()
	if !ok {
		b.late()
	}
	return ok
}

// roll begins a new bucket of the window if it is time for one. The successes
// since the clock was read last belong to the old one.
func (b *Breaker) roll() {
	if now := b.now(); now >= b.rollAt.Load() {
		b.mu.Lock()
		b.m.window.roll(now, b.tally().all-1)
		b.unlock()
	}
}

func (b *Breaker) fail(p *Permit, retryAfter time.Duration) {
	b.mu.Lock()
	now := b.now()
	ok := word(b.word.Load()).generation() == p.word.generation()
	if ok {
		b.m.fail(now, b.tally(), p.call(), retryAfter)
	}
	b.unlock()
	b.failed(ok)
}

// revoke counts a failure in the state that the success was counted in, or in
// the closed state that a probe's success led to.
func (b *Breaker) revoke(p *Permit) {
	b.revoked.Add(1)
	b.mu.Lock()
	now := b.now()
	ok := b.current(p)
	if ok {
		if p.probe == 0 {
			b.m.window.revoke(p.end)
		}
		b.m.fail(now, b.tally(), p.call(), 0)
	}
	b.unlock()
	b.failed(ok)
}

func (b *Breaker) failed(counted bool) {
	if !counted {
		b.late()
		return
	}
	b.failures.Add(1)
	b.calls.Add(context.Background(), 1, b.label.failure)
}

func (b *Breaker) late() {
	b.stale.Add(1)
	b.calls.Add(context.Background(), 1, b.label.stale)
}

func (b *Breaker) ignore(p *Permit) {
	if p.probe != 0 {
		b.mu.Lock()
		b.m.free(p.probe)
		b.mu.Unlock()
	}
	b.ignored.Add(1)
	b.calls.Add(context.Background(), 1, b.label.ignored)
}

// current reports whether what became of a settled permit still counts.
func (b *Breaker) current(p *Permit) bool {
	w := word(b.word.Load())
	return w.generation() == p.word.generation() ||
		p.probe != 0 && w.state() == Closed && w.generation() == p.word.generation()+1
}
