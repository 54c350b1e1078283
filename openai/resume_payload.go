package openai

import (
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"github.com/retrip-go/retrip/internal/json"
)

// Bounds of what a payload may ask the answer to include.
const (
	maxIncludes = 32
	maxInclude  = 256 // bytes of each
)

// withoutResumeKey is the key of a context's value. Its type keeps it apart from
// those of other packages.
type withoutResumeKey struct{}

// WithoutResume returns a context whose calls are not resumed. A background response
// whose stream breaks off then ends as any other stream does. It is for callers who
// poll, or who resume the stream by themselves. See [ResumeError].
func WithoutResume(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutResumeKey{}, true)
}

// mayResume reports whether the calls of a context may be resumed.
func mayResume(ctx context.Context) bool { return ctx.Value(withoutResumeKey{}) == nil }

// A resumePlan is what a payload says of a response that runs in the background. Its
// stream can be asked for again by its id, and the plan has the parameters that a
// continued stream must keep. See
// https://platform.openai.com/docs/guides/background. The payload itself is not kept
// for that.
type resumePlan struct {
	// background says that the response runs on without its stream.
	background bool
	// obfuscation is stream_options.include_obfuscation as it is written, or "" if
	// it is absent.
	obfuscation string
	include     []string // what the events are to include
	// unusable says that the payload asks for something that is not kept. A
	// continued stream would differ, so there is none.
	unusable bool

	// body is the call's. It is nil until there is a stream.
	body *resumedBody
}

// resumeMember reads one member of the payload, at its top level, and names the place
// inside it.
func (p *payloadReader) resumeMember(s *json.Scanner) place {
	key, kind := string(s.Key()), s.Kind()
	switch {
	case key == "background" && (p.resume != nil || string(s.Value()) == "true"):
		p.plan().background = string(s.Value()) == "true"
	case key == "include" && kind == json.Array:
		return inInclude
	case key == "stream_options" && kind == json.Object:
		return inStreamOptions
	}
	return nowhere
}

// plan returns the plan, which most payloads never need.
func (p *payloadReader) plan() *resumePlan {
	if p.resume == nil {
		p.resume = new(resumePlan)
	}
	return p.resume
}

// resumeDetail reads a value inside a member. What exceeds a bound makes the plan
// unusable instead of being cut.
func (p *payloadReader) resumeDetail(in place, s *json.Scanner) {
	switch in {
	case inStreamOptions:
		if string(s.Key()) == "include_obfuscation" && s.Kind() == json.Literal {
			p.plan().obfuscation = literal(s.Value())
		}
	case inInclude:
		r, name := p.plan(), json.Text(s.Value())
		if r.unusable = r.unusable || name == "" || len(name) > maxInclude || len(r.include) == maxIncludes; !r.unusable {
			r.include = append(r.include, name)
		}
	}
}

// literal returns true or false as it is written; "" if value is neither.
func literal(value []byte) string {
	switch string(value) {
	case "true":
		return "true"
	case "false":
		return "false"
	}
	return ""
}

// planned returns the plan if the payload asks for a stream that can be resumed,
// else nil. The whole payload must have been read, and it must not ask the provider
// to store nothing, because then there is nothing to come back to.
func (p *payloadReader) planned(whole bool) *resumePlan {
	if r := p.resume; r != nil && whole && r.background && !r.unusable && p.call.Stream && !p.store.off {
		return r
	}
	return nil
}

// request returns the request for the events of the response id after number n. sent
// is the POST as it went to its target. The new URL lies below that of sent, so the
// request goes to the same origin. header is that of the caller's POST: a target
// adds its own credentials anew.
func (r *resumePlan) request(ctx context.Context, sent *http.Request, header http.Header, id string, n int64) *http.Request {
	get := sent.WithContext(ctx)
	get.Method, get.URL, get.Header = http.MethodGet, r.url(sent.URL, id, n), resumingHeader(header)
	get.Body, get.GetBody, get.ContentLength = nil, nil, 0
	get.TransferEncoding, get.Trailer, get.Response = nil, nil, nil
	return get
}

// url adds the id to the path and the parameters to the query. The query of the POST
// is kept, because it may hold what the server needs, such as Azure's api-version. A
// path that was escaped in a way of its own stays so.
func (r *resumePlan) url(sent *url.URL, id string, n int64) *url.URL {
	u := *sent
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + id
	if u.RawPath != "" {
		u.RawPath = strings.TrimSuffix(u.RawPath, "/") + "/" + id
	}
	var q strings.Builder
	if u.RawQuery != "" {
		q.WriteString(u.RawQuery + "&")
	}
	q.WriteString("stream=true&starting_after=" + strconv.FormatInt(n, 10))
	for _, name := range r.include {
		q.WriteString("&include%5B%5D=" + url.QueryEscape(name))
	}
	if r.obfuscation != "" {
		q.WriteString("&include_obfuscation=" + r.obfuscation)
	}
	u.RawQuery = q.String()
	return &u
}

// resumingHeader returns the header of a POST without what belongs to its payload,
// to its repetition, or to what it accepts. An idempotency key would name another
// request, and a compressed answer could not be cut into events.
func resumingHeader(post http.Header) http.Header {
	h := make(http.Header, len(post)+1)
	for name, values := range post {
		switch canonical := textproto.CanonicalMIMEHeaderKey(name); canonical {
		case "Accept", "Accept-Encoding", "Expect", "Idempotency-Key", "X-Idempotency-Key", "X-Stainless-Retry-Count":
		default:
			if !strings.HasPrefix(canonical, "Content-") {
				h[name] = values
			}
		}
	}
	h["Accept"] = []string{"text/event-stream"}
	return h
}

// isResponseID reports whether a provider's id can stand in a path without leading
// anywhere else. The set of characters is narrow, so that nothing needs to be
// escaped.
func isResponseID(id string) bool {
	if id == "" || len(id) > 256 || id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
