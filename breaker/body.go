package breaker

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A body is a response body that settles the permit of its request. Close may
// run concurrently with Read.
type body struct {
	io.ReadCloser
	permit   Permit
	left     int64       // bytes to come; negative if unknown
	observer Observer    // nil if the bytes alone decide
	seen     atomic.Bool // there were bytes
	closed   atomic.Bool

	mu       sync.Mutex // held while the observer is asked, not while the permit is settled
	settling bool       // a goroutine is settling the permit
	begun    bool       // the observer said that it is a success so far
	early    bool       // that is still to be settled
	over     bool       // the observer is done
	byFirst  bool       // the first byte makes a success, without an observer
	last     verdict    // what the observer said last; Undecided until then, and once it is settled
}

// A verdict is what an observer made of a body. It is kept between ask and settle, which
// run under different locks.
type verdict struct {
	outcome Outcome       // Undecided if there is none
	limit   time.Duration // of ours, that reading ran into
}

// watch puts b in the place of resp's body. Nothing can be said of the inside of what is
// compressed, so that its first byte has to be enough.
func (b *body) watch(resp *http.Response, o Observer) {
	if o == nil {
		switch stream, compressed := isStream(resp), roundtrip.IsCompressed(resp.Header); {
		case stream && compressed:
			o = new(byteObserver)
		case stream:
			o = new(eventObserver)
		default:
			b.byFirst = compressed
		}
	}
	b.observer = o
	b.left = -1
	if resp.ContentLength > 0 {
		b.left = resp.ContentLength
	}
	b.ReadCloser = resp.Body
	resp.Body = b
}

// Read reads on, and settles the permit as soon as the outcome is known. From then on it
// only hands the bytes on.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.permit.done() {
		return n, err
	}
	// A base that counts wrongly must not harm more than itself.
	data := p[:min(max(n, 0), len(p))]
	if b.left > 0 {
		b.left -= int64(len(data))
	}
	if b.observer != nil {
		b.observe(data, err)
		return n, err
	}
	if len(data) > 0 && !b.seen.Load() {
		b.seen.Store(true)
	}
	switch {
	case len(data) > 0 && b.byFirst, b.whole(err):
		b.permit.Success()
	case err != nil && b.closed.Load():
		b.settleClosed()
	case err != nil:
		b.permit.settle(readVerdict(b.permit.req), 0, timeLimit(b.permit.req, err))
	}
	return n, err
}

// whole reports whether all of the body was read. A reader that knows the length, as a
// JSON decoder does, may never see io.EOF.
func (b *body) whole(err error) bool {
	return err == io.EOF || err == nil && b.left == 0 //nolint:errorlint // Read returns io.EOF itself
}

// Close closes the body, and settles the permit if that was still to be done. A probe
// would hold its place otherwise, until that runs out. The source is closed first,
// since a Read beside it may only then come back.
func (b *body) Close() error {
	b.closed.Store(true)
	defer b.permit.Ignore() // if the base's Close or the observer panics; else it is settled
	err := b.ReadCloser.Close()
	switch {
	case b.permit.done():
	case b.observer != nil:
		b.observe(nil, ErrBodyClosed)
	default:
		b.settleClosed()
	}
	return err
}

// settleClosed judges a body that the caller closed before its end, or one of
// our time limits. A caller who has read some of it got an answer. One who has read
// nothing may have lost interest before there was any.
func (b *body) settleClosed() {
	switch {
	case callersVerdict(b.permit.req) == Failure:
		b.permit.settle(Failure, 0, timeLimit(b.permit.req, nil))
	case b.seen.Load():
		b.permit.Success()
	default:
		b.permit.Ignore()
	}
}

// observe shows the observer what was read, and settles the permit by what it
// says. To settle it may change the state, whose callbacks run without the lock.
func (b *body) observe(data []byte, err error) {
	if b.ask(data, err) {
		drain(&b.mu, &b.settling, b.next, b.settle)
	}
}

// ask shows the observer what was read and how the body has ended. It reports whether
// there is anything to settle. The lock keeps the observer's methods from running
// concurrently when Close comes beside a Read.
func (b *body) ask(data []byte, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over && len(data) > 0 {
		b.learn(b.observer.Data(data))
	}
	switch {
	case b.over:
	case b.whole(err):
		b.end(nil)
	case err != nil && b.closed.Load():
		b.end(ErrBodyClosed)
	case err != nil:
		b.end(err)
	}
	return b.early || b.last.outcome != Undecided
}

// learn takes a verdict of the observer on data.
func (b *body) learn(outcome Outcome) {
	switch outcome {
	case Undecided:
	case Success: // more may come, and turn it into a failure
		b.early = b.early || !b.begun
		b.begun = true
	default:
		b.over, b.last = true, verdict{outcome: outcome}
	}
}

// end says to the observer that nothing more comes. If the body has ended on the
// caller's side, the observer can't know that, and its verdict is not used.
func (b *body) end(err error) {
	v := verdict{outcome: b.observer.End(err)}
	if err != nil {
		over := callersVerdict(b.permit.req)
		if over == Failure || over == Ignored && err != ErrBodyClosed { //nolint:errorlint // never wrapped
			v.outcome = over
		}
		v.limit = timeLimit(b.permit.req, err)
	}
	switch {
	case v.outcome != Undecided:
	case b.begun && err == nil:
		v.outcome = Success
	default:
		v.outcome = Ignored // but for a success so far
	}
	b.over, b.last = true, v
}

// next returns what the permit is still to be settled with. A success so far comes before
// what it turned into, since a permit's first verdict counts.
func (b *body) next() (v verdict, ok bool) {
	if b.early {
		b.early = false
		if b.last.outcome != Success { // else it is one for good at once
			return verdict{}, true
		}
	}
	v = b.last
	b.last = verdict{}
	return v, v.outcome != Undecided
}

// settle settles the permit, for now if v is Undecided, or ends its success. A success so
// far is confirmed, kept or revoked, once.
func (b *body) settle(v verdict) {
	switch v.outcome {
	case Undecided:
		b.permit.succeedForNow()
		return
	case Failure:
		b.permit.revoke(v.limit)
	case Success:
		b.permit.confirm()
	default:
		b.permit.keep()
	}
	b.permit.settle(v.outcome, 0, v.limit) // does nothing if there was a success so far
}

// readVerdict judges an error of reading the response, which is the API's failure unless
// the caller's side has caused it.
func readVerdict(req *http.Request) Outcome {
	if verdict := callersVerdict(req); verdict != Undecided {
		return verdict
	}
	return Failure
}
