package openai

import (
	"maps"
	"net/http"
	"net/textproto"
	"slices"
)

// alongAlways are the headers that go along to any target: they describe the payload
// and the call, and hold no credentials. The list says what goes, not what stays: a
// header that this package does not know may be a key.
var alongAlways = []string{"Content-Type", "Content-Encoding", "Accept", "User-Agent", "Traceparent", "Tracestate"}

// alongMessages go along with calls in Anthropic's format, which names its
// version and its extensions there.
var alongMessages = []string{"Anthropic-Version", "Anthropic-Beta"}

// alongUnchanged goes along only with a payload that is sent as it is. The key stands
// for one payload, and a server that knows it would refuse another.
const alongUnchanged = "Idempotency-Key"

// A targetHeader makes the headers of requests to one target. It is a copy of what the
// Target says, with canonical names, and is only read after it is made.
type targetHeader struct {
	own     http.Header // set last, so that it replaces what goes along
	forward []string    // names of further headers that the user lets go along
}

// newTargetHeader copies the headers of t, because the user may still change theirs.
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

// make returns the headers of a request to the target, made from the caller's. Only what
// is named goes along. The values are shared with the caller's and the target's, not
// copied. They are clipped, so that an append by a layer below makes a copy.
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

// originsOwn are the headers of an answer that http.Client, or a layer above it,
// would apply to the caller's own origin. A cookie of another provider, for example,
// would be stored by the client's Jar and sent home.
var originsOwn = []string{"Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Alt-Svc", "Strict-Transport-Security"}

// removeOriginsOwn removes these headers from an answer of another origin. The map may
// still be the base's, so that it is copied before the first change. Most answers
// have none of them and cost no copy. Names are compared in canonical form, since a
// base need not have made them so.
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
