package openai

import (
	"context"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/json"
)

// A Call is what is known of a call from its request.
type Call struct {
	Endpoint string // "chat", "embeddings", …; "other" if it is none of those known
	Model    string // as requested: Azure's deployment, or what the payload names; "" if that names none or was not read
	Stream   bool   // the payload asks for a stream
	Target   string // where the attempt goes, by the name of the target; "" if there is only one place
	Attempt  int    // the number of the attempt in its call, the first is 1; 0 in a context of the whole call
}

// CallFrom returns the call that a request belongs to, by the context of the
// request as Policy, Safe, Key, Observe and the base RoundTripper see it: a
// RoundTripper that traces or logs below the chain tells by Attempt and Target
// which of the call's requests it has. False means that the request did not come
// through a Transport of this package.
func CallFrom(ctx context.Context) (Call, bool) {
	c := call.From(ctx)
	if c == nil || c.Endpoint == "" {
		return Call{}, false
	}
	made := Call{Endpoint: c.Endpoint, Model: c.Model, Stream: c.Stream, Target: call.SubjectOf(ctx, c).Target}
	if a := call.AttemptFrom(ctx); a != nil {
		made.Attempt = a.Number
	}
	return made, true
}

// A payloadReader reads what a payload says of its call. Of a deployment the
// payload's model says nothing: the deployment has one.
type payloadReader struct {
	walk     walk
	call     *call.Call
	deployed bool // the path names a deployment
	store    storeScan

	resumable bool        // the endpoint's streams can be resumed
	resume    *resumePlan // nil if this one can't
	named     namedModel
	whole     bool // the payload is one JSON value
}

// read fills in what payload says of c.
func (p *payloadReader) read(c *call.Call, payload []byte) {
	p.call, p.deployed = c, c.Model != ""
	p.walk.feed(payload, p)
	p.walk.end(p)
	p.whole = p.walk.scan.Whole()
	c.Stateless = p.store.stateless(p.whole)
	p.resume = p.planned(p.whole)
}

func (p *payloadReader) visit(in place, s *json.Scanner) place {
	switch in {
	case outside:
		return inTop
	case inTop:
	default:
		p.resumeDetail(in, s)
		return nowhere
	}
	p.store.member(s)
	p.named.member(s)
	switch string(s.Key()) {
	case "model":
		if !p.deployed {
			p.call.Model = modelName(s.Value())
		}
	case "stream":
		p.call.Stream = string(s.Value()) == "true"
	case "max_tokens", "max_completion_tokens", "max_output_tokens":
		n, _ := json.Count(s.Value())
		p.call.MaxTokens = max(p.call.MaxTokens, min(n, maxMaxTokens))
	case "n":
		n, _ := json.Count(s.Value())
		p.call.Choices = uint8(min(n, maxChoices))
	case "background", "include", "stream_options":
		if p.resumable {
			return p.resumeMember(s)
		}
	}
	return nowhere
}

// maxMaxTokens bounds the tokens that a payload allows its answer to have.
const maxMaxTokens = 1 << 24

// maxChoices bounds the choices that a payload asks for.
const maxChoices = 64
