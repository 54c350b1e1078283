package call

import (
	"context"
	"net/http/httptrace"
)

// traceKey is what package httptrace looks a trace up by. It is not exported, but
// shown to every context that is asked.
var traceKey = func() any {
	var w witness
	httptrace.ContextClientTrace(&w)
	return w.key
}()

// A witness is a context that notes what it is asked for.
type witness struct {
	context.Context //nolint:containedctx // nil: only Value is called

	key any
}

func (w *witness) Value(key any) any {
	w.key = key
	return nil
}
