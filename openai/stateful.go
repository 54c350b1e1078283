package openai

import (
	"net/http"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/json"
	"github.com/retrip-go/retrip/retry"
)

// nothingStored reports whether an attempt at a stateful call proves that the
// provider has kept nothing of it: it was never sent, or was refused. stateless
// says that its payload asks to keep nothing.
func nothingStored(a *retry.Attempt, stateless bool) bool {
	return a.NotSent || stateless || a.Response != nil && isRefusal(a.Response)
}

// isStatelessOrRefused is the Repeatable of the retry layer under
// Config.RetryStateful.
func isStatelessOrRefused(a *retry.Attempt) bool {
	c := call.From(a.Request.Context())
	return nothingStored(a, c != nil && c.Stateless)
}

// isRefusal reports whether a status says that the work was not begun. A 503
// may as well come from a proxy whose backend was at work; one that names a
// time comes from a server that sheds load.
func isRefusal(response *http.Response) bool {
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		_, hinted := (&retry.Attempt{Response: response}).Hint()
		return hinted
	}
	return false
}

// A storeScan reads from the members of a payload of POST /responses whether
// it leaves something behind: the default does, store:false does not, unless it
// joins a stored conversation or runs in the background. See
// https://platform.openai.com/docs/api-reference/responses/create.
type storeScan struct {
	off bool // store is false
	on  bool // something says otherwise, be it a second store
}

// member takes one top-level member.
func (s *storeScan) member(m *json.Scanner) {
	value := m.Value()
	switch string(m.Key()) {
	case "store":
		if string(value) == "false" {
			s.off = true
		} else {
			s.on = true
		}
	case "previous_response_id", "conversation":
		s.on = s.on || string(value) != "null"
	case "background":
		s.on = s.on || string(value) != "false" && string(value) != "null"
	}
}

// stateless reports whether nothing is stored. whole says that all members
// were read.
func (s *storeScan) stateless(whole bool) bool { return whole && s.off && !s.on }
