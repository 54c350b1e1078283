package openai

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/prefetch"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/retry"
)

// watcher is the layer below the breaker. It wraps the body of each 2xx in an
// answer, which knows what passes.
type watcher struct {
	base             http.RoundTripper
	idle, firstEvent time.Duration
	metrics          *operationRecorder
}

// RoundTrip returns what the base returns.
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	c := call.From(req.Context())
	response, err := w.base.RoundTrip(req)
	if err != nil {
		return response, err // an answer from before may still be what is delivered
	}
	a, ok := c.Answer.(*answer)
	c.Answer = nil
	kind := kindOf(response, c.Endpoint)
	if !hasAnswer(req, response, kind) {
		return response, nil
	}
	if !ok || a.src != nil {
		a = new(answer) // that of the operation is of another attempt
	}
	a.src, a.request, a.watcher = response.Body, req, w
	a.kind, a.left = kind, response.ContentLength
	a.json.factless = !c.Measured
	if a.kind == streamAnswer {
		a.stream = &stream{shape: shapeOf(c.Endpoint)}
		if w.firstEvent > 0 {
			a.clock = newClock(call.AttemptFrom(req.Context()))
			a.clock.awaitFirst(w.firstEvent)
		}
	}
	c.Answer = a
	response.Body = a
	return response, nil
}

// CloseIdleConnections closes those of the base, if it has any.
func (w *watcher) CloseIdleConnections() {
	roundtrip.CloseIdleConnections(w.base)
}

// hasAnswer reports whether the response has a body that says something, or
// should have.
func hasAnswer(req *http.Request, response *http.Response, kind answerKind) bool {
	return response.StatusCode >= 200 && response.StatusCode < 300 && response.StatusCode != http.StatusNoContent &&
		req.Method != http.MethodHead && (response.Body != http.NoBody || kind != opaqueAnswer && req.Method == http.MethodPost)
}

// An answerKind is how much of a body can be understood.
type answerKind int

const (
	opaqueAnswer answerKind = iota // compressed, audio, anything else
	jsonAnswer                     // one JSON value of a known endpoint
	streamAnswer                   // server-sent events
)

func kindOf(response *http.Response, endpoint string) answerKind {
	if roundtrip.IsCompressed(response.Header) {
		return opaqueAnswer
	}
	switch roundtrip.MediaType(response.Header) {
	case "text/event-stream":
		return streamAnswer
	case "application/json":
		switch endpoint {
		case "chat", "completions", "embeddings", "moderations", "responses":
			return jsonAnswer
		}
	}
	return opaqueAnswer
}

// An answer is the body of a 2xx. It passes the bytes on as they come and
// follows what they say; it ends a body that falls silent, and a stream that
// is cut off. It is the breaker's Observer of its own bytes.
type answer struct {
	src     io.ReadCloser
	request *http.Request // of the attempt
	watcher *watcher
	kind    answerKind
	left    int64         // bytes to come, if above 0; else unknown
	held    prefetch.Body // what the delivery makes of it, in the same allocation

	mu     sync.Mutex // Close may run beside Read, and asks the breaker's questions
	clock  *clock     // nil while no limit is on; written by the reader only
	stream *stream    // of a streamAnswer
	json   jsonCheck  // of a jsonAnswer
	any    bool       // a byte was read

	useful atomic.Bool                 // the first useful event was seen
	over   atomic.Bool                 // nothing more is to be learned
	failed atomic.Pointer[answerError] // what is wrong with it, if anything is
	early  atomic.Bool                 // it failed before anything useful

	closed  atomic.Bool // by its reader, or it is about to be
	counted atomic.Bool // as a stream that is over
}

// Read returns the next bytes of the body.
func (a *answer) Read(p []byte) (int, error) {
	a.clock.begin()
	n, err := a.src.Read(p)
	n = min(max(n, 0), len(p)) // a base that counts wrongly must not harm more than itself
	stalled := a.clock.end()
	n, err = a.took(p[:n], err, stalled)
	if err != nil {
		a.ended()
	}
	return n, err
}

// took follows what a Read brought.
func (a *answer) took(p []byte, err, stalled error) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(p) > 0 {
		a.any = true
		a.follow(p)
		last := int64(len(p)) == a.left || err != nil
		a.left -= int64(len(p))
		if !last && (a.kind != streamAnswer || a.useful.Load()) {
			a.alive()
		}
	}
	if err != nil {
		err = a.finish(err, stalled)
	}
	return len(p), err
}

// alive says that the body lives: from now on IdleTimeout is the limit.
func (a *answer) alive() {
	if a.clock == nil && a.watcher.idle > 0 && !a.closed.Load() {
		a.clock = newClock(call.AttemptFrom(a.request.Context()))
	}
	a.clock.alive(a.watcher.idle)
}

// Close closes the body.
func (a *answer) Close() error {
	a.closed.Store(true) // before the Read beside it comes back with an error
	a.mu.Lock()
	a.clock.stop()
	a.mu.Unlock()
	err := a.src.Close()
	a.ended()
	return err
}

// ended counts a stream, once.
func (a *answer) ended() {
	if a.kind == streamAnswer && !a.counted.Swap(true) {
		a.watcher.metrics.streamOver(a.request, a.outcome())
	}
}

// outcome returns how a stream ended.
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

