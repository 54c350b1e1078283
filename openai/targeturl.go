package openai

import (
	"net/http"
	"net/url"
	"strings"
)

// modelInPath is what stands in a BaseURL's path for the name of the model there.
const modelInPath = "{model}"

// A targetPlace is where a target's requests go.
type targetPlace struct {
	scheme, host string
	path         string // escaped, without its last slash
	query        string
	named        bool // the path has modelInPath
}

// placeOf returns where BaseURL says that requests go.
func placeOf(base string) (targetPlace, error) {
	u, err := url.Parse(base)
	if err != nil {
		return targetPlace{}, err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	named := strings.Contains(u.Path, modelInPath)
	return targetPlace{scheme: strings.ToLower(u.Scheme), host: u.Host, path: path, query: u.RawQuery, named: named}, nil
}

// escapedModel is modelInPath in an escaped path.
var escapedModel = url.PathEscape(modelInPath)

// url returns the URL of a request there. Nothing of the caller's is in it but the
// tail, and the query that messages need.
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

// tailOf returns the part of a request's path that the table of endpoints knows, as
// chat/completions; "" if the request can't go anywhere else.
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

// isPlainSegment reports whether a segment means the same to every server.
func isPlainSegment(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return s != ""
}

// isBeta reports whether a query asks for beta=true, as Anthropic's SDKs do.
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

// isOrigin reports whether two URLs have the same origin (RFC 6454). In doubt they
// have not.
func isOrigin(a *url.URL, scheme, host string) bool {
	if strings.EqualFold(a.Scheme, scheme) && strings.EqualFold(a.Host, host) {
		return true
	}
	b := &url.URL{Scheme: strings.ToLower(scheme), Host: host}
	return strings.EqualFold(a.Scheme, scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}
