package retry

import (
	"context"
	"io"
	"net/http"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// NewRequest returns a request whose payload is shared by every attempt and
// copied by none, however large it is. Nobody may write to payload until the
// call has failed or its response's body is closed: net/http may still be
// sending it when a response arrives. A Transport reads it no longer than that.
// An empty payload is http.NoBody. It fails as http.NewRequestWithContext does.
func NewRequest(ctx context.Context, method, url string, payload []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil || len(payload) == 0 {
		return req, err
	}
	source := newSource(payload)
	req.GetBody = source.Open
	req.Body, _ = source.Open()
	req.ContentLength = int64(len(payload))
	return req, nil
}

// newSource keeps the package's name apart from the parameter's.
var newSource = payload.NewSource

// An outgoing payload is what the attempts of one call send: nothing, a
// buffered payload, or a body that is streamed through once.
type outgoing struct {
	source     *payload.Source
	once       *payload.Once // not nil: streamed through
	tooLarge   bool          // streamed through because it is above the limit
	none       bool          // the request has no body
	noGetBody  bool          // keep net/http from replaying on its own account
	replayable bool          // another attempt can send the same bytes
}

// prepare takes over req's body: it is buffered in the first request's Source,
// unless it is already, or set up to be streamed. If it fails, or ctx ends
// meanwhile, the body is closed. It is the call's context: that of an attempt
// would have to be ended.
func (o *outgoing) prepare(ctx context.Context, req *http.Request, first *call.Request, safe bool, limit int64) error {
	o.source = &first.Source
	o.noGetBody = !safe && hasIdempotencyKey(req)
	reader, shared := req.Body.(*payload.Reader)
	if reader == &first.Reader {
		o.replayable = true
		return nil
	}
	o.replayable = !payload.TakesOver(req)
	if req.Body == nil || req.Body == http.NoBody {
		o.none = true
		return nil
	}
	if !shared && (!safe || !payload.Plain(req)) {
		o.stream(o.source.Through(req.Body), req.ContentLength)
		return nil
	}
	length := req.ContentLength
	if length == 0 {
		length = -1
	}
	_, stream, err := o.source.Buffer(ctx, req.Body, length, limit, req.GetBody != nil)
	if err != nil {
		return err
	}
	if stream != nil {
		o.stream(stream, req.ContentLength)
		o.tooLarge = true
	}
	return nil
}

// stream sets the body up to be streamed; it remembers whether it failed, for
// the breaker below.
func (o *outgoing) stream(body io.ReadCloser, length int64) {
	o.once = payload.NewOnce(roundtrip.NewRequestBody(body, length))
	o.replayable = false
}

// unread reports whether a streamed body can still be sent whole.
func (o *outgoing) unread() bool { return o.once != nil && o.once.Unread() }

// usedUp reports whether no attempt can send the payload any more: somebody
// above the breaker that refused, as one who signs, has read a streamed body.
func (o *outgoing) usedUp() bool { return o.once != nil && !o.once.Unread() }

// attach gives an attempt its own reader over the payload. It reports false if
// a streamed body is already used up.
func (o *outgoing) attach(req *http.Request, reader *payload.Reader) bool {
	switch {
	case o.none:
		if o.noGetBody {
			req.GetBody = nil
		}
	case o.once != nil:
		req.Body, req.GetBody = o.once, nil
		return o.once.Again()
	default:
		req.Body, req.GetBody, req.ContentLength = http.NoBody, openNothing, 0
		if length := o.source.Init(reader); length > 0 {
			req.Body, req.GetBody, req.ContentLength = reader, o.source.Open, int64(length)
		}
		if o.noGetBody {
			req.GetBody = nil
		}
	}
	return true
}

// release lets the payload go, and gives it back if nothing of the call goes on.
// A streamed body that no base has taken over is closed.
func (o *outgoing) release(taken, goesOn bool) {
	if goesOn {
		o.source.Release()
	} else {
		o.source.GiveBack()
	}
	if o.once == nil {
		return
	}
	if !taken {
		_ = o.once.Close()
	}
	o.once.Final()
}

func openNothing() (io.ReadCloser, error) { return http.NoBody, nil }
