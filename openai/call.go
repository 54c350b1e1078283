package openai

import (
	"context"

	"github.com/retrip-go/retrip/internal/call"
)

// A Call is what is known of a call from its request.
type Call struct {
	Endpoint string // "chat", "embeddings", …; "other" if it is none of those known
	Model    string // as requested: Azure's deployment, or what the payload names; "" if that names none or was not read
	Stream   bool   // the payload asks for a stream
}

// CallFrom returns the call that a request belongs to, by the context of the
// request as Policy, Safe, Key, Observe and the base RoundTripper see it.
// False means that it did not come through a Transport of this package.
func CallFrom(ctx context.Context) (Call, bool) {
	c := call.From(ctx)
	if c == nil || c.Endpoint == "" {
		return Call{}, false
	}
	return Call{Endpoint: c.Endpoint, Model: c.Model, Stream: c.Stream}, true
}

// readPayload fills in what the payload says. Of a deployment its model says
// nothing: the deployment has one.
func readPayload(c *call.Call, payload []byte) {
	var store storeScan
	deployed := c.Model != ""
	whole := members(payload, func(key, value []byte) {
		store.member(key, value)
		switch string(key) {
		case "model":
			if !deployed {
				c.Model = modelName(value)
			}
		case "stream":
			c.Stream = string(value) == "true"
		}
	})
	c.Stateless = c.Endpoint == "responses" && store.stateless(whole)
}
