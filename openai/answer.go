package openai

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/internal/throttle"
	"github.com/retrip-go/retrip/retry"
)

// maxKept bounds what an AnswerError shows of its answer. It holds any error message, and
// is little enough to keep for each call.
const maxKept = 64 << 10

// A wanted is what a delivery waits for before it hands the answer over. The answer knows
// it, because only the answer knows when that has come.
type wanted struct {
	stream  bool          // the answer is taken for a stream of events
	whole   bool          // a stream is held to its end, else to its first useful event
	longest time.Duration // bounds the wait for the first useful event
}

// An answer is the body of a 2xx. It passes the bytes on as they come, unchanged, and
// follows what they say. It ends a body that falls silent, and one that is no answer. It
// is also the breaker's Observer of these bytes, so that they are parsed once for all
// layers.
//
// Read is for one goroutine at a time. Close may run beside it, as callers of net/http
// expect. The fields behind mu are guarded by it; the atomics can be read without it,
// which spares the layers above a lock for every chunk.
type answer struct {
	src     io.ReadCloser
	request *http.Request // of the attempt
	watcher *watcher
	ticket  *ticket       // pacing's, which learns of a rate limit inside the 2xx
	format  *format       // nil for plain HTTP, whatever it holds
	left    int64         // bytes to come; negative if the length is unknown
	held    prefetch.Body // used by the delivery; it is here to be part of one allocation
	wanted  wanted        // by the delivery, while it holds the answer
	single  bool          // no more than one choice was asked for

	mu     sync.Mutex // Close may run beside Read, and asks the breaker's questions
	any    bool       // a byte was read
	kind   kind       // what its bytes are, once they have said so
	sniff  sniffer    // of the first bytes
	limit  *limiter   // nil while no limit holds; written by the reader only
	stream *stream    // of an eventBody
	json   jsonAnswer // of a jsonBody
	first  time.Time  // when the first useful event was seen
	kept   []byte     // the beginning, for an AnswerError

	// These are written under mu, and read without it.
	useful atomic.Bool                 // it has brought something that a caller can use
	over   atomic.Bool                 // nothing more is to be learned from its bytes
	early  atomic.Bool                 // it failed before anything useful, so nothing is lost by a retry
	failed atomic.Pointer[AnswerError] // what is wrong with it; shared, so never changed

	closed  atomic.Bool // its reader has begun to close it, which is no fault of the provider
	counted atomic.Bool // the metrics have it as a stream that is over
}

// Read returns the next bytes of the body. A limit that is over goes before the error of
// the source, which would only say that the context was canceled.
func (a *answer) Read(p []byte) (int, error) {
	a.limit.begin()
	n, err := a.src.Read(p)
	n = min(max(n, 0), len(p)) // a base that counts wrongly must not harm more than itself
	silence := a.limit.end()   // before follow, whose time is not the provider's
	err = a.follow(p[:n], err, silence)
	if err != nil {
		if silence != nil {
			_ = a.src.Close() // its attempt is over, even if the caller reads on
		}
		a.ended()
	}
	return n, err
}

// follow looks at what a Read brought, and returns the error that the Read ends in.
// Nothing is waited for after the last byte of a body of known length: a reader that
// knows the length need not read again, and would leave a timer behind.
func (a *answer) follow(p []byte, err, silence error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(p) > 0 {
		a.any = true
		a.learn(p)
		a.left -= int64(len(p))
	}
	switch {
	case err == nil && len(p) > 0 && a.left != 0:
		a.await()
		return nil
	case err == nil:
		return nil
	}
	a.limit.stop()
	return a.finish(err, silence)
}

// await begins the limit for what the body is waiting for now. The limiter is made only
// when a limit holds, and never after Close, whose stop it would miss.
func (a *answer) await() {
	p, limit := a.next()
	if a.limit == nil && limit > 0 && !a.closed.Load() {
		a.limit = newLimiter(attemptOf(a.request))
	}
	a.limit.enter(p, limit)
}

// next returns what the body is waiting for, and for how long at most. Until something
// useful has come, the limit that began with the attempt goes on: pings don't end it,
// since a proxy may send them for a provider that is dead. After the end of an answer the
// tail goes before the idle limit, which would make a failure of a whole answer.
func (a *answer) next() (phase, time.Duration) {
	switch {
	case a.format == nil || a.kind == opaque:
		if a.watcher.idleEverywhere {
			return idle, a.watcher.idle
		}
		return noPhase, 0
	case a.kind == jsonBody && a.json.whole(), a.kind == eventBody && a.stream.done:
		return tail, tailAfterEnd
	case a.kind == eventBody && a.stream.complete():
		return tail, tailAfterFinish
	case a.kind == jsonBody || a.useful.Load():
		return idle, a.watcher.idle
	default:
		return a.limit.present()
	}
}

