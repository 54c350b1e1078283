package breaker

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// callersVerdict judges what ended an attempt on the caller's side: the end of
// its context, where a time limit of ours is a failure and all else the
// caller's own doing, or a request body that could not be sent. It returns
// Undecided if it was neither.
func callersVerdict(req *http.Request) Outcome {
	ctx := req.Context()
	if ctx.Err() != nil {
		return limitVerdict(context.Cause(ctx))
	}
	select {
	case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
		return Ignored
	default:
	}
	if roundtrip.BodyFailed(req.Body) {
		return Ignored
	}
	return Undecided
}

// limitVerdict judges the end of a context by its cause. A limit that is over
// before the request has left the connection pool says nothing of the server.
func limitVerdict(cause error) Outcome {
	var limit *fault.TimeLimitError
	if errors.As(cause, &limit) && !limit.Queued {
		return Failure
	}
	return Ignored
}

// timeLimit returns the time limit of ours that a request ran into, 0 if it did
// not. It is found in the cause of the context's end or in err, which may be nil.
func timeLimit(req *http.Request, err error) time.Duration {
	ctx := req.Context()
	var limit *fault.TimeLimitError
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &limit) || errors.As(err, &limit) {
		return limit.After
	}
	return 0
}

// isNotSendable reports whether an attempt failed with err because its request
// can't be sent to any server, or not by the way that the caller has chosen.
func isNotSendable(req *http.Request, err error) bool {
	var tooLarge *http.MaxBytesError
	var proxy *fault.ProxyAuthError
	return errors.As(err, &tooLarge) || errors.As(err, &proxy) || roundtrip.IsMalformed(req)
}
