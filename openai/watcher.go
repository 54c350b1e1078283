package openai

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A watcher is the layer below the breaker. It puts an answer in the place of
// the body of each 2xx, and an errorAnswer beside each error status, for the
// layers above that have to know what came of the attempt.
type watcher struct {
	base           http.RoundTripper
	firstEvent     time.Duration // 0: none for a call with a deadline, else the default; negative: none
	idle           time.Duration // negative for none
	idleEverywhere bool          // also where no format judges the answer
	inBand         InBandErrors
	metrics        *operationRecorder
}

func newWatcher(base http.RoundTripper, cfg *Config, metrics *operationRecorder) *watcher {
	w := &watcher{
		base: base, firstEvent: cfg.FirstEventTimeout,
		idle: cfg.IdleTimeout, idleEverywhere: cfg.IdleTimeout > 0,
		inBand: cfg.InBandErrors, metrics: metrics,
	}
	if w.idle == 0 {
		w.idle = DefaultIdleTimeout
	}
	return w
}

// RoundTrip returns what the base returns.
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	c := call.From(req.Context())
	a := unused(c)
	a.request, a.watcher, a.ticket = req, w, ticketOf(c)
	a.limit = w.limit(a, c)
	goesOn := false
	defer func() {
		if !goesOn { // also if the base panics
			a.limit.stop()
			forget(c, a.limit)
		}
	}()
	response, err := w.base.RoundTrip(req)
	silence := a.limit.answered()
	if err != nil {
		if silence != nil {
			err = silence
		}
		return response, err // an answer from before may still be what is delivered
	}
	seen := w.watch(a, c, response)
	if goesOn = response.Body == a; !goesOn && silence != nil {
		// The attempt ended while the headers came, and no answer says so.
		return roundtrip.Mend(req, response, silence)
	}
	c.Answer = seen
	return response, nil
}

// unused returns an answer for an attempt at c. Most calls need one only, which
// they come with.
func unused(c *call.Call) *answer {
	if a, ok := c.Answer.(*answer); ok && a.request == nil {
		return a
	}
	return new(answer)
}

// CloseIdleConnections closes those of the base, if it has any.
func (w *watcher) CloseIdleConnections() { roundtrip.CloseIdleConnections(w.base) }

// watch returns what is known of a response, nil if that is no more than its
// status. It may put a in the place of its body.
func (w *watcher) watch(a *answer, c *call.Call, response *http.Response) any {
	if response.StatusCode >= http.StatusBadRequest {
		return &errorAnswer{response: response, attempt: attemptOf(a.request), curious: c.Router != nil}
	}
	f := formatOf(a.request, response)
	if !hasAnswer(a.request, response, f) {
		return nil
	}
	a.src, a.format, a.left, a.single = response.Body, f, response.ContentLength, c.Choices <= 1
	a.sniff.label = labelOf(response.Header)
	switch {
	case f == nil, roundtrip.IsCompressed(response.Header), !f.judged && a.sniff.label != eventBody:
		a.limit.enter(noPhase, 0)
		a.decide(opaque)
	case !f.judged:
		a.decide(eventBody)
	}
	response.Body = a
	return a
}

// formatOf returns the format that the answer to a request has, nil if it is
// plain HTTP: only answers to POSTs are judged, and of those only such that
// say that they are the answer.
func formatOf(req *http.Request, response *http.Response) *format {
	switch response.StatusCode {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent:
	default:
		return nil
	}
	if req.Method != http.MethodPost {
		return resumedFormat(call.From(req.Context()))
	}
	return endpointOf(req).format
}

// hasAnswer reports whether the response has a body that says something, or
// should have.
func hasAnswer(req *http.Request, response *http.Response, f *format) bool {
	return response.StatusCode >= 200 && response.StatusCode < 300 && req.Method != http.MethodHead &&
		(response.Body != http.NoBody || f.isJudged())
}

// limit begins to wait for the first useful byte of an attempt's answer. It
// returns nil if that may take as long as it likes.
func (w *watcher) limit(a *answer, c *call.Call) *limiter {
	o, ok := c.Listener.(*operation)
	if !ok {
		return nil
	}
	p, limit := o.awaits(w.idle)
	if limit <= 0 {
		return nil
	}
	l := newLimiter(attemptOf(a.request))
	l.enter(p, limit)
	if a.request.Body == nil || a.request.GetBody != nil {
		// A base that tells nothing of its connection has the whole request now,
		// unless it has an upload to read.
		l.begin()
	}
	o.waiting.Store(l)
	return l
}

// forget lets go of an attempt whose answer is not waited for any more.
func forget(c *call.Call, l *limiter) {
	if o, ok := c.Listener.(*operation); ok {
		o.waiting.CompareAndSwap(l, nil)
	}
}

// attemptOf returns the attempt that a request is sent for: its end is the
// body's.
func attemptOf(req *http.Request) *call.Attempt { return call.AttemptFrom(req.Context()) }
