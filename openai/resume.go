package openai

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
)

// errCanceled ends a body whose Request.Cancel was closed while it was resumed.
// net/http knows nothing of that wait.
var errCanceled error = &bodyError{"openai: Request.Cancel ended the call", fault.Canceled}

// What became of a stream that was to be resumed, as retrip.resume.outcome has it.
const (
	outcomeResumed   = "resumed"
	outcomeRefused   = "refused"
	outcomeExhausted = "exhausted"
)

// A resumedBody is the body of a response that runs in the background. When its
// stream breaks off, it asks for what is still to come and goes on with that, so
// that its reader sees one uncut stream. A POST to responses must not be repeated,
// because it starts a second run. Asking for the events of the first run is
// harmless.
//
// The requests for that are attempts of the POST's call, which is over when this
// body is. Read must not be called concurrently. Close may be called beside Read.
type resumedBody struct {
	transport *Transport
	operation *operation
	// status is that of the response that the caller has.
	status int
	// sent is the POST as it went to its target. The way back leads to the same
	// place.
	sent     *http.Request
	events   resumedEvents
	schedule resumeSchedule

	// chunk is what a Read of src reads into, and buffer is what out lies in. Both
	// are kept from one Read to the next, so that an event costs no allocation.
	chunk  []byte
	buffer []byte
	// out is what the reader is still to get, and err is what it gets after that.
	out []byte
	err error
	// broken is what the stream broke off with. It is nil again once a new event has
	// come.
	broken error
	// silent says that a limit to the first useful event has passed since the last
	// new event.
	silent bool
	// wait is how long the provider or the breaker wants us to stay away before the
	// next request.
	wait time.Duration
	// code is the HTTP status of the last answer to a request, 0 if there was none.
	code int
	// idle counts the Reads of src in a row that brought nothing.
	idle int
	// before is what the answers before this one have said, since each stream has
	// only its part of the numbers that the metrics need.
	before summary
	// known says that it is clear whether src brings events.
	known bool

	// mu guards the fields below it, and before where end reads it, because Close
	// may run beside Read.
	mu  sync.Mutex
	src io.ReadCloser
	// The answer is the one that src brings.
	answer *answer
	// ctx is the context of the requests. It is made with the first of them, since
	// most streams never break.
	ctx    context.Context //nolint:containedctx // a Read has no parameter for it
	cancel context.CancelFunc
	closed bool
	over   bool

	// closing is closed with the body. It wakes a wait at once.
	closing chan struct{}
}

// resumes reports whether the call's stream is resumed if it breaks off. Whole then
// need not hold the stream, because resuming is what makes it whole.
func resumes(c *call.Call) bool {
	o, ok := c.Listener.(*operation)
	return ok && o.reader.resume != nil
}

// resumed returns the body that the answer is read from. It is nil if that body is
// not resumed.
func (o *operation) resumed() *resumedBody {
	if r := o.reader.resume; r != nil {
		return r.body
	}
	return nil
}

// resumedFormat returns the format of the answer to a request that resumes a stream.
// Such a GET has a row of its own in the table, without a format, but its answer
// continues that of the POST. For other calls it returns nil.
func resumedFormat(c *call.Call) *format {
	if o, ok := c.Listener.(*operation); ok && c.Resuming {
		return o.kind.format
	}
	return nil
}

// awaits returns what an attempt of the operation waits for, and for how long at
// most. A resumed stream that was useful before is not a new one, so its silence
// counts as a pause and not as the time to the first event.
func (o *operation) awaits(idleLimit time.Duration) (phase, time.Duration) {
	if o.call.Resuming && o.resumed().isUseful() {
		return idle, idleLimit
	}
	return firstEvent, o.firstEvent
}

