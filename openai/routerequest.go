package openai

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/retrip-go/retrip/internal/fault"
)

// requestTo returns the request that a target is sent in the place of req: that
// itself, if it goes home as it is. It takes the body of req over.
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

var (
	errNoPlace           = errors.New("its BaseURL has no place for the name of the model")
	errAuthorizePanicked = errors.New("Target.Authorize panicked")
)

// authorize has a target's Authorize complete the headers of a request.
func (g *routing) authorize(d *destination, out *http.Request) error {
	asked := out.Clone(out.Context())
	asked.Body = nil
	err := guarded(d.Authorize, asked)
	key := restKey{target: d.index, authorize: true}
	if err != nil {
		if g.o.call.Err() == nil {
			g.router.rests.refused(key, g.number(), authorizeToRest, g.router.now())
		}
		return &unsentError{d.name, err}
	}
	g.router.rests.succeeded(key)
	out.Header = asked.Header
	return nil
}

// guarded makes an error of a panic.
func guarded(authorize func(*http.Request) error, req *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errAuthorizePanicked
		}
	}()
	return authorize(req)
}

// An unsentError says that a target was sent nothing, since no request for it could
// be made.
type unsentError struct {
	target string
	err    error
}

func (e *unsentError) Error() string {
	return fmt.Sprintf("openai: nothing was sent to the target %s: %v", e.target, e.err)
}

// Unwrap returns what Authorize returned.
func (e *unsentError) Unwrap() error { return e.err }

// ErrorType returns the value of the error.type attribute.
func (e *unsentError) ErrorType() string { return fault.Other }

// Is says to the layers above that nothing was sent.
func (e *unsentError) Is(target error) bool { return target == fault.ErrRejected }
