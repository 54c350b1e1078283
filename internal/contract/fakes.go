package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// An upload is a caller's body. It watches over how it is used.
type upload struct {
	s     *scene
	data  []byte
	chunk int             // at most so many bytes a Read; 0: as many as fit
	eager bool            // io.EOF comes together with the last bytes
	fail  error           // comes instead of io.EOF
	gate  <-chan struct{} // nothing can be read before it is closed
	atEOF func()
	into  func(p []byte) // sees where it is read to

	mu      sync.Mutex
	off     int
	reading bool
	closes  int
}

func (u *upload) Read(p []byte) (int, error) {
	if u.gate != nil {
		select {
		case <-u.gate:
		case <-u.s.over:
			return 0, errReleased
		}
	}
	u.mu.Lock()
	if u.closes > 0 {
		u.mu.Unlock()
		u.s.fault("the caller's body is read after its Close")
		return 0, http.ErrBodyReadAfterClose
	}
	if u.reading {
		u.mu.Unlock()
		u.s.fault("the caller's body is read by two at once")
		return 0, errBroken
	}
	u.reading = true
	u.mu.Unlock()
	n, err := u.next(p)
	u.mu.Lock()
	u.reading = false
	u.mu.Unlock()
	return n, err
}

func (u *upload) next(p []byte) (int, error) {
	if u.into != nil {
		u.into(p)
	}
	if u.chunk > 0 && len(p) > u.chunk {
		p = p[:u.chunk]
	}
	n := copy(p, u.data[u.off:])
	u.off += n
	if u.off < len(u.data) || n > 0 && !u.eager {
		return n, nil
	}
	if u.fail != nil {
		return n, u.fail
	}
	if u.atEOF != nil {
		u.atEOF()
		u.atEOF = nil
	}
	return n, io.EOF
}

func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closes++
	return nil
}

// once returns an error unless the body was closed exactly once.
func (u *upload) once() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closes != 1 {
		return fmt.Errorf("the caller's body is closed %d times", u.closes)
	}
	return nil
}

// A base answers as its steps say, one an attempt, the last one ever after.
// Like net/http's it reads the whole payload, closes it, and looks at the
// context and Request.Cancel first. It knows nothing of httptrace.
type base struct {
	s     *scene
	steps []step
	look  func(a *attempt) // sees each attempt before it is read

	mu       sync.Mutex
	attempts []*attempt
	idle     int // calls of CloseIdleConnections
}

func (s *scene) base(steps ...step) *base { return &base{s: s, steps: steps} }

// overBase returns the wrapper under examination over a base with these steps.
func (s *scene) overBase(steps ...step) (http.RoundTripper, *base) {
	b := s.base(steps...)
	return s.wrap(b), b
}

// A step is the base's part in one attempt.
type step struct {
	unread bool // answers without reading the payload
	open   bool // and does not close it
	then   func(a *attempt) (*http.Response, error)
}

// An attempt is what the base has seen and done once.
type attempt struct {
	s       *scene
	n       int
	req     *http.Request
	header  http.Header
	payload []byte
	whole   bool // the payload was read up to its io.EOF
	resp    *http.Response
	body    *download
}

func (b *base) RoundTrip(req *http.Request) (*http.Response, error) {
	b.mu.Lock()
	a := &attempt{s: b.s, n: len(b.attempts), req: req, header: req.Header.Clone()}
	b.attempts = append(b.attempts, a)
	b.mu.Unlock()
	if a.n > 10000 {
		a.close()
		return nil, errReleased // so that an endless loop ends
	}
	if b.look != nil {
		b.look(a)
	}
	if err := overFor(req); err != nil {
		a.close()
		return nil, err
	}
	st := b.steps[min(a.n, len(b.steps)-1)]
	if !st.unread {
		if err := a.read(); err != nil {
			a.close()
			return nil, err
		}
	}
	if !st.open {
		a.close()
	}
	return st.then(a)
}

func (b *base) CloseIdleConnections() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle++
}

func (b *base) seen() []*attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.attempts)
}

// made returns all responses of the base.
func (b *base) made() []*http.Response {
	var all []*http.Response
	for _, a := range b.seen() {
		if a.resp != nil {
			all = append(all, a.resp)
		}
	}
	return all
}

// unclosed returns an error if a response's body is still open.
func (b *base) unclosed() error {
	for _, a := range b.seen() {
		if a.body != nil && a.body.closed() == 0 {
			return fmt.Errorf("the response's body of attempt %d is left open", a.n+1)
		}
	}
	return nil
}

func (a *attempt) close() {
	if a.req.Body != nil {
		a.req.Body.Close()
	}
}

func (a *attempt) read() error {
	if a.req.Body == nil {
		a.whole = true
		return nil
	}
	payload, err := io.ReadAll(a.req.Body)
	a.payload = payload
	if err != nil {
		return err
	}
	if n := a.req.ContentLength; n > 0 && n != int64(len(payload)) {
		return fmt.Errorf("contract: ContentLength=%d with Body length %d", n, len(payload))
	}
	a.whole = true
	return nil
}