// Close closes the body and stops its limits. It may run beside a Read, which it does not
// wait for: the Read may be blocked until the source is closed.
func (a *answer) Close() error {
	a.closed.Store(true) // before the Read beside it comes back with an error
	a.mu.Lock()
	a.limit.stop()
	a.mu.Unlock()
	err := a.src.Close()
	a.ended()
	return err
}

// ended counts a stream once, whether its end or its Close comes first: a reader does
// both as a rule, and may do them from two goroutines. A body that has brought nothing is
// a stream if its label says so.
func (a *answer) ended() {
	a.mu.Lock()
	if a.kind == undecided {
		a.decideAtEnd()
	}
	isStream := a.kind == eventBody
	a.mu.Unlock()
	if isStream && !a.counted.Swap(true) {
		a.watcher.metrics.streamOver(a.request, a.outcome())
	}
}

// wasMislabeled reports whether the answer is not of the kind that it was taken for. It
// is taken for what it is from then on, so the delivery can hold it by the right rules.
func (a *answer) wasMislabeled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.wanted.stream
	a.wanted.stream = a.kind == eventBody
	return a.wanted.stream != taken
}

// outcome returns how a stream ended, as a value of retrip.stream.outcome. A stream that
// neither failed nor was complete can only have been closed.
func (a *answer) outcome() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch err := a.failed.Load(); {
	case err != nil:
		return err.outcome
	case a.stream.complete():
		return "complete"
	}
	return "closed_by_caller"
}

// learn looks at the bytes that pass. The first ones are held back from the reader of a
// format until they have said what the body is, and are then read before the rest. The
// caller gets all of them at once: what is held back here is a copy of a few bytes.
func (a *answer) learn(p []byte) {
	if a.kind == undecided && a.format.isJudged() {
		kind, used := a.sniff.add(p)
		if kind == undecided {
			a.keep(p)
			return
		}
		a.decide(kind)
		a.read(a.sniff.bytes())
		a.read(p[used:])
	} else {
		a.read(p)
	}
	a.keep(p)
}

// decide begins to read a body of a kind. Of an opaque body nothing more is to be learned,
// so that the layers above stop asking. A page has no reader either: it is judged at its
// end, when all of it can be shown.
func (a *answer) decide(k kind) {
	a.kind = k
	switch k {
	case eventBody:
		a.stream = &stream{single: a.single}
		if a.format != nil && a.format.events != nil {
			a.stream.reader = a.format.events()
		}
	case opaque:
		a.over.Store(true)
	}
}

// read hands the bytes to the reader of this kind of body. Other kinds have none.
func (a *answer) read(p []byte) {
	switch a.kind {
	case jsonBody:
		a.readJSON(p)
	case eventBody:
		a.stream.scanner.Feed(p)
		for m, ok := a.stream.next(); ok; m, ok = a.stream.next() {
			a.event(m)
		}
	}
}

// readJSON follows a JSON value. What comes behind it, such as a line end, [DONE] or
// another value, is passed on without a look: the value is the answer.
func (a *answer) readJSON(p []byte) {
	if a.json.whole() {
		return
	}
	a.json.feed(p)
	if a.json.over() {
		a.endJSON()
	}
}

// endJSON judges a JSON value that has ended, or can't be one. A whole value that is an
// error is worth what its codes are worth, whatever the 2xx says.
func (a *answer) endJSON() {
	if !a.json.whole() {
		a.fail(&AnswerError{text: "the answer is no whole JSON value", errorType: fault.Truncated, verdict: brokenVerdict(retry.ReasonBrokenBody)})
		return
	}
	if e, ok := a.json.failed(); ok {
		a.fail(&AnswerError{text: "the answer is an error", Code: e.code, Type: e.kind, errorType: fault.StreamError, verdict: inBandVerdict(e, retry.ReasonServerError)})
		return
	}
	a.useful.Store(true)
	a.over.Store(true)
}

// event notes what one event of a stream means. The first useful event is what the time
// to the first event is measured by. A terminal event counts as useful: an answer may
// consist of nothing else, such as one that was stopped by a filter.
func (a *answer) event(m meaning) {
	switch m {
	case failed:
		e := a.stream.error
		a.fail(&AnswerError{
			text: "the stream brought an error", Code: e.code, Type: e.kind,
			errorType: fault.StreamError, outcome: "error_event", verdict: inBandVerdict(e, retry.ReasonStreamError),
		})
		if a.format.reportsFailure {
			a.stream.done = true // the provider has said its last word: nothing is cut off
		}
	case corrupt:
		a.fail(&AnswerError{
			text:      "the stream brought an event that is no JSON",
			errorType: fault.StreamError, outcome: "error_event", verdict: brokenVerdict(retry.ReasonStreamError),
		})
	case content, terminal:
		if !a.useful.Load() {
			a.first = time.Now()
			a.useful.Store(true)
		}
	}
	if a.stream.done {
		// That every choice so far is finished is not enough: they may come one
		// after the other.
		a.over.Store(true)
	}
}

