package openai

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A survey is what a call must be asked before it may go anywhere but home. Most
// calls never are.
type survey struct {
	done     bool
	movable  bool
	kept     bool   // the payload is in memory
	tail     string // of the path
	model    string // that is looked up; "" if it is not known
	named    bool   // by the payload, in which it can be replaced
	deployed bool   // by the path alone
}

// look makes the survey, once.
func (g *routing) look() *survey {
	s := &g.survey
	if s.done {
		return s
	}
	o := g.o
	s.done, s.tail, s.kept = true, tailOf(&o.request), o.kept
	if s.tail == "" || !o.call.Safe || o.reader.store.on || !payload.IsPlain(&o.request) {
		return s
	}
	readable := isJSON(o.request.Header) && !roundtrip.IsCompressed(o.request.Header) && o.reader.whole
	switch {
	case readable && o.reader.named.renamable():
		s.named, s.model = true, o.reader.named.name
	case !readable || o.reader.named.keys == 0:
		s.model = deployment(o.url.Path)
		s.deployed = s.model != ""
	}
	s.movable = !s.kept || !isBound(g.req)
	return s
}

// boundTo are members of payloads that name what one provider alone has.
var boundTo = [...]string{`"file_id"`, `"file_ids"`, `"container_id"`, `"previous_response_id"`, `"vector_store_ids"`, `"container"`, `"audio"`}

// isBound reports whether a payload names something that is stored at a provider:
// files, containers, earlier answers, their sound. In a text quotes are escaped, so
// that its words are not taken for that.
func isBound(req *http.Request) bool {
	data, ok := peekPayload(req)
	if !ok {
		return true
	}
	for _, member := range &boundTo {
		if namesStored(data, []byte(member)) {
			return true
		}
	}
	return escapesLetters(data)
}

// escapesLetters reports whether a letter or an underscore is escaped, as no
// encoder does. The names of members can't be told by their bytes then.
func escapesLetters(data []byte) bool {
	for {
		_, rest, found := bytes.Cut(data, []byte(`\u00`))
		if !found || len(rest) < 2 {
			return false
		}
		if c := rest[0]; c >= '4' && c <= '7' {
			return true
		}
		data = rest
	}
}

// namesStored reports whether a member of a payload is a string or a list, or an object
// with an id, as in {"role":"assistant","audio":{"id":"audio_1"}}. Other objects are
// schemas of tools, or settings.
func namesStored(data, member []byte) bool {
	for {
		_, rest, found := bytes.Cut(data, member)
		if !found {
			return false
		}
		data = rest
		value, isMember := bytes.CutPrefix(trimSpace(rest[:min(len(rest), maxBound)]), []byte(":"))
		value = trimSpace(value)
		if !isMember || len(value) == 0 {
			continue
		}
		object, _, _ := bytes.Cut(value, []byte("}"))
		switch value[0] {
		case '"', '[':
			return true
		case '{':
			if bytes.Contains(object, []byte(`"id"`)) {
				return true
			}
		}
	}
}

// maxBound is how far an object is looked into for an id.
const maxBound = 1 << 10

// peekPayload returns the payload of a request, which nobody may write to.
func peekPayload(req *http.Request) ([]byte, bool) {
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	if shared, ok := body.(*payload.Reader); ok {
		return shared.Take()
	}
	data, err := io.ReadAll(body)
	_ = body.Close()
	return data, err == nil
}

// takes reports whether a target takes the call, and the name of the model there.
func (g *routing) takes(d *destination) (name string, ok bool) {
	if d.isHome() {
		return g.o.call.Model, true
	}
	s := g.look()
	if !s.movable {
		return "", false
	}
	name, ok = d.nameOf(s.model, g.o.kind.name == "embeddings")
	switch {
	case !ok, d.place.named && (name == "" || name == "." || name == ".."):
		return "", false
	case s.named, d.place.named || d.deployed:
		return name, true
	}
	// The payload can't be given a name, and must not be sent without one.
	return name, d.Models == nil && (!s.deployed || d.BaseURL == "")
}

// isHome reports whether a target takes the request as it is.
func (d *destination) isHome() bool {
	return d.index == 0 && d.BaseURL == "" && !d.own && d.Models == nil
}

// begin returns where the first attempt goes: to the first of the order that takes
// the call and does not rest; if all rest, to the first that takes it. A call that
// no target takes goes home.
func (g *routing) begin() int {
	first := -1
	for _, i := range g.order {
		d := g.router.targets[i]
		if _, ok := g.takes(d); !ok {
			continue
		}
		if first < 0 {
			first = int(i)
		}
		if !g.resting(d) {
			return int(i)
		}
	}
	if first < 0 {
		g.order, g.raw = nil, true
		return 0
	}
	return first
}

// elsewhere returns where an attempt goes that was refused by those it asked: to a
// target that the call has not met, else to one that it may meet again.
func (g *routing) elsewhere(req *http.Request, asked targets) (next int, ok bool) {
	for _, most := range [...]uint8{1, meetings} {
		if g.once && most > 1 {
			break
		}
		for _, i := range g.order {
			d := g.router.targets[i]
			if asked.has(int(i)) || g.spent.has(int(i)) || g.met[i] >= most {
				continue
			}
			if _, ok := g.takes(d); ok && !g.resting(d) && g.reopen(req) {
				return int(i), true
			}
		}
	}
	return 0, false
}

// unmet returns the next target that the call has not met. renames asks for one that knows the model by another name.
func (g *routing) unmet(renames bool) (next int, ok bool) {
	for _, i := range g.order {
		d := g.router.targets[i]
		if g.met[i] > 0 || g.spent.has(int(i)) || g.refused.has(int(i)) {
			continue
		}
		name, ok := g.takes(d)
		if !ok || renames && name == g.survey.model || g.resting(d) {
			continue
		}
		return int(i), true
	}
	return 0, false
}

// again returns the target that a call goes to once it has met all: the first that
// it may meet again, and whose breaker does not refuse; if all do, the one that
// does so for the least time.
func (g *routing) again() (next int, ok bool) {
	least := time.Duration(1<<63 - 1)
	if g.once {
		return 0, false
	}
	for _, i := range g.order {
		d := g.router.targets[i]
		if g.met[i] >= meetings || g.spent.has(int(i)) {
			continue
		}
		if _, takes := g.takes(d); !takes || g.resting(d) {
			continue
		}
		if wait := g.refusedFor(d); wait < least {
			least, next, ok = wait, int(i), true
		}
	}
	return next, ok
}

// anyNext is where an attempt goes that the user's Policy alone has asked for.
func (g *routing) anyNext() int {
	next, ok := g.unmet(false)
	g.fresh = ok
	if !ok {
		next, ok = g.again()
	}
	if !ok {
		next = max(g.at, 0)
	}
	g.next = next
	return next
}
