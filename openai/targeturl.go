package openai

import (
	"net/http"
	"net/url"
	"strings"
)

// modelInPath is what stands in a BaseURL's path for the name of the model there. Azure
// has the name of a deployment in the path, so that a base URL alone is not enough.
const modelInPath = "{model}"

// A targetPlace is where a target's requests go: its BaseURL, parsed once. It keeps the
// path as it is escaped, because an escaped slash is not the same as a plain one.
type targetPlace struct {
	scheme, host string
	path         string // escaped, without its last slash
	query        string // sent with each request, for example an api-version
	named        bool   // the path has modelInPath
}

// placeOf parses a BaseURL. Its scheme is in lower case, so that it compares with others.
func placeOf(base string) (targetPlace, error) {
	u, err := url.Parse(base)
	if err != nil {
		return targetPlace{}, err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	named := strings.Contains(u.Path, modelInPath)
	return targetPlace{scheme: strings.ToLower(u.Scheme), host: u.Host, path: path, query: u.RawQuery, named: named}, nil
}

// escapedModel is modelInPath in an escaped path, where braces are not allowed (RFC
// 3986, section 3.3).
var escapedModel = url.PathEscape(modelInPath)

// url returns the URL of a request there. It has nothing of the caller's but the tail
// and the query that messages need, because the rest may hold a key. It reports false
// if the path would not name a model: an empty name, . and .. would make another path
// of it. The name is escaped, so that a slash in it stays one segment, and RawPath
// keeps that escaping.
func (p *targetPlace) url(tail, model string, beta bool) (*url.URL, bool) {
	escaped := p.path + "/" + tail
	if p.named {
		if model == "" || model == "." || model == ".." {
			return nil, false
		}
		escaped = strings.ReplaceAll(escaped, escapedModel, url.PathEscape(model))
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, false
	}
	u := &url.URL{Scheme: p.scheme, Host: p.host, Path: path, RawQuery: p.query}
	if path != escaped {
		u.RawPath = escaped
	}
	if beta {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&beta=true", "&")
	}
	return u, true
}

// tailOf returns the part of a request's path that the table of endpoints knows, such as
// chat/completions. It is "" if the request can't go anywhere else: only an endpoint
// that may be repeated, and whose payload is understood, means the same elsewhere.
// What stands before the tail belongs to the caller's server.
func tailOf(req *http.Request) string {
	path := strings.TrimSuffix(req.URL.Path, "/")
	rest, tail := cutLast(path)
	_, parent := cutLast(rest)
	for i := range endpoints {
		r := &endpoints[i]
		if !r.matches(parent, tail, req.Header) {
			continue
		}
		if !r.repeat || !r.inspect || !isPlainSegment(tail) {
			return ""
		}
		if r.parent == "" {
			return tail
		}
		return parent + "/" + tail
	}
	return ""
}

// isPlainSegment reports whether a segment means the same to every server: it has
// nothing that could be escaped, or be a dot segment. The tail of an endpoint that is
// known by its parent, such as images/edits, is what the caller wrote, and is joined to a
// URL that carries the target's credentials.
func isPlainSegment(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return s != ""
}

// isBeta reports whether a query asks for beta=true, as Anthropic's SDKs do. It is the
// only part of a caller's query that goes along.
func isBeta(query string) bool {
	for query != "" {
		var part string
		part, query, _ = strings.Cut(query, "&")
		if part == "beta=true" {
			return true
		}
	}
	return false
}

// isOrigin reports whether two URLs have the same origin (RFC 6454), which compares
// scheme, host and port, with a default port written out or not. In doubt they have
// not: the price is a missing header, where a leaked key would be the other one.
func isOrigin(a *url.URL, scheme, host string) bool {
	if strings.EqualFold(a.Scheme, scheme) && strings.EqualFold(a.Host, host) {
		return true
	}
	b := &url.URL{Scheme: strings.ToLower(scheme), Host: host}
	return strings.EqualFold(a.Scheme, scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}