// respond makes a response; the header fields are "Name: value".
func (a *attempt) respond(status int, body *download, header ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	if body == nil {
		body = &download{}
	}
	body.s, body.req, body.shut = a.s, a.req, make(chan struct{})
	a.body = body
	a.resp = &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: body, ContentLength: -1, Request: a.req,
	}
	return a.resp
}

// replies is the plain step: a status with some content.
func replies(status int, content string, header ...string) step {
	return step{then: func(a *attempt) (*http.Response, error) {
		return a.respond(status, &download{data: []byte(content)}, header...), nil
	}}
}

// sends replies with what body returns, made anew for each attempt.
func sends(status int, body func() *download) step {
	return step{then: func(a *attempt) (*http.Response, error) {
		return a.respond(status, body()), nil
	}}
}

func fails(err error) step {
	return step{then: func(*attempt) (*http.Response, error) { return nil, err }}
}

// hangs answers only when the attempt's context is over.
func hangs() step {
	return step{then: func(a *attempt) (*http.Response, error) {
		select {
		case <-a.req.Context().Done():
		case <-a.req.Cancel: //nolint:staticcheck // bases still have to look at it
		case <-a.s.over:
			return nil, errReleased
		}
		return nil, overFor(a.req)
	}}
}

var errCanceled = errors.New("contract: Request.Cancel is closed")

// overFor returns why nobody waits for the request any more, or nil.
func overFor(req *http.Request) error {
	if ctx := req.Context(); ctx.Err() != nil {
		return &ctxError{ctx.Err(), context.Cause(ctx)}
	}
	select {
	case <-req.Cancel: //nolint:staticcheck // as above
		return errCanceled
	default:
		return nil
	}
}

// A ctxError tells both how a context ended and why.
type ctxError struct{ err, cause error }

func (e *ctxError) Error() string   { return e.cause.Error() }
func (e *ctxError) Unwrap() []error { return []error{e.err, e.cause} }
func (e *ctxError) Timeout() bool   { return errors.Is(e.err, context.DeadlineExceeded) }

const panicValue = "contract: the base panics"

func panics() step {
	return step{then: func(*attempt) (*http.Response, error) {
		panic(panicValue) //nolint:forbidigo // this base misbehaves
	}}
}

// A download is a response's body. Like net/http's it ends with its attempt's context.
type download struct {
	s   *scene
	req *http.Request // whose end is the body's too

	data    []byte
	chunk   int             // at most so many bytes a Read; 0: as many as fit
	end     error           // after data; nil: io.EOF
	joined  bool            // end comes together with the last bytes
	stalls  bool            // after data comes nothing
	endless time.Duration   // after data a piece comes at this pace, for ever
	gate    <-chan struct{} // between first chunk and the others
	beside  bool            // the rule itself closes beside a Read
	slow    time.Duration   // how long Close takes
	atEOF   func()

	shut    chan struct{}
	mu      sync.Mutex
	off     int
	reading int
	closes  int
}

var errDownloadClosed = errors.New("contract: read on closed response body")

func (d *download) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closes > 0 {
		return 0, errDownloadClosed
	}
	if d.reading++; d.reading > 1 {
		d.s.fault("the response's body is read by two at once")
	}
	defer func() { d.reading-- }()
	if len(p) == 0 {
		return 0, nil
	}
	switch {
	case d.off > 0 && d.off < len(d.data) && d.gate != nil:
		if err := d.wait(d.gate, 0); err != nil {
			return 0, err
		}
	case d.off == len(d.data) && d.stalls:
		return 0, d.wait(nil, 0)
	case d.off == len(d.data) && d.endless > 0:
		return min(len(p), 1<<10), d.wait(nil, d.endless)
	}
	if d.chunk > 0 && len(p) > d.chunk {
		p = p[:d.chunk]
	}
	n := copy(p, d.data[d.off:])
	d.off += n
	if d.off < len(d.data) || n > 0 && (!d.joined || d.stalls || d.endless > 0) {
		return n, nil
	}
	if d.end != nil {
		return n, d.end
	}
	if d.atEOF != nil {
		d.atEOF()
		d.atEOF = nil
	}
	return n, io.EOF
}

// wait releases the lock until the gate opens or the pause is over (nil error),
// or something ends the body.
func (d *download) wait(gate <-chan struct{}, pause time.Duration) error {
	d.mu.Unlock()
	defer d.mu.Lock()
	var pauseOver <-chan time.Time
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		pauseOver = timer.C
	}
	select {
	case <-gate:
		return nil
	case <-pauseOver:
		return nil
	case <-d.req.Context().Done():
		return overFor(d.req)
	case <-d.req.Cancel: //nolint:staticcheck // bases still have to look at it
		return overFor(d.req)
	case <-d.shut:
		return errDownloadClosed
	case <-d.s.over:
		return errReleased
	}
}

func (d *download) Close() error {
	d.shutDown()
	if d.slow > 0 {
		timer := time.NewTimer(d.slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-d.s.over:
		}
	}
	return nil
}

func (d *download) shutDown() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading > 0 && !d.beside {
		d.s.fault("the response's body is closed beside a Read that the caller knows nothing of")
	}
	if d.closes++; d.closes == 1 {
		close(d.shut)
	}
}

func (d *download) closed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closes
}
