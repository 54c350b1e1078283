package openai

import (
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// An endpoint is what this package knows of one kind of request.
type endpoint struct {
	name      string // the retrip.endpoint attribute
	operation string // the gen_ai.operation.name attribute
	repeat    bool   // a POST may be sent again
	inspect   bool   // the payload names the model and whether to stream
}

// endpoints are told by the tail of a path, whatever prefix stands before it:
// /v1, a gateway's, or Azure's /openai/deployments/NAME. A tail of "*" stands
// for one more segment, whatever it is. The first match counts, and what must
// not be repeated stands before a "*" that may be: a prefix can have any name.
var endpoints = []struct {
	parent, tail string // the last two segments; "" for any parent
	endpoint
}{
	{"chat", "completions", endpoint{"chat", "chat", true, true}},
	{"", "completions", endpoint{"completions", "text_completion", true, true}},
	{"", "embeddings", endpoint{"embeddings", "embeddings", true, true}},
	{"", "moderations", endpoint{"moderations", "moderations", true, true}},
	{"", "rerank", endpoint{"rerank", "rerank", true, true}},
	{"", "score", endpoint{"score", "score", true, true}},
	{"", "responses", endpoint{"responses", "chat", false, true}},
	{"responses", "*", endpoint{"responses", "chat", false, false}},
	{"", "files", endpoint{"files", "files", false, false}},
	{"files", "*", endpoint{"files", "files", false, false}},
	{"", "uploads", endpoint{"uploads", "uploads", false, false}},
	{"", "batches", endpoint{"batches", "batches", false, false}},
	{"", "threads", endpoint{"threads", "threads", false, false}},
	{"", "conversations", endpoint{"conversations", "conversations", false, false}},
	{"", "vector_stores", endpoint{"vector_stores", "vector_stores", false, false}},
	{"", "models", endpoint{"models", "models", false, false}},
	{"models", "*", endpoint{"models", "models", false, false}},
	{"images", "*", endpoint{"images", "images", true, true}},
	{"audio", "*", endpoint{"audio", "audio", true, true}},
}

var otherEndpoint = endpoint{name: "other", operation: "other"}

// endpointOf names the endpoint of a path.
func endpointOf(path string) *endpoint {
	if strings.HasSuffix(path, "/chat/completions") {
		return &endpoints[0].endpoint // what most are
	}
	path = strings.TrimSuffix(path, "/")
	rest, tail := cutLast(path)
	_, parent := cutLast(rest)
	for i := range endpoints {
		e := &endpoints[i]
		if (e.tail == tail || e.tail == "*") && (e.parent == parent || e.parent == "") {
			return &e.endpoint
		}
	}
	return &otherEndpoint
}

// cutLast splits the last segment off a path.
func cutLast(path string) (rest, segment string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// isRepeatable is the default Safe of the retry layer: the idempotent methods
// (RFC 9110, section 9.2.2), and a POST to an endpoint that stores nothing.
func isRepeatable(req *http.Request) bool {
	if req.Method == http.MethodPost {
		return req.URL != nil && endpointOf(req.URL.Path).repeat
	}
	return roundtrip.IsIdempotent(req.Method)
}
