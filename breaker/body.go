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

	stream    bool // a success is provisional
	firstByte bool // makes a success, without an observer

	mu       sync.Mutex // held while the observer is asked, not while the permit is settled
	over     bool       // the observer is done
	verdicts outbox[verdict]
	few      [2]verdict // there are no more
}

// A verdict is what an observer said.
type verdict struct {
	outcome Outcome
	early   bool          // the success of a stream: the observer goes on watching
	well    bool          // the body came to a good end
	limit   time.Duration // of ours, that reading ran into
}

// watch puts b in the place of resp's body.
func (b *body) watch(resp *http.Response, o Observer) {
	b.stream = isStream(resp)
	if o == nil {
		switch compressed := roundtrip.IsCompressed(resp.Header); {
		case b.stream && compressed:
			o = new(byteObserver)
		case b.stream:
			o = new(eventObserver)
		default:
			b.firstByte = compressed
		}
	}
	b.observer = o
	b.verdicts.items = b.few[:0]
	b.left = -1
	if resp.ContentLength > 0 {
		b.left = resp.ContentLength
	}
	b.ReadCloser = resp.Body
	resp.Body = b
}

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
	case len(data) > 0 && b.firstByte, b.whole(err):
		b.permit.Success()
	case err != nil && b.closed.Load():
		b.settleClosed()
	case err != nil:
		b.permit.settle(readVerdict(b.permit.req), 0, timeLimit(b.permit.req, err))
	}
	return n, err
}

func (b *body) whole(err error) bool {
	return err == io.EOF || err == nil && b.left == 0 //nolint:errorlint // Read returns io.EOF itself
}

// Close closes the body, and settles the permit if that was still to be done.
func (b *body) Close() error {
	b.closed.Store(true)
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
// our time limits.
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

// observe tells the observer what was read, and settles the permit by what it
// says. That tells of changes of state: it is done without the lock.
func (b *body) observe(data []byte, err error) {
	if b.ask(data, err) {
		b.verdicts.drain(&b.mu, b.settle)
	}
}

// ask reports whether the observer said anything.
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
	return len(b.verdicts.items) > 0
}

// learn takes a verdict of the observer on data.
func (b *body) learn(outcome Outcome) {
	if outcome == Undecided {
		return
	}
	early := outcome == Success && b.stream
	b.over = !early
	b.verdicts.put(verdict{outcome: outcome, early: early})
}

// end tells the observer that nothing more comes.
func (b *body) end(err error) {
	b.over = true
	v := verdict{outcome: b.observer.End(err)}
	if err != nil {
		over := callersVerdict(b.permit.req)
		if over == Failure || over == Ignored && err != ErrBodyClosed { //nolint:errorlint // never wrapped
			v.outcome = over
		}
		v.limit = timeLimit(b.permit.req, err)
	}
	v.well = v.outcome == Success || v.outcome == Undecided && err == nil
	b.verdicts.put(v)
}

// settle settles the permit, or ends its provisional success.
func (b *body) settle(v verdict) {
	switch {
	case v.early:
		b.permit.succeedForNow()
		return
	case v.outcome == Failure:
		b.permit.revoke(v.limit)
	case v.well:
		b.permit.confirm()
	default:
		b.permit.keep()
	}
	if v.outcome == Undecided {
		v.outcome = Ignored
	}
	b.permit.settle(v.outcome, 0, v.limit) // does nothing if there was a success
}

// readVerdict judges an error of reading the response.
func readVerdict(req *http.Request) Outcome {
	if verdict := callersVerdict(req); verdict != Undecided {
		return verdict
	}
	return Failure
}
