package openai

import (
	"context"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// A written finds out when the request of the present attempt has been written:
// only from then on can the provider be called silent. One trace, made for the
// first base that asks for one, watches all attempts of the call.
type written struct {
	once    sync.Once
	trace   *httptrace.ClientTrace
	waiting atomic.Pointer[limiter] // of the present attempt
}

// Trace returns the trace by which net/http says how far a request got. It goes on
// to tell the caller's own, which is in ctx.
func (w *written) Trace(ctx context.Context) *httptrace.ClientTrace {
	w.once.Do(func() {
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: w.getConn, WroteRequest: w.wroteRequest})
		w.trace = httptrace.ContextClientTrace(traced)
	})
	return w.trace
}

// getConn says that the base is net/http's, which says later when the request
// is written.
func (w *written) getConn(string) {
	if l := w.waiting.Load(); l != nil {
		l.waiting.Store(0)
	}
}

func (w *written) wroteRequest(httptrace.WroteRequestInfo) {
	if l := w.waiting.Load(); l != nil {
		l.written()
	}
}

// firstEventLimit returns for how long the first useful byte of a call may be
// waited for, 0 for ever. A call whose context ends by itself needs no bound
// that nobody asked for.
func firstEventLimit(ctx context.Context, configured time.Duration) time.Duration {
	if configured != 0 {
		return max(configured, 0)
	}
	if _, bounded := ctx.Deadline(); bounded {
		return 0
	}
	return DefaultFirstEventTimeout
}
