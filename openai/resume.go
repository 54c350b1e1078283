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
var errCanceled error = &bodyError{"openai: Request.Cancel ended the call", fault.Canceled}

// What became of a stream that was to be resumed, as retrip.resume.outcome has it.
const (
	outcomeResumed   = "resumed"
	outcomeRefused   = "refused"
	outcomeExhausted = "exhausted"
)

// A resumedBody is the body of a response that runs in the background. When its
// stream breaks off it asks for what is still to come, and goes on with that, so
// that its reader sees one uncut stream. The requests for that are attempts of the
// POST's call, which is over when this body is.
type resumedBody struct {
	transport *Transport
	operation *operation
	status    int           // of the response
	sent      *http.Request // the POST as it went to its target
	events    resumedEvents
	schedule  resumeSchedule

	chunk  []byte        // for a Read of src
	buffer []byte        // of out
	out    []byte        // what the reader is still to get
	err    error         // what it gets after that
	broken error         // what the stream broke off with, until an event comes
	silent bool          // that was a limit to the first useful event
	wait   time.Duration // that was asked for before the next request
	code   int           // of the last answer to a request
	idle   int           // Reads of src in a row that brought nothing
	before summary       // of the answers before this one
	known  bool          // what src brings

	mu     sync.Mutex // Close may run beside Read
	src    io.ReadCloser
	answer *answer         // that src brings
	ctx    context.Context //nolint:containedctx // of the requests, made with the first of them
	cancel context.CancelFunc
	closed bool
	over   bool

	closing chan struct{} // closed with the body
}

// resumes reports whether the call's stream is resumed if it breaks off.
func resumes(c *call.Call) bool {
	o, ok := c.Listener.(*operation)
	return ok && o.reader.resume != nil
}

// resumed returns the body that the answer is read from; nil if it is none that is
// resumed.
func (o *operation) resumed() *resumedBody {
	if r := o.reader.resume; r != nil {
		return r.body
	}
	return nil
}

// resumedFormat returns the format of the answer to an attempt of a call that is
// no POST: that of the POST if it is resumed, else none.
func resumedFormat(c *call.Call) *format {
	if o, ok := c.Listener.(*operation); ok && c.Resuming {
		return o.kind.format
	}
	return nil
}

// awaits returns what an attempt of the operation waits for, and for how long at
// most. A stream that is resumed waits for what it waited for before.
func (o *operation) awaits(idleLimit time.Duration) (phase, time.Duration) {
	if o.call.Resuming && o.resumed().isUseful() {
		return idle, idleLimit
	}
	return firstEvent, o.firstEvent
}

// resume puts a resumedBody in the place of the response's body, if it brings
// events that can be asked for again.
func (t *Transport) resume(o *operation, response *http.Response) {
	if o.reader.resume == nil || response.StatusCode != http.StatusOK {
		return
	}
	a, ok := o.call.Answer.(*answer)
	if !ok || a.format == nil || !a.format.resumes || a.isOpaque() || a.request.URL.Opaque != "" {
		return
	}
	sent := a.request.WithContext(&o.call)
	sent.Body, sent.GetBody, sent.Header = nil, nil, nil // not to be kept for as long as the stream
	o.reader.resume.body = &resumedBody{
		transport: t, operation: o, status: response.StatusCode,
		sent: sent, src: response.Body, answer: a, closing: make(chan struct{}),
	}
	response.Body = o.resumed()
}

// isUseful reports whether the stream has brought something.
func (b *resumedBody) isUseful() bool { return b.before.first > 0 || b.answer.useful.Load() }

// Read returns whole events, for as long as the stream can be resumed.
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

// maxKeptBuffer is how much of what a large event took is kept for the next.
const maxKeptBuffer = 64 << 10

// maxIdleReads is how many Reads in a row may bring nothing, as package bufio
// has it.
const maxIdleReads = 100

// fill reads on.
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

// take takes what a Read brought.
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
	out, refused := b.events.take(b.buffer[:0], p)
	b.buffer, b.out = out, out
	if b.events.again && b.events.last != last {
		b.progress(!joined)
	}
	return refused
}

// kind returns what src brings, once its bytes have said it; undecided afterwards.
func (b *resumedBody) kind(p []byte) kind {
	if len(p) == 0 || b.known {
		return undecided
	}
	b.answer.mu.Lock()
	defer b.answer.mu.Unlock()
	return b.answer.kind
}

// progress notes that a new event has come of a stream that was resumed; joined
// says that it is the first one.
func (b *resumedBody) progress(joined bool) {
	b.schedule.progress(time.Now())
	if joined {
		b.count(outcomeResumed)
		b.log(slog.LevelDebug, "stream resumed", fault.Type(b.broken))
		b.broken, b.wait, b.silent = nil, 0, false
	}
}

// broke goes on after the stream has broken off with err, or returns what the
// reader gets.
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
		err = ErrTruncated // which no reader is given that passes errors through
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

// isSilentAgain reports whether a limit to the first useful event was run into
// twice without a new event between. More often it is not waited for on the same
// way.
func (b *resumedBody) isSilentAgain(err error) bool {
	var limit *fault.TimeLimitError
	if !errors.As(err, &limit) {
		return false
	}
	again := b.silent
	b.silent = true
	return again
}

// ended returns why nobody wants more of the stream; nil if somebody does.
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

// refuse ends the stream because it was resumed with what does not continue it.
func (b *resumedBody) refuse(why discontinuity) error {
	b.drop()
	return b.give(outcomeRefused, string(why))
}

// give ends the stream, of which no more can be had.
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

// log tells the log what became of a break.
func (b *resumedBody) log(level slog.Level, what, errorType string) {
	if logger := b.transport.cfg.Logger; logger != nil {
		logger.LogAttrs(&b.operation.call, level, what,
			slog.String("error_type", errorType), slog.Int("requests", b.schedule.all), slog.String("endpoint", b.operation.kind.name))
	}
}

// count counts what became of a break.
func (b *resumedBody) count(outcome string) {
	b.operation.metrics.resumed(b.operation, outcome)
}

// drop closes what is of no use any more.
func (b *resumedBody) drop() {
	b.mu.Lock()
	src := b.src
	b.src = http.NoBody
	b.mu.Unlock()
	_ = src.Close()
}

func closeBody(response *http.Response) {
	if response != nil {
		_ = response.Body.Close()
	}
}

// Close closes the body, and ends a request that is to resume it. Nothing is sent
// for that: the response runs on at the provider.
func (b *resumedBody) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	src := b.src
	b.mu.Unlock()
	b.end(nil) // before a Read beside it comes back with an error
	return src.Close()
}

// summary returns what all answers so far have said.
func (b *resumedBody) summary() summary {
	s := b.answer.summary(b.operation.call.Start)
	s.model, s.first = cmp.Or(s.model, b.before.model), cmp.Or(b.before.first, s.first)
	if s.usage == (usage{}) {
		s.usage = b.before.usage
	}
	return s
}

// end ends the operation, once.
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
