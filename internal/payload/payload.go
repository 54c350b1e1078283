// Package payload holds what a call sends: bytes in memory that every attempt
// reads anew and that are never written to, or a body that is handed on as it comes.
//
// A payload is read once and never copied or pooled. A base may read on after
// the call is over, as net/http does: from a recycled buffer it would send what
// another call had written there.
package payload

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
)

// small is the size up to which a payload is read by a bytes.Reader. net/http
// knows that one, and sends it in one write with the headers. A bytes.Reader
// keeps its bytes in memory for as long as the answer is read, over HTTP/1.1
// and HTTP/2, which is why larger payloads have a Reader of their own.
const small = 4 << 10

var (
	errReadAfterClose = errors.New("retrip: read of a closed request body")
	errReleased       = errors.New("retrip: the request body was let go, since its call is over")
)

// A Payload is what all attempts of one call send. Its readers share the bytes.
// It is safe for concurrent use.
type Payload struct {
	mu       sync.Mutex
	data     []byte
	released bool // Open fails: what it could offer would pass for an empty payload
}

// New returns a Payload of data, which must not be written to from now on.
func New(data []byte) *Payload { return &Payload{data: data} }

// Set makes data the payload, which must not be written to from now on.
func (p *Payload) Set(data []byte) { p.data = data }

// Bytes returns the payload, which must not be written to.
func (p *Payload) Bytes() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data
}

// Open returns a new body of a request over the whole payload; it fits
// Request.GetBody. It fails after Release.
func (p *Payload) Open() (io.ReadCloser, error) { return p.OpenIn(new(Space)) }

// OpenIn is Open without an allocation for the reader, which is made in space. A
// space serves one reader: an attempt has one.
func (p *Payload) OpenIn(space *Space) (io.ReadCloser, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.released:
		return nil, errReleased
	case len(p.data) == 0:
		return http.NoBody, nil
	case len(p.data) <= small:
		space.small.Reset(p.data)
		return io.NopCloser(&space.small), nil
	}
	space.large.rest = p.data
	return &space.large, nil
}

// Release lets the bytes go: no further reader is needed. Readers that are open
// keep them until they are read or closed.
func (p *Payload) Release() {
	p.mu.Lock()
	p.data, p.released = nil, true
	p.mu.Unlock()
}

// A Space is room for one reader, of either kind.
type Space struct {
	small bytes.Reader
	large Reader
}

// A Reader is a body of a request over bytes in memory. It lets them go at its
// end and when it is closed. Close may run beside Read, as net/http has it.
type Reader struct {
	mu     sync.Mutex
	rest   []byte
	closed bool
}

// NewReader returns a Reader over data, which must not be written to from now on.
func NewReader(data []byte) *Reader { return &Reader{rest: data} }

// Read reads what is left. With the last byte it lets the payload go, without
// waiting to be asked for io.EOF.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, errReadAfterClose
	}
	n := copy(p, r.rest)
	if r.rest = r.rest[n:]; len(r.rest) > 0 {
		return n, nil
	}
	r.rest = nil
	if n > 0 {
		return n, nil
	}
	return 0, io.EOF
}

// Close lets the bytes go.
func (r *Reader) Close() error {
	r.Take()
	return nil
}

// Take closes r and returns what was still to be read of it, or false if it was
// closed already. A retry layer that gets a Reader as its request's body takes the
// bytes over this way, instead of reading them into a second copy.
func (r *Reader) Take() ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest, open := r.rest, !r.closed
	r.closed, r.rest = true, nil
	return rest, open
}
