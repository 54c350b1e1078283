package openai

import (
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A watcher is the layer below the breaker. It puts an answer in the place of the body
// of each 2xx, and leaves an errorAnswer in the call for each error status. The layers
// above learn from them what came of the attempt. It lies at the bottom, so that all of
// them see the same bytes and the same verdict.
//
// It is safe for concurrent use: nothing in it changes after newWatcher.
type watcher struct {
	base           http.RoundTripper
	firstEvent     time.Duration // as Config.FirstEventTimeout has it
	idle           time.Duration // negative for none
	idleEverywhere bool          // the Config sets idle: the default holds only where a format judges the answer
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

// RoundTrip returns what the base returns, with an answer as the body where there is one
// to watch. From then on the answer owns the limiter; in every other case RoundTrip stops
// it, also if the base panics.
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	c := call.From(req.Context())
	a := unused(c)
	a.request, a.watcher, a.ticket = req, w, ticketOf(c)
	a.limit = w.limit(a, c)
	watched := false
	defer func() {
		if !watched {
			a.limit.stop()
			forget(c, a.limit)
		}
	}()
	response, err := w.base.RoundTrip(watchUpload(req, a.limit))
	silence := a.limit.answered()
	if err != nil {
		if silence != nil {
			err = silence
		}
		return response, err // c.Answer stays: the response of an earlier attempt may still be delivered
	}
	seen := w.watch(a, c, response)
	if watched = response.Body == a; !watched && silence != nil {
		// The limit canceled the attempt while the headers came. Without an answer,
		// no Read could say why.
		return roundtrip.Mend(req, response, silence)
	}
	c.Answer = seen
	return response, nil
}

// unused returns an answer for an attempt at c. A call comes with one, allocated together
// with it, because most calls need no second one.
func unused(c *call.Call) *answer {
	if a, ok := c.Answer.(*answer); ok && a.request == nil {
		return a
	}
	return new(answer)
}

// CloseIdleConnections forwards to the base, as http.Client expects of a RoundTripper.
func (w *watcher) CloseIdleConnections() { roundtrip.CloseIdleConnections(w.base) }

// watch returns what is known of a response, or nil if that is no more than its status.
// It may put a in the place of the body. An answer that can't be judged (plain HTTP, or
// compressed) becomes opaque: the first-event limit ends, and its bytes are not read. An
// empty body has no bytes that an encoding could hide, and is judged whatever it claims.
func (w *watcher) watch(a *answer, c *call.Call, response *http.Response) any {
	if response.StatusCode >= http.StatusBadRequest {
		return &errorAnswer{response: response, attempt: attemptOf(a.request), routed: c.Router != nil}
	}
	f := formatOf(a.request, response)
	if !hasAnswer(a.request, response, f) {
		return nil
	}
	a.src, a.format, a.left, a.single = response.Body, f, response.ContentLength, c.Choices <= 1
	a.sniff.label = labelOf(response.Header)
	switch {
	case f == nil, roundtrip.IsCompressed(response.Header) && response.Body != http.NoBody, !f.judged && a.sniff.label != eventBody:
		a.limit.enter(noPhase, 0)
		a.decide(opaque)
	case !f.judged:
		a.decide(eventBody)
	}
	response.Body = a
	return a
}

// formatOf returns the format that the answer to a request has, or nil if it is plain
// HTTP. Only answers to POSTs are judged: a GET of a stored response that failed is a
// healthy answer. Of the statuses only those are judged that promise an answer; a 202, 205
// or 206 does not. A GET of our own that resumes a stream has the stream's format.
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

// hasAnswer reports whether the response has a body to watch. Where a format judges it,
// an empty one counts, too: it is no answer, and must be found out.
func hasAnswer(req *http.Request, response *http.Response, f *format) bool {
	return response.StatusCode >= 200 && response.StatusCode < 300 && req.Method != http.MethodHead &&
		(response.Body != http.NoBody || f.isJudged())
}

// limit begins the limit for the first useful byte of an attempt's answer. It returns nil
// if none is set. The limiter is published for the trace of net/http, which says when the
// request has been written.
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
	if !isStreamed(a.request) {
		// A base that reports nothing to a trace has the whole request now. net/http
		// takes this back in GetConn. For an upload see watchUpload.
		l.begin()
	}
	o.waiting.Store(l)
	return l
}

// forget withdraws the limiter of an attempt that is over from the trace. A later attempt
// may have put its own there, which stays.
func forget(c *call.Call, l *limiter) {
	if o, ok := c.Listener.(*operation); ok {
		o.waiting.CompareAndSwap(l, nil)
	}
}

// attemptOf returns the attempt that a request is sent for. Cancelling it ends the body,
// too.
func attemptOf(req *http.Request) *call.Attempt { return call.AttemptFrom(req.Context()) }
