package openai

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// A survey is what must be known of a call before it may go anywhere but home. It is
// made late, because most calls are answered at home and never need it. The zero
// value is a survey that is still to be made.
type survey struct {
	done     bool
	movable  bool   // nothing binds the call to the place that its request names
	kept     bool   // the payload is in memory
	tail     string // the part of the path that a target's BaseURL is joined with
	model    string // the key for Target.Models; "" if it is not known
	named    bool   // the payload names the model, and that name can be replaced
	deployed bool   // the path alone names the model, as a deployment
}

// look makes the survey on its first call and returns it. A call that may not be sent
// twice, that stores something, or whose path means something to one server only,
// stays home: in doubt the request goes where the caller has sent it.
// The deployment in the path is used only where the payload names no model. Two names
// may differ, and then nobody can say which one the caller means.
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
	// A payload that is not in memory can't be searched. It goes by what its path says.
	s.movable = !s.kept || !isBound(g.req)
	return s
}

// boundTo are the members of payloads that may name what one provider alone has. At
// any other provider such a call would fail, or would mean something else.
var boundTo = [...]string{`"file_id"`, `"file_ids"`, `"container_id"`, `"previous_response_id"`, `"vector_store_ids"`, `"container"`, `"audio"`}

// isBound reports whether a payload names something that is stored at a provider:
// files, containers, earlier answers, their sound. It searches the bytes instead of
// parsing them, which is cheap and errs on the side of staying home. A user's text
// can't look like a member, because its quotes are escaped. A payload that can't be
// read counts as bound.
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

// escapesLetters reports whether a letter or an underscore is escaped. No encoder does
// that, but it is valid JSON, and it hides the names of members from a search for
// their bytes. Only U+0040 to U+007F matter, where letters and the underscore are.
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
// schemas of tools, or settings such as the voice of an answer, and any provider
// understands those. Every occurrence is looked at, since one of them is enough.
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

// maxBound is how far an object is searched for an id. Objects that refer to something
// stored are short, and the bound keeps the search linear in the payload.
const maxBound = 1 << 10

// peekPayload returns the payload of a request without using it up. The bytes may be
// shared with attempts that are under way, so nobody may write to them. It reports
// false if there is no second copy of the body to read.
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

// takes reports whether a target accepts the call, and the name of the model there.
// Embeddings are renamed by an explicit entry only: vectors of another model are
// worse than an error. A name that goes into a path must not be empty or a dot segment, since
// that would make another path of it.
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
	// Neither the payload nor the path can carry a name. The target must then keep all
	// names, and a name that only the caller's path has would be lost at a BaseURL.
	return name, d.Models == nil && (!s.deployed || d.BaseURL == "")
}

// isHome reports whether a target is sent the request as it is. One that sets
// credentials or renames models is not: its requests are changed, so that the call
// must be one that may be changed.
func (d *destination) isHome() bool {
	return d.index == 0 && d.BaseURL == "" && !d.own && d.Models == nil
}

// begin returns where the first attempt goes: to the first of the order that accepts
// the call and does not rest. If all of them rest, the first is tried all the same,
// because the provider's own error says more than one of ours. A call that no target
// accepts goes where its request says, as if there were no targets.
func (g *routing) begin() int {
	first := -1
	for k, i := range g.order {
		d := g.router.targets[i]
		if _, ok := g.takes(d); !ok {
			continue
		}
		if g.alone {
			g.order = g.order[k : k+1]
			return int(i)
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

// elsewhere returns the next target for an attempt that the asked ones have refused.
// Targets without a visit come before those that have failed this call once already.
// Those are asked only if the attempt has waited, see back. It has no target if the
// body can't be had again, even if another would accept it.
func (g *routing) elsewhere(req *http.Request, asked targets) (next int, ok bool) {
	for _, most := range [...]uint8{1, maxVisits} {
		if most > 1 && (g.once || g.fresh) {
			break
		}
		for _, i := range g.order {
			d := g.router.targets[i]
			if asked.has(int(i)) || g.spent.has(int(i)) || g.visits[i] >= most {
				continue
			}
			if _, ok := g.takes(d); ok && !g.resting(d) && g.reopen(req) {
				return int(i), true
			}
		}
	}
	return 0, false
}

// unmet returns the next target that the call has not visited and that has not refused
// it. renames asks for a target that knows the model by another name: the same model
// would have the same context length.
func (g *routing) unmet(renames bool) (next int, ok bool) {
	for _, i := range g.order {
		d := g.router.targets[i]
		if g.visits[i] > 0 || g.spent.has(int(i)) || g.refused.has(int(i)) {
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

// again returns the target of a second round, once all have been visited: the first
// whose breaker does not refuse. If all breakers refuse, it is the one that does so
// for the least time, so that a retry can be planned for when it lets calls through.
// A call that an SDK repeats has no second round of its own.
func (g *routing) again() (next int, ok bool) {
	least := time.Duration(1<<63 - 1)
	if g.once {
		return 0, false
	}
	for _, i := range g.order {
		d := g.router.targets[i]
		if g.visits[i] >= maxVisits || g.spent.has(int(i)) {
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

// back returns a target that has failed the call once and would not refuse it now. It
// is for a call whose other targets have all refused it: they were asked at once, and a
// target that has just failed needs a backoff first.
func (g *routing) back() (next int, ok bool) {
	if g.once {
		return 0, false
	}
	for _, i := range g.order {
		d := g.router.targets[i]
		if g.visits[i] == 0 || g.visits[i] >= maxVisits || g.spent.has(int(i)) || g.resting(d) {
			continue
		}
		if g.refusedFor(d) == 0 {
			return int(i), true
		}
	}
	return 0, false
}

// canGoBack reports whether an attempt that was refused at once can be followed by one
// after a backoff.
func (g *routing) canGoBack() bool {
	if !g.fresh {
		return false
	}
	_, ok := g.back()
	return ok
}

// anyNext returns where an attempt goes that only the user's Policy has asked for. Our
// verdict was to stop, but the user's word counts. If no target is left, the call
// stays at the one that it was at.
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
