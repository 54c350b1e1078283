// Package prefetch reads the beginning of a response body before it is decided
// what becomes of the response: an error's code, a stream's first event, a whole
// JSON answer. What was read is read again by the caller, byte for byte.
//
// The bodies of net/http have no deadline: here one short-lived goroutine reads,
// and a Read that is still pending when time is over is handed on to the next
// reader. A body is never closed while it is read, since only the bodies of
// net/http allow that: the attempt is cancelled instead.
package prefetch

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// The first allocation is of firstChunk bytes, or of the body's announced size
// up to maxTrusted: what a server announces may never come.
const (
	firstChunk = 4 << 10
	maxTrusted = 64 << 10
)

// maxIdleReads is how many Reads in a row may bring nothing, as package bufio
// has it.
const maxIdleReads = 100

var errClosed = errors.New("retrip: the response body was closed")

// A Body is a response body whose beginning may be prefetched: Read returns
// that first, then the rest. Fill is for one goroutine, before any other has the
// Body; Close may run beside Read.
type Body struct {
	src     io.ReadCloser
	attempt Canceler
	quota   *Quota // is asked for room; nil for none

	mu      sync.Mutex
	data    []byte        // prefetched
	size    int           // what data may grow to for a body of known size; 0 if that is unknown
	read    int           // how much of data was read
	err     error         // what src ended with, after data
	filling chan struct{} // closed when the goroutine has ended; nil without one
	stop    bool          // the goroutine is to end after its pending Read
	closed  bool
	passing atomic.Bool // nothing but src is left to be read: a Read takes no lock
	taken   int         // of lender
	lender  *Quota      // the quota that was asked

	panicked any // what the goroutine ended with
}

// A Canceler ends the attempt that a body belongs to, and with it a pending
// Read.
type Canceler interface{ Cancel(cause error) }

// A Watcher looks at what is prefetched, and says when that is enough.
type Watcher interface{ Enough(added []byte) bool }

// New returns a Body over src, which belongs to attempt.
func New(src io.ReadCloser, attempt Canceler) *Body {
	return new(Body).Init(src, attempt)
}

// Init is New for a Body that is part of something else.
func (b *Body) Init(src io.ReadCloser, attempt Canceler) *Body {
	b.src, b.attempt = src, attempt
	return b
}

// Count has what Fill prefetches from now on count against quota until it has
// been read, all of it, or the Body is closed. Fill ends where nothing is left.
// With nil no more counts than does already.
func (b *Body) Count(quota *Quota) { b.quota = quota }

// Fill prefetches the body until it ends, until there are limit bytes, until
// watcher, which may be nil, has enough of what was added, or until wait is over;
// a wait of 0 is for ever. It returns how the body ended: io.EOF, another error,
// or nil if there may be more. A size of 0 or below is unknown.
//
// A Body may be filled again, for more. Where the Read of a Fill whose wait is
// over is still pending, Fill returns at once: a body has one reader at a time.
func (b *Body) Fill(limit int, size int64, wait time.Duration, watcher Watcher) error {
	if b.isFilling() {
		return nil
	}
	b.passing.Store(false)
	if size > 0 && size < int64(limit) {
		b.size = int(size) + 1 // one byte more, so that the Read that finds the end has room
	}
	if wait <= 0 {
		b.fill(limit, watcher)
		return b.err
	}
	done := make(chan struct{})
	b.filling = done
	go func() {
		defer func() { b.filled(done, recover()) }()
		b.fill(limit, watcher)
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop = true
	b.passPanic()
	return b.err
}

// isFilling reports whether an earlier Fill has not ended. If it has, another
// may begin.
func (b *Body) isFilling() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop = b.filling != nil
	return b.stop
}

// passPanic panics as src has in the goroutine of Fill. Here the caller may be prepared
// for it, as net/http's server is.
func (b *Body) passPanic() {
	if p := b.panicked; p != nil {
		b.panicked = nil
		panic(p) //nolint:forbidigo // it is src's
	}
}

// fill reads on the goroutine that runs it. The Read itself holds no lock: Close
// and Prefetched must not wait for a server.
func (b *Body) fill(limit int, watcher Watcher) {
	for idle := 0; ; {
		room := b.room(limit)
		if room == nil {
			return
		}
		n, err := b.src.Read(room)
		n = min(max(n, 0), len(room)) // a src that counts wrongly must not harm more than itself
		if n > 0 {
			idle = 0
		} else if idle++; idle == maxIdleReads && err == nil {
			err = io.ErrNoProgress
		}
		if !b.add(n, err) || n > 0 && watcher != nil && watcher.Enough(room[:n]) {
			return
		}
	}
}