// keep keeps the beginning of what may turn out to be no answer, and drops it once the
// answer is useful: then there is no more need to show it.
func (a *answer) keep(p []byte) {
	switch {
	case a.useful.Load():
		a.kept = nil
	case a.format.isJudged() && a.kind != opaque:
		a.kept = append(a.kept, p[:min(len(p), maxKept-len(a.kept))]...)
	}
}

// fail notes what is wrong with the answer. None counts after a stream was complete: its
// caller has all of the answer, and a retry would bring another one.
func (a *answer) fail(err *AnswerError) {
	if a.kind != eventBody || !a.stream.complete() {
		a.note(err)
	}
}

// note notes a failure. The first one counts, because the later ones follow from it. A
// rate limit goes to pacing at once, which must not wait for the body's end: other calls
// of the account are about to be sent.
func (a *answer) note(err *AnswerError) {
	if a.failed.Load() != nil {
		return
	}
	a.early.Store(!a.useful.Load())
	a.failed.Store(err)
	a.over.Store(true)
	if err.verdict.limited {
		a.ticket.refused(throttle.Refusal{Tokens: err.verdict.tokens})
	}
}

// finish notes how the body ended, and returns the error that the reader gets. Silence
// after the end of an answer is an ordinary end.
func (a *answer) finish(err, silence error) error {
	defer a.over.Store(true)
	switch {
	case silence == io.EOF: //nolint:errorlint // the limiter's own
		err = io.EOF
	case silence != nil:
		a.stall(silence)
		return silence
	case err != io.EOF && !errors.Is(err, io.EOF): //nolint:errorlint // the comparison spares most the search
		a.lose(err)
		return err
	}
	a.finishWhole()
	return a.ending(err)
}

// stall notes that one of our limits ended the body. The provider is to blame for that,
// but not every stall is worth a retry. One that has begun to answer and falls silent is
// no longer at work on the answer as far as is known.
func (a *answer) stall(silence error) {
	v := brokenVerdict(retry.ReasonTimeout)
	if silence != ErrStalled { //nolint:errorlint // the limiter's own
		// Its first event has not come in time. Another attempt at the same place
		// would multiply the wait, and may be billed twice.
		v.reason = retry.NotRetryable
	}
	a.fail(&AnswerError{text: "the answer stalled", errorType: fault.Timeout, outcome: "stalled", verdict: v, cause: silence})
}

// lose notes that the connection broke off. If the caller gave up, that is no fault of
// the provider. It counts after a finish_reason, too, while Whole holds the stream: the
// reader would get the error behind an answer that another attempt brings without one.
func (a *answer) lose(err error) {
	if a.givenUp() {
		return
	}
	lost := &AnswerError{text: "the connection was lost in the answer", errorType: lossType(err), outcome: "reset", verdict: brokenVerdict(retry.ReasonBrokenBody), cause: err}
	switch {
	case a.kind == jsonBody && a.json.whole(): // what is lost comes after the answer
	case a.kind == eventBody && a.wanted.whole && !a.stream.done:
		a.note(lost)
	default:
		a.fail(lost)
	}
}

// givenUp reports whether the body broke off because its caller gave it up. The base
// returns the same kinds of errors for that as for a lost connection.
func (a *answer) givenUp() bool {
	select {
	case <-a.request.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
		return true
	default:
		return a.closed.Load() || a.request.Context().Err() != nil
	}
}

// lossType returns the error.type of a body that broke off. HTTP/2 has errors
// of its own for that.
func lossType(err error) string {
	if known := fault.Type(err); known != fault.Other {
		return known
	}
	return fault.ConnectionError
}

// finishWhole judges a body that ended without an error. An empty answer shows only at
// its end; a page is read to its end first, so that it can be shown. Proxies turn a dead
// upstream into either of them, with a status of 200.
func (a *answer) finishWhole() {
	if a.kind == undecided {
		a.decideAtEnd()
	}
	switch {
	case a.kind == eventBody:
		a.finishStream()
	case !a.format.isJudged():
	case !a.any:
		a.fail(&AnswerError{text: "the answer is empty", errorType: fault.Truncated, verdict: brokenVerdict(retry.ReasonBrokenBody)})
	case a.kind == htmlBody:
		a.fail(&AnswerError{text: "the answer is a page of HTML", errorType: fault.StreamError, verdict: brokenVerdict(retry.ReasonBrokenBody)})
	case a.kind == jsonBody && !a.json.over():
		a.json.end()
		a.endJSON()
	}
}

