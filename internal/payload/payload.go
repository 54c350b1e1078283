// Package payload holds what a call sends: read once into one byte slice that
// every attempt shares and nobody writes to.
package payload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/retrip-go/retrip/internal/fault"
)

// A Source is the payload of one call. Its readers share the bytes. The zero
// value is an empty payload. It belongs to the goroutine that makes the call;
// Open, GiveBack and the readers may be used by others.
type Source struct {
	mu       sync.Mutex // of Open, Release and GiveBack, and of the readers
	data     []byte
	gone     bool    // released: what is read now would pass for an empty payload
	lasting  bool    // of no call: its data is for as many as like
	lent     bool    // data is the caller's, and this Source says for how long
	returned bool    // to the caller: nobody may read it any more
	outer    *Source // of the call around this one, if data is from there
	probe    [1]byte // to see whether a body is longer than it said, without an allocation
}

// NewSource returns a Source over data, which nobody may write to from now on.
func NewSource(data []byte) *Source { return &Source{data: data, lasting: true} }

// Open returns a new reader over the whole payload; it fits Request.GetBody.
// It fails after Release.
func (s *Source) Open() (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, errReleased
	}
	return &Reader{source: s.origin(), rest: s.data}, nil
}

// Init makes r, which nobody else knows yet, a reader over the whole payload, and
// returns its length.
func (s *Source) Init(r *Reader) int {
	r.source, r.rest = s.origin(), s.data
	return len(r.rest)
}

// origin returns the Source that says how long data may be read.
func (s *Source) origin() *Source {
	if s.outer != nil {
		return s.outer
	}
	return s
}

// Release lets the payload go: no further reader is needed. Readers that are
// open keep it until they are read or closed.
func (s *Source) Release() {
	s.mu.Lock()
	s.data, s.gone = nil, true
	s.mu.Unlock()
}

// GiveBack is Release for when the call is over. Bytes that are the caller's
// are read by nobody any more when it returns: open readers fail.
func (s *Source) GiveBack() {
	s.mu.Lock()
	s.data, s.gone, s.returned = nil, true, s.lent
	s.mu.Unlock()
}

// A Reader reads one Source, from the beginning to its end. It lets the
// payload go at its end and when it is closed.
type Reader struct {
	source *Source // whose mu guards the rest
	rest   []byte
	closed bool
}

var (
	errReadAfterClose = errors.New("retrip: read of a closed request body")
	errReleased       = errors.New("retrip: the request body was let go: its call is over")
)

func (r *Reader) Read(p []byte) (int, error) {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	switch {
	case r.closed:
		return 0, errReadAfterClose
	case r.source.returned && len(r.rest) > 0:
		r.closed, r.rest = true, nil
		return 0, errReleased
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	if len(r.rest) > 0 {
		return n, nil
	}
	r.rest = nil
	if n > 0 {
		return n, nil
	}
	return 0, io.EOF
}

// Close lets the payload go.
func (r *Reader) Close() error {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	r.closed, r.rest = true, nil
	return nil
}

// A Stream is a body above the limit: it can be sent once only.
type Stream struct {
	io.Reader
	io.Closer
}

// A LengthError says that a request's body isn't as long as its ContentLength.
type LengthError struct {
	Want int64 // the ContentLength
	Got  int64 // the bytes read; Want+1 stands for "more"
}

func (e *LengthError) Error() string {
	if e.Got > e.Want {
		return fmt.Sprintf("retrip: the request body is longer than its ContentLength of %d bytes: set ContentLength to its size, or to -1 if that is unknown", e.Want)
	}
	return fmt.Sprintf("retrip: the request body ended after %d bytes, before its ContentLength of %d: set ContentLength to its size, or to -1 if that is unknown", e.Got, e.Want)
}

// Buffer reads body into the Source, closes it, and returns what it read. A
// length of 0 or below is an unknown one, as in http.Request. Bodies above
// limit are not buffered: then the returned Stream is the whole body, still to
// be closed. The bytes of a Reader of another Source, and of a body in memory,
// are shared, not copied.
//
// If a body can block (it is not held in memory), it is closed as soon as ctx
// is over, so that it can't outlast the call.
func (s *Source) Buffer(ctx context.Context, body io.ReadCloser, length, limit int64, inMemory bool) ([]byte, *Stream, error) {
	switch b := body.(type) {
	case *Stream:
		return nil, b, nil
	case *Reader:
		if s.take(b) {
			return s.share(length, math.MaxInt64)
		}
	}
	switch {
	case s.borrow(body):
		return s.share(length, limit)
	case length > limit:
		return nil, &Stream{Reader: body, Closer: body}, nil
	}
	if inMemory || ctx.Done() == nil {
		return s.read(ctx, body, length, limit)
	}
	once := &closeOnce{ReadCloser: body}
	stop := context.AfterFunc(ctx, func() { _ = once.Close() })
	defer stop()
	return s.read(ctx, once, length, limit)
}

// read is Buffer for a body that is copied. It closes one that panics, too.
func (s *Source) read(ctx context.Context, body io.ReadCloser, length, limit int64) ([]byte, *Stream, error) {
	settled := false
	defer func() {
		if !settled {
			_ = body.Close()
		}
	}()
	var data []byte
	var err error
	if length > 0 {
		data, err = s.readKnown(body, length)
	} else {
		data, err = readUnknown(body, limit)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, nil, fault.Ended(ctx)
	case err != nil:
		return nil, nil, err
	}
	settled = true
	if int64(len(data)) > limit {
		return nil, &Stream{Reader: io.MultiReader(bytes.NewReader(data), body), Closer: body}, nil
	}
	s.data = data
	if err := body.Close(); err != nil {
		return nil, nil, fmt.Errorf("retrip: closing the request body: %w", err)
	}
	return data, nil, nil
}

func (s *Source) readKnown(body io.Reader, length int64) ([]byte, error) {
	data := make([]byte, length)
	n, err := io.ReadFull(body, data)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n > 0:
		return nil, &LengthError{Want: length, Got: int64(n)}
	case err != nil:
		return nil, readError(err)
	}
	n, err = io.ReadFull(body, s.probe[:])
	switch {
	case n > 0:
		return nil, &LengthError{Want: length, Got: length + 1}
	case !errors.Is(err, io.EOF):
		return nil, readError(err)
	}
	return data, nil
}

func readUnknown(body io.Reader, limit int64) ([]byte, error) {
	if limit < math.MaxInt64 {
		limit++ // one byte more shows that there is more
	}
	data, err := io.ReadAll(io.LimitReader(body, limit))
	if err != nil {
		return nil, readError(err)
	}
	return data, nil
}

func readError(err error) error { return fmt.Errorf("retrip: reading the request body: %w", err) }

// closeOnce lets the end of a context and the end of a read both close a body.
type closeOnce struct {
	io.ReadCloser

	once sync.Once
	err  error
}

func (c *closeOnce) Close() error {
	c.once.Do(func() { c.err = c.ReadCloser.Close() })
	return c.err
}
