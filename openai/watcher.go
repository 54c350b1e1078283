package openai

import (
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
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
	limit, sent := w.limit(req)
	response, err := w.base.RoundTrip(sent)
	silence := limit.end()
	if err != nil {
		limit.stop()
		if silence != nil {
			err = silence
		}
		return response, err // an answer from before may still be what is delivered
	}
	response.Request = req
	c.Answer = w.watch(c, req, response, limit)
	return response, nil
}

// CloseIdleConnections closes those of the base, if it has any.
func (w *watcher) CloseIdleConnections() { roundtrip.CloseIdleConnections(w.base) }

// watch returns what is known of a response, nil if that is no more than its
// status. It may put another body in its place.
func (w *watcher) watch(c *call.Call, req *http.Request, response *http.Response, limit *limiter) any {
	code := response.StatusCode
	if code >= http.StatusBadRequest {
		limit.stop()
		return &errorAnswer{response: response, attempt: attemptOf(req)}
	}
	f := formatOf(req, response)
	if !hasAnswer(req, response, f) {
		limit.stop()
		return nil
	}
	a := &answer{
		src: response.Body, request: req, watcher: w, limit: limit,
		format: f, left: response.ContentLength, single: c.Choices <= 1,
	}
	a.sniff.label = labelOf(response.Header)
	switch {
	case f == nil, roundtrip.IsCompressed(response.Header), !f.judged && a.sniff.label != eventBody:
		limit.stop()
		a.limit = nil
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
		return nil
	}
	return endpointOf(req).format
}

// hasAnswer reports whether the response has a body that says something, or
// should have.
func hasAnswer(req *http.Request, response *http.Response, f *format) bool {
	return response.StatusCode >= 200 && response.StatusCode < 300 && req.Method != http.MethodHead &&
		(response.Body != http.NoBody || f.isJudged())
}

// limit returns what ends the attempt if its first useful byte does not come
// in time, and the request that tells it when the waiting begins; nil and req
// if nothing does.
func (w *watcher) limit(req *http.Request) (*limiter, *http.Request) {
	limit := w.firstEvent
	if limit == 0 {
		if _, bounded := req.Context().Deadline(); !bounded {
			limit = DefaultFirstEventTimeout
		}
	}
	if limit <= 0 {
		return nil, req
	}
	l := newLimiter(attemptOf(req))
	l.enter(firstEvent, limit)
	return l, l.traced(req)
}

// traced returns a request that begins the waiting when it has been written. A
// base that tells nothing of that is waited for from the start, unless it has
// a body to upload that is not in memory.
func (l *limiter) traced(req *http.Request) *http.Request {
	var over atomic.Bool
	if req.Body == nil || req.GetBody != nil {
		l.begin()
	}
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { l.waiting.Store(0) },
		WroteRequest: func(httptrace.WroteRequestInfo) {
			if !over.Load() {
				l.begin()
			}
		},
		GotFirstResponseByte: func() { over.Store(true) },
	}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
}

// attemptOf returns the attempt that a request is sent for: its end is the
// body's.
func attemptOf(req *http.Request) *call.Attempt { return call.AttemptFrom(req.Context()) }
