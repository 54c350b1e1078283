package breaker

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/call"
)

// A Permit is one admitted request. Declare one, hand it to [Breaker.Allow],
// and settle it once the outcome is known. The first verdict counts, and later
// ones do nothing, so that "defer p.Ignore()" is a safe last resort. A probe whose
// permit is never settled holds its place until that runs out. The zero value is no
// permit, and settling it does nothing. A Permit must not be copied. It may be settled
// by any goroutine.
type Permit struct {
	b     *Breaker
	req   *http.Request // nil outside a Transport
	word  word          // of the breaker when it admitted
	probe uint64        // its id, if it is a probe
	nth   uint64        // of all successes, a provisional one
	state atomic.Uint32
}

// The states of a permit.
const (
	outstanding uint32 = iota
	provisional        // a success that may still be revoked
	settled
)

// Success settles the permit: the request succeeded. It takes no lock unless the
// breaker is half open, or a row of failures is under way.
func (p *Permit) Success() {
	// Add asks Enabled too, but this way a counter without a reader costs least.
	if p.claim(outstanding, settled) && p.b.succeed(p, &p.b.plain) && p.b.calls.Enabled(context.Background()) {
		p.b.calls.Add(context.Background(), 1, p.b.label.success)
	}
}

// Failure settles the permit: the request failed. It takes the breaker's lock, and runs
// the callbacks of a change of state that it causes.
func (p *Permit) Failure() { p.Settle(Failure, 0) }

// Ignore settles the permit: the request says nothing of the API's health, because its
// caller gave up or had made a mistake. A probe's place is free again.
func (p *Permit) Ignore() { p.Settle(Ignored, 0) }

// Settle settles the permit with an outcome. A Failure that opens the breaker
// opens it for retryAfter at least, the wait that the server asked for; 0 says
// that it asked for none, and more than 120 s count as 120 s. Undecided does
// nothing.
func (p *Permit) Settle(o Outcome, retryAfter time.Duration) { p.settle(o, retryAfter, 0) }

// settle is Settle for an outcome that came when a time limit of ours was over,
// or with a limit of 0.
func (p *Permit) settle(o Outcome, retryAfter, limit time.Duration) {
	if o == Undecided || !p.claim(outstanding, settled) {
		return
	}
	switch o {
	case Success:
		if p.b.succeed(p, &p.b.plain) {
			p.b.calls.Add(context.Background(), 1, p.b.label.success)
		}
	case Failure:
		p.b.fail(p, retryAfter, limit)
	default:
		p.b.ignore(p)
	}
}

// succeedForNow settles the permit with a success that may be revoked. It must
// be followed by confirm, keep or revoke.
func (p *Permit) succeedForNow() {
	if p.claim(outstanding, provisional) && !p.b.succeed(p, &p.b.streams) {
		p.state.Store(settled)
	}
}

// confirm makes a provisional success a whole one. Only that ends a row of
// failures: a provider whose streams all begin and then die is down.
func (p *Permit) confirm() {
	if !p.claim(provisional, settled) {
		return
	}
	if p.b.current(p) {
		p.b.endedWell.Add(1)
		p.b.endRow(p)
	}
	p.b.calls.Add(context.Background(), 1, p.b.label.success)
}

// keep leaves a provisional success as it is: the caller closed the stream, which
// says nothing of how it would have ended.
func (p *Permit) keep() {
	if p.claim(provisional, settled) {
		p.b.calls.Add(context.Background(), 1, p.b.label.success)
	}
}

// revoke turns a provisional success into a failure: the stream broke off.
func (p *Permit) revoke(limit time.Duration) {
	if p.claim(provisional, settled) {
		p.b.revoke(p, limit)
	}
}

// claim moves the permit on, and reports whether it was in that state. Of several
// goroutines that settle a permit one alone gets true.
func (p *Permit) claim(from, to uint32) bool {
	return p.b != nil && p.state.CompareAndSwap(from, to)
}

// failure is what the machine must know if the permit's request failed. The breaker
// is at w now.
func (p *Permit) failure(w word, retryAfter, limit time.Duration) failure {
	f := failure{probe: p.probe, retryAfter: int64(retryAfter), limit: int64(limit), inRow: p.word.isInRow(w)}
	if p.req != nil {
		ctx := p.req.Context()
		f.call = call.From(ctx)
		f.standIn = f.call != nil && f.call.Router != nil && hasStandIn(ctx)
	}
	return f
}

// hasStandIn reports whether the call of a request may go somewhere else. A probe that
// fails costs no call then, so that the breaker may probe sooner.
func hasStandIn(ctx context.Context) bool {
	a := call.AttemptFrom(ctx)
	return a != nil && a.HasStandIn
}

// done reports whether the permit is settled for good.
func (p *Permit) done() bool { return p.state.Load() == settled }
