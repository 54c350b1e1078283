package openai

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/retrip-go/retrip/internal/fault"
)

// requestTo returns the request that a target is sent instead of req. At home as it is
// that is req itself, so that a call which never leaves home is sent unchanged. If
// it succeeds the body belongs to the request that it returns; if it fails, the
// caller closes the body of req.
// The URL and the headers are made anew, because the caller's may hold keys that only
// its own origin may see. Host is cleared, because it would name the caller's server.
func (g *routing) requestTo(d *destination, req *http.Request) (*http.Request, error) {
	if d.isHome() {
		return req, nil
	}
	name, ok := g.takes(d)
	if !ok {
		return nil, &unsentError{d.name, errNotInMemory}
	}
	s := &g.survey
	out := req.WithContext(req.Context())
	renamed := s.named && name != s.model
	if renamed {
		if err := newRenaming(&g.o.reader.named, name).apply(out, req.GetBody); err != nil {
			return nil, &unsentError{d.name, err}
		}
	}
	messages := g.o.kind.name == "messages"
	if d.BaseURL != "" {
		u, ok := d.place.url(s.tail, name, messages && isBeta(g.o.url.RawQuery))
		if !ok {
			return nil, &unsentError{d.name, errNoPlace}
		}
		out.URL, out.Host = u, ""
	}
	if d.own || !g.isOrigin(d) {
		out.Header = d.header.make(req.Header, messages, renamed)
	} else if renamed && len(req.Header[alongUnchanged]) > 0 {
		out.Header = req.Header.Clone()
		delete(out.Header, alongUnchanged)
	}
	if d.Authorize == nil {
		return out, nil
	}
	return out, g.authorize(d, out)
}

// These say why no request was made. They show neither the URL nor what a panic said,
// since either may hold a key.
var (
	errNoPlace           = errors.New("its BaseURL has no place for the name of the model")
	errAuthorizePanicked = errors.New("Target.Authorize panicked")
)

// authorize lets a target's Authorize complete the headers of a request. It gets a clone
// without a body: whatever it changes of the URL is dropped with the clone, and the
// body that will be sent can't be read by mistake. Only the headers are copied back.
// A failure counts towards a rest of the target, unless the call itself has ended:
// then Authorize may have failed for that alone, and the end of the call is the error.
func (g *routing) authorize(d *destination, out *http.Request) error {
	asked := out.Clone(out.Context())
	asked.Body = nil
	err := guarded(d.Authorize, asked)
	key := restKey{target: d.index, authorize: true}
	if err != nil {
		if g.o.call.Err() != nil {
			return &unsentError{d.name, fault.Ended(&g.o.call)}
		}
		g.router.rests.refused(key, g.number(), authorizeToRest, g.router.now())
		return &unsentError{d.name, err}
	}
	g.router.rests.succeeded(key)
	out.Header = asked.Header
	return nil
}

// guarded makes an error of a panic, so that the call can go on to the next target. It
// drops the panic's value, which may hold a credential.
func guarded(authorize func(*http.Request) error, req *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errAuthorizePanicked
		}
	}()
	return authorize(req)
}

// An unsentError says that a target was sent nothing, because no request for it could be
// made. It counts as a refusal, so that the attempt goes on to the next target and no
// breaker counts it as a failure.
type unsentError struct {
	target string
	err    error
}

func (e *unsentError) Error() string {
	return fmt.Sprintf("openai: nothing was sent to the target %s: %v", e.target, e.err)
}

// Unwrap returns the cause, which is what Authorize returned if that has failed. The
// caller can find its own error by it.
func (e *unsentError) Unwrap() error { return e.err }

// ErrorType returns the value of the error.type attribute. Only time that is over is told
// apart: a connection that Authorize failed to make is not one to the target.
func (e *unsentError) ErrorType() string {
	if t := fault.Type(e.err); t == fault.Timeout || t == fault.Canceled {
		return t
	}
	return fault.Other
}

// Is says to the layers above, by fault.ErrRejected, that nothing was sent: the attempt
// does not use up a number.
func (e *unsentError) Is(target error) bool { return target == fault.ErrRejected }
