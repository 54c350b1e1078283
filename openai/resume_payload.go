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

type withoutResumeKey struct{}

// WithoutResume returns a context whose calls are not resumed: a background
// response whose stream breaks off ends as any other stream does. It is for
// callers who poll, or take up the stream by themselves. See [ResumeError].
func WithoutResume(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutResumeKey{}, true)
}

// mayResume reports whether the calls of a context may be resumed.
func mayResume(ctx context.Context) bool { return ctx.Value(withoutResumeKey{}) == nil }

// A resumePlan is what a payload says of a response that runs in the background:
// its stream can be taken up again, and these are the parameters that it is to
// keep. See https://platform.openai.com/docs/guides/background.
type resumePlan struct {
	background  bool
	obfuscation string   // stream_options.include_obfuscation as it is written; "" if it is not
	include     []string // what the events are to include
	unusable    bool     // it asks for something that is not kept

	body *resumedBody // of the call; nil until there is a stream
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

// resumeDetail reads a value inside a member.
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

// planned returns the plan if the payload, of which all was read if whole, asks
// for a stream that can be resumed; else nil.
func (p *payloadReader) planned(whole bool) *resumePlan {
	if r := p.resume; r != nil && whole && r.background && !r.unusable && p.call.Stream && !p.store.off {
		return r
	}
	return nil
}

// request returns the request that asks for the events of the response id after
// number n. sent is the POST as it went to its target: the way back is below its
// URL, of the same origin. header is that of the caller's POST.
func (r *resumePlan) request(ctx context.Context, sent *http.Request, header http.Header, id string, n int64) *http.Request {
	get := sent.WithContext(ctx)
	get.Method, get.URL, get.Header = http.MethodGet, r.url(sent.URL, id, n), resumingHeader(header)
	get.Body, get.GetBody, get.ContentLength = nil, nil, 0
	get.TransferEncoding, get.Trailer, get.Response = nil, nil, nil
	return get
}

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

// resumingHeader returns the header of a POST without what belongs to its
// payload, to its repetition, or to what it accepts.
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

// isResponseID reports whether a provider's id can stand in a path without
// leading anywhere else.
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