// resume replaces the response's body by a resumedBody, if the response brings
// events that can be asked for again.
func (t *Transport) resume(o *operation, response *http.Response) {
	if o.reader.resume == nil || response.StatusCode != http.StatusOK {
		return
	}
	a, ok := o.call.Answer.(*answer)
	if !ok || a.format == nil || !a.format.resumes || a.isOpaque() || a.request.URL.Opaque != "" {
		return
	}
	// The payload may be large, and is not needed for as long as the stream lasts.
	sent := a.request.WithContext(&o.call)
	sent.Body, sent.GetBody, sent.Header = nil, nil, nil // not to be kept for as long as the stream
	o.reader.resume.body = &resumedBody{
		transport: t, operation: o, status: response.StatusCode,
		sent: sent, src: response.Body, answer: a, closing: make(chan struct{}),
	}
	response.Body = o.resumed()
}

// isUseful reports whether the stream has brought something useful, in this answer
// or in one before.
func (b *resumedBody) isUseful() bool { return b.before.first > 0 || b.answer.useful.Load() }

// Read returns only whole events for as long as the stream can be resumed. Half an
// event that the reader has could not be taken back when the next stream sends it
// again.
func (b *resumedBody) Read(p []byte) (int, error) {
	for len(b.out) == 0 {
		if b.err != nil {
			b.end(b.err)
			return 0, b.err
		}
		b.fill()
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

// maxKeptBuffer bounds the buffer that is kept for the next event. One large event
// would otherwise cost its memory for as long as the stream lasts.
const maxKeptBuffer = 64 << 10

// maxIdleReads is how many Reads in a row may bring neither bytes nor an error
// before the source counts as faulty. It is the number that package bufio uses.
const maxIdleReads = 100

// fill reads once from the source and decides what its bytes or its error mean.
func (b *resumedBody) fill() {
	if b.chunk == nil {
		b.chunk = make([]byte, 8<<10)
	}
	if cap(b.buffer) > maxKeptBuffer {
		b.buffer = nil
	}
	n, err := b.src.Read(b.chunk)
	if b.idle++; n > 0 || err != nil {
		b.idle = 0
	}
	if b.idle == maxIdleReads {
		b.idle, err = 0, io.ErrNoProgress
	}
	refused := b.take(b.chunk[:max(n, 0)])
	switch {
	case refused == refusedForNow:
		b.err = b.broke(errors.New(string(refused)))
	case refused != "":
		b.err = b.refuse(refused)
	case err != nil:
		b.err = b.broke(err)
	}
}

// take processes what one Read brought. A first stream that brings no events passes
// as it comes. A later one that does not must not be mixed into the first.
func (b *resumedBody) take(p []byte) discontinuity {
	if kind := b.kind(p); kind != undecided {
		if b.known = true; kind != eventBody {
			if b.events.again {
				return refusedStream
			}
			b.events.raw = true
		}
	}
	joined, last := b.events.joined, b.events.last
	out, refused := b.events.add(b.buffer[:0], p)
	b.buffer, b.out = out, out
	if b.events.again && b.events.last != last {
		b.progress(!joined)
	}
	return refused
}

// kind returns what src brings, once its first bytes have shown it. Afterwards it
// returns undecided, since the question is asked once for each stream.
func (b *resumedBody) kind(p []byte) kind {
	if len(p) == 0 || b.known {
		return undecided
	}
	b.answer.mu.Lock()
	defer b.answer.mu.Unlock()
	return b.answer.kind
}

// progress notes that a resumed stream has brought a new event. joined says that it
// is the first one. A break counts as resumed only now: a stream without a new event
// is no success.
func (b *resumedBody) progress(joined bool) {
	b.schedule.progress(time.Now())
	if joined {
		b.count(outcomeResumed)
		b.log(slog.LevelDebug, "stream resumed", fault.Type(b.broken))
		b.broken, b.wait, b.silent = nil, 0, false
	}
}

// broke continues after the stream has broken off with err, or returns what the
// reader gets. An end without the response's last event is a break, too, since a
// proxy that dies often ends a body in good order.
func (b *resumedBody) broke(err error) error {
	if errors.Is(err, io.EOF) {
		b.out = b.events.end(b.out)
	}
	switch ended := b.ended(); {
	case ended == nil && b.events.over:
		return io.EOF // nothing is missing
	case ended != nil || !b.events.resumable():
		b.out = b.events.flush(b.out)
		return err
	}
	if errors.Is(err, io.EOF) {
		// With PassThrough the answer's body reports no cut, but here the end is
		// known to be one.
		err = ErrTruncated
	}
	if b.broken == nil {
		b.broken = err
	}
	b.drop()
	if b.isSilentAgain(err) {
		return b.give(outcomeExhausted, "stayed silent")
	}
	return b.ask()
}

// isSilentAgain reports whether a limit to the first useful event has passed twice
// without a new event between. A third wait of that length on the same way is as
// unlikely to end well, and costs the caller its time.
func (b *resumedBody) isSilentAgain(err error) bool {
	var limit *fault.TimeLimitError
	if !errors.As(err, &limit) {
		return false
	}
	again := b.silent
	b.silent = true
	return again
}

// ended returns why the caller wants no more of the stream, or nil if it still does. An
// end by the caller is no break and is never resumed.
func (b *resumedBody) ended() error {
	c := &b.operation.call
	select {
	case <-b.closing:
		return http.ErrBodyReadAfterClose
	case <-c.Done():
		return fault.Ended(c)
	case <-b.operation.request.Cancel: //nolint:staticcheck // as above
		return errCanceled
	default:
		return nil
	}
}

// refuse ends the stream because its continuation does not fit. A gap that the
// reader can't see would be worse than an error.
func (b *resumedBody) refuse(why discontinuity) error {
	b.drop()
	return b.give(outcomeRefused, string(why))
}

// give ends the stream, of which no more can be had, with a [*ResumeError]. The
// response may still exist at the provider, so the error carries what is needed to
// ask for it.
func (b *resumedBody) give(outcome, why string) error {
	b.count(outcome)
	e := &b.events
	err := &ResumeError{ResponseID: e.id, Status: e.status, StatusCode: b.code, reason: why, first: b.broken}
	if err.first == nil {
		err.first = ErrTruncated // it was resumed well, and then went wrong
	}
	b.log(slog.LevelWarn, "stream not resumed", err.ErrorType())
	return err
}

// log writes one line about a break. It holds no id and nothing of an event.
func (b *resumedBody) log(level slog.Level, what, errorType string) {
	if logger := b.transport.cfg.Logger; logger != nil {
		logger.LogAttrs(&b.operation.call, level, what,
			slog.String("error_type", errorType), slog.Int("requests", b.schedule.all), slog.String("endpoint", b.operation.kind.name))
	}
}

// count records what became of a break.
func (b *resumedBody) count(outcome string) {
	b.operation.metrics.resumed(b.operation, outcome)
}

// drop closes the source, of which nothing more is needed. The connection is free
// before the next request begins.
func (b *resumedBody) drop() {
	b.mu.Lock()
	src := b.src
	b.src = http.NoBody
	b.mu.Unlock()
	_ = src.Close()
}

// closeBody closes the body of a response that may be nil.
func closeBody(response *http.Response) {
	if response != nil {
		_ = response.Body.Close()
	}
}

// Close closes the body and ends a request that is to resume it. It sends nothing to
// the provider: the response runs on there, and only its owner can know whether it
// is still wanted. Close may be called beside Read, and more than once.
func (b *resumedBody) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	src := b.src
	b.mu.Unlock()
	// The operation ends before the source is closed. A Read beside this Close would
	// otherwise return an error first, and the operation would count as failed.
	b.end(nil)
	return src.Close()
}

// summary returns what all answers so far have said. The first useful event is that
// of the first stream, while model and usage are the latest that are known.
func (b *resumedBody) summary() summary {
	s := b.answer.summary(b.operation.call.Start)
	s.model, s.first = cmp.Or(s.model, b.before.model), cmp.Or(b.before.first, s.first)
	if s.usage == (usage{}) {
		s.usage = b.before.usage
	}
	return s
}

// end ends the operation. It does so once, because both Read and Close come here. An
// error of io.EOF is the good end.
func (b *resumedBody) end(err error) {
	b.mu.Lock()
	over, said, cancel := b.over, b.summary(), b.cancel
	b.over = true
	b.mu.Unlock()
	if over {
		return
	}
	if cancel != nil {
		cancel()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	o := b.operation
	if !o.call.Measured && !o.metrics.enabled(&o.call) {
		return
	}
	o.record(said, b.status, err)
}
