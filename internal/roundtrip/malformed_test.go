package roundtrip

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

var errDialled = errors.New("dialled")

// dialled sends req through net/http and reports whether a connection was asked
// for.
func dialled(req *http.Request) bool {
	base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errDialled }}
	response, err := base.RoundTrip(req)
	if err == nil {
		_ = response.Body.Close()
	}
	return errors.Is(err, errDialled)
}

func TestAMalformedRequestIsOneThatNetHTTPRefuses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change    func(*http.Request)
		malformed bool
	}{
		"nothing special":        {func(*http.Request) {}, false},
		"no method":              {func(r *http.Request) { r.Method = "" }, false},
		"a method of one's own":  {func(r *http.Request) { r.Method = "P!#T" }, false},
		"a method with a space":  {func(r *http.Request) { r.Method = "P T" }, true},
		"another scheme":         {func(r *http.Request) { r.URL.Scheme = "ftp" }, true},
		"no scheme":              {func(r *http.Request) { r.URL.Scheme = "" }, true},
		"no host":                {func(r *http.Request) { r.URL.Host = "" }, true},
		"no headers at all":      {func(r *http.Request) { r.Header = nil }, true},
		"an empty header name":   {func(r *http.Request) { r.Header[""] = []string{"x"} }, true},
		"a space in a name":      {func(r *http.Request) { r.Header["a b"] = []string{"x"} }, true},
		"a line end in a value":  {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x\n") }, true},
		"DEL in a value":         {func(r *http.Request) { r.Header.Set("A", "x\x7f") }, true},
		"a tab in a value":       {func(r *http.Request) { r.Header.Set("A", "x\ty") }, false},
		"a value beyond ASCII":   {func(r *http.Request) { r.Header.Set("A", "ä\xff") }, false},
		"a space in a trailer":   {func(r *http.Request) { r.Trailer = http.Header{"a b": nil} }, true},
		"a payload not yet said": {func(r *http.Request) { r.ContentLength = -1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com/a?b=c", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			row.change(req)
			if got := IsMalformed(req); got != row.malformed {
				t.Errorf("IsMalformed = %v", got)
			}
			if got := dialled(req); got == row.malformed {
				t.Errorf("net/http would send it: %v", got)
			}
		})
	}
}

// What net/http finds out only when it writes.
func TestAMalformedRequestMayBeFoundOutLate(t *testing.T) {
	t.Parallel()
	for name, req := range map[string]*http.Request{
		"a control character in the URL":       {Header: http.Header{}, URL: &url.URL{Scheme: "http", Host: "example.com", Opaque: "//example.com/\n"}},
		"a control character in the query":     {Header: http.Header{}, URL: &url.URL{Scheme: "http", Host: "example.com", RawQuery: "a=\x7f"}},
		"a length without a body":              {Header: http.Header{}, URL: &url.URL{Scheme: "http", Host: "example.com"}, ContentLength: 1, Method: http.MethodPost},
		"no URL, which others find out before": {Header: http.Header{}},
	} {
		if !IsMalformed(req) {
			t.Errorf("%s: IsMalformed = false", name)
		}
		if req.URL == nil {
			continue
		}
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
		response, err := base.RoundTrip(req.WithContext(t.Context()))
		if err == nil {
			_ = response.Body.Close()
			t.Errorf("%s: net/http sends it", name)
		}
	}
}