// add takes what a Read brought. It reports whether Fill still waits for more. If
// not, the watcher must not be asked: it belongs to a goroutine that has gone on.
// After Close nothing is kept any longer.
func (b *Body) add(n int, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	if b.closed {
		return false
	}
	b.data = b.data[:len(b.data)+n]
	return !b.stop
}

// room returns where the next Read goes, or nil if there is to be none. The Read writes
// there without the lock. Nothing else looks at the bytes behind data's length until add
// has counted them.
func (b *Body) room(limit int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || b.stop || b.closed || len(b.data) >= limit {
		return nil
	}
	if len(b.data) == cap(b.data) && !b.grow() {
		return nil
	}
	return b.data[len(b.data):min(cap(b.data), limit)]
}

// grow doubles the room, but for what is known to be not needed. It reports
// whether the quota has that much left. Memory counts when it is allocated, not when it
// is filled, since that is when it is used up.
func (b *Body) grow() bool {
	more := max(len(b.data), firstChunk)
	if b.size > len(b.data) {
		more = min(max(more, maxTrusted), b.size-len(b.data))
	}
	if b.quota != nil {
		if !b.quota.take(more) {
			return false
		}
		b.lender = b.quota
		b.taken += more
	}
	grown := make([]byte, len(b.data), len(b.data)+more)
	copy(grown, b.data)
	b.data = grown
	return true
}

// forget lets go of what was prefetched. A Read of src may be writing to it
// still, which counts until it has ended.
func (b *Body) forget() {
	b.data, b.read = nil, 0
	if b.filling == nil && b.taken > 0 {
		b.lender.giveBack(b.taken)
		b.taken = 0
	}
}

// filled ends the goroutine, and keeps what it panicked with, if it did, for
// the goroutine that waits. It closes src if that was asked for meanwhile: a body is never
// closed while it is read here.
func (b *Body) filled(done chan struct{}, panicked any) {
	b.mu.Lock()
	b.filling, b.panicked = nil, panicked
	closed := b.closed
	if closed {
		b.forget()
	}
	b.mu.Unlock()
	close(done)
	if closed {
		defer func() { _ = recover() }() // no caller could catch src's panic on this goroutine
		_ = b.src.Close()
	}
}

// Prefetched returns what was prefetched and not yet read. It is valid until
// the next Read.
func (b *Body) Prefetched() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data[b.read:]
}

// Read returns what was prefetched, then waits for a Read that is still
// pending, then reads on. The last of a body that was prefetched whole comes
// with io.EOF, as from net/http: a reader who knows where to stop, as a JSON
// decoder, need not ask again for the call to be over.
func (b *Body) Read(p []byte) (int, error) {
	for {
		if b.passing.Load() {
			return b.src.Read(p)
		}
		b.mu.Lock()
		n := copy(p, b.data[b.read:])
		b.read += n
		if b.read == len(b.data) && b.filling == nil {
			b.forget()
		}
		filling, closed, err := b.filling, b.closed, b.err
		last := n > 0 && len(b.data) == 0 && errors.Is(err, io.EOF)
		b.passing.Store(len(b.data) == 0 && filling == nil && err == nil && !closed)
		b.mu.Unlock()
		switch {
		case closed:
			return 0, errClosed
		case last:
			return n, io.EOF
		case n > 0 || len(p) == 0:
			return n, nil
		case filling != nil:
			b.await(filling)
		case err != nil:
			return 0, err
		}
	}
}

// await waits for the goroutine of Fill, whose pending Read brings what comes next. The
// reader has no deadline either: the attempt's end is what ends that Read.
func (b *Body) await(filling chan struct{}) {
	<-filling
	b.mu.Lock()
	defer b.mu.Unlock()
	b.passPanic()
}

// Close closes the body, or, if it is being read by the goroutine of Fill, ends
// the attempt and leaves closing it to that.
func (b *Body) Close() error {
	b.mu.Lock()
	again := b.closed
	b.closed = true
	b.passing.Store(false)
	b.forget()
	filling := b.filling
	b.mu.Unlock()
	switch {
	case filling == nil:
		return b.src.Close()
	case !again:
		b.attempt.Cancel(errClosed)
	}
	return nil
}
