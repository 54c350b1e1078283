package openai

import (
	"context"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/json"
)

// A Call is what this package knows of a call from its request: its URL and its
// payload, but nothing of the answer. See [CallFrom].
type Call struct {
	// Endpoint is "chat", "embeddings" and so on, or "other" for one that is not
	// known.
	Endpoint string

	// Model is the model as requested: Azure's deployment in the path, or else the
	// payload's model. It is "" if there is neither, or the payload was not read. At
	// most 128 bytes.
	Model string

	// Stream says that the payload asks for a stream. The answer need not be one.
	Stream bool

	// Target is the name of the [Target] that the attempt goes to. It is "" if the
	// call has only one place to go.
	Target string

	// Attempt is the number of the attempt in its call, from 1 on. It is 0 in a
	// context that belongs to the whole call.
	Attempt int
}

// CallFrom returns the call that a request belongs to. It takes the context of the
// request that Policy, Safe, Key, Observe and the base RoundTripper see. A base that
// traces or logs can thereby tell the attempts of one call apart, by Attempt and
// Target. It returns false if the request did not come through a [Transport] of this
// package.
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

// A payloadReader reads what a payload says of its call, in one pass over its top
// level. Where the path names a deployment, the payload's model counts for nothing,
// because the deployment has a model of its own.
type payloadReader struct {
	walk     walk
	call     *call.Call
	deployed bool // the path names a deployment
	store    storeScan

	resumable bool        // the endpoint's streams can be resumed
	resume    *resumePlan // nil if this call's stream can't be
	named     namedModel
	whole     bool // the payload is one JSON value
}

// read fills in what payload says of c. A payload that is not one JSON value changes
// no more than the members before its fault have: it is the provider's to refuse.
func (p *payloadReader) read(c *call.Call, payload []byte) {
	p.call, p.deployed = c, c.Model != ""
	p.walk.feed(payload, p)
	p.walk.end(p)
	p.whole = p.walk.scan.Whole()
	c.Stateless = p.store.stateless(p.whole)
	p.resume = p.planned(p.whole)
}

// visit reads the members that the layers of the chain ask for. The largest of several
// token limits counts, because pacing must not assume less than may be used.
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

// maxMaxTokens bounds the max_tokens of a payload, which pacing multiplies to estimate
// what a call costs: an absurd number in a payload must not outweigh all other calls.
const maxMaxTokens = 1 << 24

// maxChoices bounds the n of a payload. What matters of it is whether it is above 1,
// and it has to fit into the uint8 of the call.
const maxChoices = 64