// follow looks at the bytes that pass.
func (a *answer) follow(p []byte) {
	switch a.kind {
	case jsonAnswer:
		a.json.feed(p)
	case streamAnswer:
		a.stream.feed(p)
		for m, ok := a.stream.next(); ok; m, ok = a.stream.next() {
			a.event(m)
		}
	}
}

// event notes what one event of a stream means.
func (a *answer) event(m meaning) {
	switch m {
	case failed:
		api := parseAPIError(a.stream.data())
		a.fail(&answerError{reason: retry.ReasonStreamError, errorType: fault.StreamError, outcome: "error_event", text: "the stream brought an error", api: api})
		if a.stream.shape == responsesShape {
			// The provider has said its last word: nothing is cut off.
			a.stream.done = true
		}
	case corrupt:
		a.fail(&answerError{reason: retry.ReasonStreamError, errorType: fault.StreamError, outcome: "error_event", text: "the stream brought an event that is no JSON"})
	case content, terminal:
		if !a.useful.Load() {
			a.stream.first = time.Now()
			a.useful.Store(true)
		}
	}
	if a.stream.done {
		// That every choice so far is finished is not enough: they may come one
		// after the other.
		a.over.Store(true)
	}
}

// fail notes what is wrong with the answer; the first failure counts, and none
// after the end of a complete stream: that is the caller's to see, no more.
func (a *answer) fail(err *answerError) {
	if a.failed.Load() != nil || a.kind == streamAnswer && a.stream.complete() {
		return
	}
	a.early.Store(!a.useful.Load())
	a.failed.Store(err)
	a.over.Store(true)
}

// finish notes how the body ended, and returns what the reader is to be told.
func (a *answer) finish(err, stalled error) error {
	a.clock.stop()
	defer a.over.Store(true)
	switch {
	case stalled != nil:
		a.fail(&answerError{reason: retry.ReasonTimeout, errorType: fault.Timeout, outcome: "stalled", text: "the answer stalled", cause: stalled})
		return stalled
	case err != io.EOF && !errors.Is(err, io.EOF): //nolint:errorlint // the comparison spares most the search
		if !a.givenUp() {
			a.fail(&answerError{reason: retry.ReasonBrokenBody, errorType: lossType(err), outcome: "reset", text: "the connection was lost in the answer", cause: err})
		}
	case a.kind == jsonAnswer && !a.json.whole():
		a.fail(&answerError{reason: retry.ReasonBrokenBody, errorType: fault.Truncated, text: "the answer is no whole JSON value"})
	case a.kind == jsonAnswer && a.json.failed:
		a.fail(&answerError{reason: retry.ReasonServerError, errorType: fault.StreamError, text: "the answer is an error"})
	case a.kind == streamAnswer:
		return a.finishStream()
	}
	return err
}

// givenUp reports whether the body broke off because nobody wanted more of it.
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

// finishStream notes the end of a stream that its connection did not cut.
func (a *answer) finishStream() error {
	if a.stream.scanner.Pending() {
		// The last event counts without its blank line.
		a.follow([]byte("\n\n"))
	}
	switch {
	case a.stream.cut(), !a.useful.Load() && a.stream.shape != unknownShape && !a.stream.complete():
		a.fail(&answerError{reason: retry.ReasonBrokenBody, errorType: fault.Truncated, outcome: "truncated", text: "the stream was cut off", cause: ErrTruncated})
		return ErrTruncated
	case !a.useful.Load():
		a.fail(&answerError{reason: retry.ReasonBrokenBody, errorType: fault.Truncated, outcome: "truncated", text: "the stream ended before its first event"})
	default:
		// A stream of unknown shape is complete when it ends.
		a.stream.done = true
	}
	return io.EOF
}

// Data tells the breaker what is known after the bytes that it has just seen.
func (a *answer) Data([]byte) breaker.Outcome {
	switch {
	case a.failed.Load() != nil:
		return breaker.Failure
	case a.kind == streamAnswer && a.useful.Load():
		return breaker.Success
	}
	return breaker.Undecided
}

// End tells the breaker what came of the answer.
func (a *answer) End(err error) breaker.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		// A body of known length is at its end before its reader has seen io.EOF.
		_ = a.finish(io.EOF, nil)
	}
	isStream := a.kind == streamAnswer
	switch {
	case a.failed.Load() != nil:
		return breaker.Failure
	case err == nil, isStream && a.stream.complete():
		return breaker.Success
	case err != breaker.ErrBodyClosed: //nolint:errorlint // it is never wrapped
		return breaker.Failure
	case !isStream && a.any:
		return breaker.Success
	}
	return breaker.Undecided
}

// told is what an answer said that is worth recording.
type told struct {
	facts

	first   time.Duration // from start to the first useful event; 0 if there was none
	failure string        // error.type of what is wrong with it; "" if nothing is
}

func (a *answer) told(start time.Time) told {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := told{facts: a.json.facts}
	if a.kind == streamAnswer {
		t.facts = a.stream.facts
		if a.useful.Load() {
			t.first = a.stream.first.Sub(start)
		}
	}
	if err := a.failed.Load(); err != nil {
		t.failure = err.errorType
	} else if a.json.whole() && a.json.failed {
		t.failure = fault.StreamError // its reader asked for no more
	}
	return t
}
