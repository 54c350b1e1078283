package openai

import (
	"maps"
	"net/http"
	"net/textproto"
	"slices"
)

// alongAlways are the headers that go along to any target: they describe the
// payload and the call, and hold no credentials.
var alongAlways = []string{"Content-Type", "Content-Encoding", "Accept", "User-Agent", "Traceparent", "Tracestate"}

// alongMessages go along with calls in Anthropic's format.
var alongMessages = []string{"Anthropic-Version", "Anthropic-Beta"}

// alongUnchanged goes along with a payload that is sent as it is: a server that
// knows the key would refuse another payload.
const alongUnchanged = "Idempotency-Key"

// A targetHeader makes the headers of requests to one target.
type targetHeader struct {
	own     http.Header // set last
	forward []string    // what the user lets go along
}

func newTargetHeader(t *Target) targetHeader {
	h := targetHeader{own: make(http.Header, len(t.Header))}
	for name, values := range t.Header {
		name = textproto.CanonicalMIMEHeaderKey(name)
		h.own[name] = slices.Clip(append(h.own[name], values...))
	}
	for _, name := range t.Forward {
		h.forward = append(h.forward, textproto.CanonicalMIMEHeaderKey(name))
	}
	return h
}

// make returns the headers of a request to the target, made of the caller's: only
// what is named goes along.
func (h *targetHeader) make(callers http.Header, messages, renamed bool) http.Header {
	made := make(http.Header, len(alongAlways)+len(h.forward)+len(h.own)+1)
	along := func(names []string) {
		for _, name := range names {
			if values, ok := callers[name]; ok {
				made[name] = slices.Clip(values)
			}
		}
	}
	along(alongAlways)
	if messages {
		along(alongMessages)
	}
	if !renamed {
		along([]string{alongUnchanged})
	}
	along(h.forward)
	maps.Copy(made, h.own)
	return made
}

// originsOwn are the headers of an answer that http.Client, or whoever stands above,
// would take for the caller's own origin's.
var originsOwn = []string{"Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Alt-Svc", "Strict-Transport-Security"}

// removeOriginsOwn removes them from an answer of another origin. The map may still
// be the base's, so that it is copied first.
func removeOriginsOwn(response *http.Response) {
	cloned := false
	for name := range response.Header {
		if !slices.Contains(originsOwn, textproto.CanonicalMIMEHeaderKey(name)) {
			continue
		}
		if !cloned {
			response.Header, cloned = maps.Clone(response.Header), true
		}
		delete(response.Header, name)
	}
}
