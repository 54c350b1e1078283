package openai

import (
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/internal/roundtrip"
)

// An endpoint is all that this package knows of one kind of request. No other code
// asks for an endpoint by its name, so a new kind is one more row below, and a new
// wire format is one more file beside chat.go.
type endpoint struct {
	name      string // the retrip.endpoint attribute
	operation string // the gen_ai.operation.name attribute
	// repeat says that a POST stores nothing at the provider, so it may be sent
	// again.
	repeat bool
	// inspect says that the payload names the model and whether to stream. Such
	// payloads are read and buffered. Others, such as the upload of a file, pass
	// through.
	inspect bool
	// The format is that of the answers to POSTs. With nil the answer is judged as
	// plain HTTP: by its status.
	format *format
}

// A row finds an endpoint by the end of a path. The prefix is not compared, because
// it differs from server to server: /v1, a gateway's own, or Azure's
// /openai/deployments/NAME.
type row struct {
	// These are the last two segments. An empty parent stands for any, and so does a
	// tail of "*".
	parent, tail string
	// The header distinguishes the endpoint from another service's path of the same
	// name. It is in canonical form. Empty means that the path is enough.
	header string
	endpoint
}

// endpoints are searched from the top, and the first match counts. A row that must
// not be repeated stands before a row with "*" that may be, because a prefix can
// have any name: /images/files is an upload, not a picture.
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

// otherEndpoint stands for every path that no row knows. It is neither repeated nor
// inspected, since nothing is known of what it stores.
var otherEndpoint = endpoint{name: "other", operation: "other"}

// endpointOf returns the endpoint of a request, which is never nil. Every layer asks
// for it, so it allocates nothing.
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

// matches reports whether the row describes such a request. The header is looked up
// directly, because its name in the table is canonical.
func (r *row) matches(parent, tail string, h http.Header) bool {
	return (r.tail == tail || r.tail == "*") && (r.parent == parent || r.parent == "") &&
		(r.header == "" || len(h[r.header]) > 0)
}

// cutLast splits the last segment off a path, without the slices that strings.Split
// would allocate.
func cutLast(path string) (rest, segment string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// DefaultSafe is what a nil Config.Retry.Safe stands for. It accepts the idempotent
// methods (RFC 9110, section 9.2.2), and a POST to an endpoint that stores nothing:
// chat/completions, completions, embeddings, moderations, rerank, score, images, audio,
// and messages with an anthropic-version header. An endpoint that is not among them may
// store something, so its POSTs are not repeated; for responses see
// [Config.RetryStateful]. A Safe of your own may call DefaultSafe and add to it.
func DefaultSafe(req *http.Request) bool {
	return roundtrip.IsIdempotent(req.Method) || req.Method == http.MethodPost && endpointOf(req).repeat
}
