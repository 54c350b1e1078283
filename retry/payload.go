package retry

import (
	"context"
	"io"
	"net/http"

	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// NewRequest returns a request whose payload is shared by every attempt and
// copied by none, however large it is. It serves every [http.Client], also one
// without a [Transport].
//
// The payload must not be written to from then on, not even after the call: net/http
// may still be sending it. Where that can't be promised use
// [http.NewRequestWithContext], whose payload a Transport copies once. An empty
// payload becomes [http.NoBody]. NewRequest fails as http.NewRequestWithContext does.
func NewRequest(ctx context.Context, method, url string, payload []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil || len(payload) == 0 {
		return req, err
	}
	req.Body = newReader(payload)
	req.GetBody = func() (io.ReadCloser, error) { return newReader(payload), nil }
	req.ContentLength = int64(len(payload))
	return req, nil
}

// newReader keeps the package's name apart from the parameter's.
var newReader = payload.NewReader

// An outgoing is what the attempts of one call send. It owns the caller's body:
// that is closed exactly once, whatever becomes of the call. http.RoundTripper demands
// that it is closed, and bodies that are files or pipes may fail at a second Close.
type outgoing struct {
	way       way
	taken     bool // the caller's body is ours to close
	tooLarge  bool // it is not kept because of its size
	exclusive bool // the connection itself is asked for, which can't be repeated
	offered   bool // to an attempt, which may have used the caller's body up

	payload payload.Payload // if it is kept
	length  int64           // of it
	once    *payload.Once   // if it is streamed
	getBody func() (io.ReadCloser, error)
}

// A way is how an attempt gets what it sends.
type way uint8

const (
	nothing  way = iota // there is no body
	buffered            // from memory, as often as it takes
	asGiven             // by the caller's own body, which is in memory: net/http is to see that
	streamed            // by the caller's body as it comes, which can be read once
)

// take takes req's body over. The payload is kept if keep says so and it can
// be, or if it is shared. If taking it fails, or ctx ends meanwhile, the body is
// closed. ctx is the call's: that of an attempt would have to be ended.
func (o *outgoing) take(ctx context.Context, req *http.Request, keep bool, limit int64) error {
	o.taken, o.exclusive, o.getBody = true, payload.TakesOver(req), req.GetBody
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	if shared, ok := req.Body.(*payload.Reader); ok {
		if data, open := shared.Take(); open {
			o.keep(data)
			return payload.CheckLength(len(data), req.ContentLength)
		}
	}
	if !keep || !payload.IsPlain(req) {
		o.handOn(req.Body, req.ContentLength)
		return nil
	}
	data, stream, err := payload.Read(ctx, req, limit)
	switch {
	case err != nil:
		return err
	case stream != nil:
		o.tooLarge = true
		o.handOn(stream, req.ContentLength)
	default:
		o.keep(data)
	}
	return nil
}

// keep makes data the payload. GetBody is over these bytes from then on: the caller's own
// may rewind a reader that another attempt still reads.
func (o *outgoing) keep(data []byte) {
	o.way, o.length = buffered, int64(len(data))
	o.payload.Set(data)
	o.getBody = o.payload.Open
}

// handOn hands the body on as it is. One that is streamed remembers whether it
// failed: the breaker below asks.
func (o *outgoing) handOn(body io.ReadCloser, length int64) {
	if o.way = asGiven; !payload.IsInMemory(body) {
		o.way, o.once = streamed, payload.NewOnce(roundtrip.NewRequestBody(body, length))
	}
}

// limitReplays keeps net/http from sending a call again that it would not have
// sent again without us: it takes an idempotency key for a permission to, but
// only where it has a GetBody.
func (o *outgoing) limitReplays(req *http.Request, safe bool) {
	if o.way == buffered && !safe && req.GetBody == nil && hasIdempotencyKey(req) {
		o.getBody = nil
	}
}

// replayable reports whether another attempt can send the same bytes, however
// far the one before it got. Without a body there is nothing to send again.
func (o *outgoing) replayable() bool { return !o.exclusive && o.way <= buffered }

// sendable reports whether another attempt can send the same bytes if the one
// before it was never sent.
func (o *outgoing) sendable() bool {
	switch o.way {
	case asGiven:
		return !o.offered || o.getBody != nil
	case streamed:
		return o.once.Unread()
	}
	return true
}

// attach gives an attempt its body, for which there is space. Bytes that are
// kept come from there only, never from the caller's GetBody: that of some SDKs
// rewinds one reader for all.
func (o *outgoing) attach(req *http.Request, space *payload.Space) (err error) {
	switch o.way {
	case nothing:
	case buffered:
		req.Body, err = o.payload.OpenIn(space)
		req.GetBody, req.ContentLength = o.getBody, o.length
	case asGiven:
		if o.offered && o.getBody != nil {
			req.Body, err = o.getBody()
		}
	case streamed:
		req.Body = o.once
		if !o.once.Again() {
			err = errStreamUsed
		}
	}
	o.offered = true
	return err
}

// release lets the payload go. A streamed body that no base has answered to is
// closed, as is one that was asked to be closed. After an answer it is the base's to
// close, which may still be reading it.
func (o *outgoing) release(answered bool) {
	o.payload.Release()
	if o.once == nil {
		return
	}
	if !answered {
		_ = o.once.Close()
	}
	o.once.Final()
}
