package openai

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// A written finds out when the request of the present attempt has been written:
// only from then on can the provider be called silent. It watches the whole
// call by one trace, so that no attempt needs a context of its own for it.
type written struct {
	trace   httptrace.ClientTrace
	waiting atomic.Pointer[limiter] // of the present attempt
}

// watch returns a context in which net/http says how far a request got.
func (w *written) watch(ctx context.Context) context.Context {
	w.trace.GetConn = w.getConn
	w.trace.WroteRequest = w.wroteRequest
	return httptrace.WithClientTrace(ctx, &w.trace)
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
