package payload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A LengthError says that a request's body isn't as long as its ContentLength.
// net/http finds that out too, but only while it sends: the server would get a
// broken request, and the error would not name the reason.
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

// CheckLength returns a *LengthError if got bytes are not what a request's
// ContentLength says; 0 and below say nothing.
func CheckLength(got int, length int64) error {
	if length > 0 && int64(got) != length {
		return &LengthError{Want: length, Got: min(int64(got), length+1)}
	}
	return nil
}

// Read reads the body of req to its end and closes it. A ContentLength of 0 or
// below is an unknown one. A body of more than limit bytes can't be kept: then
// the stream yields all of it, and is still to be closed.
//
// It returns as soon as ctx is over or req is canceled, even if a Read hears
// nothing of that, as net/http does over HTTP/2. The body is closed beside that
// Read.
func Read(ctx context.Context, req *http.Request, limit int64) (data []byte, stream io.ReadCloser, err error) {
	canceled := req.Cancel //nolint:staticcheck // http.Client sets it for Client.Timeout
	switch {
	case req.ContentLength > limit:
		return nil, req.Body, nil
	case ctx.Done() == nil && canceled == nil, IsInMemory(req.Body):
		return read(req.Body, req.ContentLength, limit)
	}
	r := &reading{ReadCloser: req.Body, done: make(chan struct{}), err: errUnfinished}
	go r.run(req.ContentLength, limit)
	select {
	case <-r.done:
		if r.panicked != nil {
			panic(r.panicked) //nolint:forbidigo // it is the body's, and the caller may be prepared for it
		}
		if r.err == nil || ctx.Err() == nil {
			return r.data, r.stream, r.err
		}
	case <-ctx.Done():
	case <-canceled:
	}
	_ = r.Close()
	if ctx.Err() == nil {
		return nil, nil, errCanceled
	}
	return nil, nil, fault.Ended(ctx)
}

// A reading is a body that is read in a goroutine of its own, which may outlast
// the call. It is closed once, by that goroutine or by the call.
type reading struct {
	io.ReadCloser

	once     sync.Once
	closed   atomic.Bool
	closeErr error

	done     chan struct{} // closed when the goroutine has ended; the rest is read after that
	data     []byte
	stream   io.ReadCloser
	err      error
	panicked any
}

var (
	errUnfinished = errors.New("retrip: reading the request body ended its goroutine")
	errCanceled   = errors.New("retrip: canceled through Request.Cancel while the request body was read")
)

// run reads the body on the goroutine of its own. A panic of the body is handed to the
// call, whose caller may be prepared for it; here it would end the process.
func (r *reading) run(length, limit int64) {
	defer func() {
		r.panicked = recover()
		close(r.done)
	}()
	r.data, r.stream, r.err = read(r, length, limit)
}

// Read reads the body, unless the call has closed it in between two Reads.
func (r *reading) Read(p []byte) (int, error) {
	if r.closed.Load() {
		return 0, errReadAfterClose
	}
	return r.ReadCloser.Read(p)
}

// Close closes the body once, although the goroutine and the call may both want to.
func (r *reading) Close() error {
	r.once.Do(func() {
		r.closed.Store(true)
		r.closeErr = r.ReadCloser.Close()
	})
	return r.closeErr
}

// read is Read without a context, for a body that can't block or that is read on a
// goroutine of its own. It closes a body that panics, too. A body that fails to close has
// not been read well, as a file on a network may say only then.
func read(body io.ReadCloser, length, limit int64) (data []byte, stream io.ReadCloser, err error) {
	settled := false
	defer func() {
		if !settled {
			_ = body.Close()
		}
	}()
	if length > 0 {
		data, err = readKnown(body, length)
	} else {
		data, err = readUnknown(body, limit)
	}
	switch {
	case err != nil:
		return nil, nil, err
	case int64(len(data)) > limit:
		settled = true
		return nil, &joined{io.MultiReader(bytes.NewReader(data), body), body}, nil
	}
	settled = true
	if err := body.Close(); err != nil {
		return nil, nil, fmt.Errorf("retrip: closing the request body: %w", err)
	}
	return data, nil, nil
}

// joined is a body of which the beginning was read: it yields all of it.
type joined struct {
	io.Reader
	io.Closer
}

// trusted is how much is allocated for bytes that are only announced: a proxy that
// hands on what its clients send announces whatever length they do.
const trusted = 32 << 10

// readKnown reads a body of an announced length into one allocation of just that
// size. Only of a body that is not known to be in memory the beginning has to come
// first: that costs a copy of 32 KiB.
func readKnown(body io.ReadCloser, length int64) ([]byte, error) {
	var begin []byte
	if there, _ := roundtrip.InMemory(body); length > max(trusted, int64(there)) {
		begin = make([]byte, trusted)
		if err := readAll(body, begin, 0, length); err != nil {
			return nil, err
		}
	}
	data := make([]byte, length)
	copy(data, begin)
	if err := readAll(body, data, len(begin), length); err != nil {
		return nil, err
	}
	// One byte more would go where the last one is, so that looking for it needs
	// no room.
	last := data[length-1]
	n, err := io.ReadFull(body, data[length-1:])
	data[length-1] = last
	switch {
	case n > 0:
		return nil, &LengthError{Want: length, Got: length + 1}
	case !errors.Is(err, io.EOF):
		return nil, readError(err)
	}
	return data, nil
}

// readAll fills data from an offset on, with what a body of the announced length
// must have.
func readAll(body io.Reader, data []byte, offset int, length int64) error {
	n, err := io.ReadFull(body, data[offset:])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n > 0:
		return CheckLength(offset+n, length)
	case err != nil:
		return readError(err)
	}
	return nil
}

// readUnknown reads a body of unknown length, as io.ReadAll grows, up to one byte
// more than limit. Without a length there is nothing to check it against.
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

// readError says that the body has failed, and not the server. It wraps the body's
// error, which is the caller's own.
func readError(err error) error { return fmt.Errorf("retrip: reading the request body: %w", err) }
