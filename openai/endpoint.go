package openai

import (
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// An endpoint is all that this package knows of one kind of request. A new one
// is one more row below; a new wire format is one more file beside chat.go.
type endpoint struct {
	name      string  // the retrip.endpoint attribute
	operation string  // the gen_ai.operation.name attribute
	repeat    bool    // a POST stores nothing, so it may be sent again
	inspect   bool    // the payload names the model and whether to stream
	format    *format // of the answers to POSTs; nil for plain HTTP
}

// A row finds an endpoint by the tail of a path, whatever prefix stands before
// it: /v1, a gateway's, or Azure's /openai/deployments/NAME.
type row struct {
	parent, tail string // the last two segments; "" for any parent, "*" for any tail
	header       string // that tells it from another service's path of the same name; "" for none
	endpoint
}

// endpoints are looked through from the top, and the first match counts. What
// must not be repeated stands before a "*" that may be: a prefix can have any
// name.
var endpoints = []row{
	{"chat", "completions", "", endpoint{"chat", "chat", true, true, chatFormat}},
	{"", "completions", "", endpoint{"completions", "text_completion", true, true, chatFormat}},
	{"", "embeddings", "", endpoint{"embeddings", "embeddings", true, true, valueFormat}},
	{"", "moderations", "", endpoint{"moderations", "moderations", true, true, valueFormat}},
	{"", "messages", "Anthropic-Version", endpoint{"messages", "chat", true, true, messagesFormat}},
	{"", "rerank", "", endpoint{"rerank", "rerank", true, true, nil}},
	{"", "score", "", endpoint{"score", "score", true, true, nil}},
	{"", "responses", "", endpoint{"responses", "chat", false, true, responsesFormat}},
	{"responses", "*", "", endpoint{"responses", "chat", false, false, nil}},
	{"", "files", "", endpoint{"files", "files", false, false, nil}},
	{"files", "*", "", endpoint{"files", "files", false, false, nil}},
	{"", "uploads", "", endpoint{"uploads", "uploads", false, false, nil}},
	{"", "batches", "", endpoint{"batches", "batches", false, false, nil}},
	{"", "threads", "", endpoint{"threads", "threads", false, false, nil}},
	{"", "conversations", "", endpoint{"conversations", "conversations", false, false, nil}},
	{"", "vector_stores", "", endpoint{"vector_stores", "vector_stores", false, false, nil}},
	{"", "models", "", endpoint{"models", "models", false, false, nil}},
	{"models", "*", "", endpoint{"models", "models", false, false, nil}},
	{"images", "*", "", endpoint{"images", "images", true, true, mediaFormat}},
	{"audio", "*", "", endpoint{"audio", "audio", true, true, mediaFormat}},
}

var otherEndpoint = endpoint{name: "other", operation: "other"}

// endpointOf names the endpoint of a request.
func endpointOf(req *http.Request) *endpoint {
	if req.URL == nil {
		return &otherEndpoint
	}
	path := req.URL.Path
	if strings.HasSuffix(path, "/chat/completions") {
		return &endpoints[0].endpoint // what most are
	}
	rest, tail := cutLast(strings.TrimSuffix(path, "/"))
	_, parent := cutLast(rest)
	for i := range endpoints {
		if r := &endpoints[i]; r.matches(parent, tail, req.Header) {
			return &r.endpoint
		}
	}
	return &otherEndpoint
}

func (r *row) matches(parent, tail string, h http.Header) bool {
	return (r.tail == tail || r.tail == "*") && (r.parent == parent || r.parent == "") &&
		(r.header == "" || len(h[r.header]) > 0)
}

// cutLast splits the last segment off a path.
func cutLast(path string) (rest, segment string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// DefaultSafe is what a nil Config.Retry.Safe stands for: the idempotent methods
// (RFC 9110, section 9.2.2), and a POST to an endpoint that stores nothing. A
// Safe of one's own may call it.
func DefaultSafe(req *http.Request) bool {
	return roundtrip.IsIdempotent(req.Method) || req.Method == http.MethodPost && endpointOf(req).repeat
}