// decideAtEnd decides by the label, because the bytes were too few to decide.
func (a *answer) decideAtEnd() {
	begin := a.sniff.bytes()
	a.decide(a.sniff.end())
	a.read(begin)
}

// finishStream judges a stream that has ended. A stream that a format judges must have
// had its terminal event, or content of an unknown shape. Other streams may be empty. The
// connection's end alone says nothing: a proxy whose upstream dies may end the body in
// good order.
func (a *answer) finishStream() {
	s := a.stream
	if s.scanner.Pending() {
		a.read([]byte("\n\n")) // the last event counts without its blank line
	}
	if a.format.isJudged() && (s.cut() || !a.useful.Load() && !s.complete()) {
		a.fail(&AnswerError{text: "the stream was cut off", errorType: fault.Truncated, outcome: "truncated", verdict: brokenVerdict(retry.ReasonBrokenBody), cause: ErrTruncated})
		return
	}
	s.done = true // a stream of unknown shape is complete when it ends
}

// ending returns the error that a reader gets at the end of the body. A body that is
// known to be no answer must not pass for one. The failure is copied before it gets the
// body, because the breaker may be reading the shared one. A stream that was cut ends in
// ErrTruncated itself, which callers compare with.
func (a *answer) ending(eof error) error {
	err := a.failed.Load()
	switch {
	case err == nil, a.watcher.inBand == PassThrough, !a.format.isJudged(), a.saysItself():
		return eof
	case err.cause == ErrTruncated: //nolint:errorlint // never wrapped
		return ErrTruncated
	}
	shown := *err
	shown.body = a.kept
	if a.kind == eventBody {
		shown.cause = ErrTruncated
	}
	return &shown
}

// saysItself reports whether a failed answer is whole all the same, so that its client
// reads in it that it failed. An error in its place would hide the provider's own words.
func (a *answer) saysItself() bool {
	switch a.kind {
	case eventBody:
		return a.stream.done
	case jsonBody:
		return a.format.reportsFailure && a.json.whole()
	}
	return false
}

// Data says to the breaker what is known after the bytes that it has just seen. It need
// not look at them, because they have passed through Read before. It takes no lock: the
// breaker asks after each Read, until it knows the outcome.
func (a *answer) Data([]byte) breaker.Outcome {
	switch err := a.failed.Load(); {
	case err != nil:
		return err.verdict.outcome
	case a.useful.Load():
		return breaker.Success
	}
	return breaker.Undecided
}

// End says to the breaker what came of the answer. A caller who closes early what has
// begun well is no failure of the provider; a stream is no success either before it
// has brought something.
func (a *answer) End(err error) breaker.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && !a.over.Load() {
		// A body of known length is at its end before its reader has seen io.EOF.
		a.finishWhole()
		a.over.Store(true)
	}
	failure := a.failed.Load()
	switch {
	case failure != nil:
		return failure.verdict.outcome
	case err == nil, a.complete():
		return breaker.Success
	case err != breaker.ErrBodyClosed: //nolint:errorlint // it is never wrapped
		return breaker.Failure
	case a.kind != eventBody && a.any:
		return breaker.Success
	}
	return breaker.Undecided
}

// Enough reports whether the delivery need not read on. Either the answer is settled, or
// it is not of the kind that it was taken for, and other rules hold for it. Its argument
// is not used, since the bytes have passed through Read before.
func (a *answer) Enough([]byte) bool {
	if a.over.Load() || !a.wanted.whole && a.useful.Load() {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kind != undecided && (a.kind == eventBody) != a.wanted.stream
}

// kindKnown reports whether the first bytes have said what the body is. Until then its
// label counts.
func (a *answer) kindKnown() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kind != undecided
}

// isOpaque reports whether nothing can be said of the body, so that it is plain HTTP to
// all layers. It may become so only with its first bytes.
func (a *answer) isOpaque() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kind == opaque
}

// complete reports whether the reader has all of the answer. The caller holds mu.
func (a *answer) complete() bool {
	return a.kind == jsonBody && a.json.whole() || a.kind == eventBody && a.stream.complete()
}

// A summary is what the metrics record of an answer. It is a copy, since the answer may
// still be read: a call may be over for its caller before its body is closed.
type summary struct {
	facts

	first   time.Duration // from start to the first useful event; 0 if there was none
	failure string        // error.type of what is wrong with it; "" if nothing is
}

// summary returns what is known of the answer now. A JSON answer has no first event.
func (a *answer) summary(start time.Time) summary {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := summary{facts: a.json.facts}
	if a.kind == eventBody {
		s.facts = a.stream.facts
		if a.useful.Load() {
			s.first = a.first.Sub(start)
		}
	}
	if err := a.failed.Load(); err != nil {
		s.failure = err.errorType
	}
	return s
}
