package roundtrip

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

type closing struct {
	*strings.Reader

	closed int
}

func (c *closing) Close() error {
	c.closed++
	return nil
}

func newRequest(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestAResponseIsMended(t *testing.T) {
	t.Parallel()
	req, body := newRequest(t), &closing{Reader: strings.NewReader("x")}
	response, err := Mend(req, &http.Response{Body: body}, nil)
	if err != nil || response.Body != body || response.Request != req || body.closed != 0 {
		t.Errorf("%+v, %v, closed %d times", response, err, body.closed)
	}
	response, err = Mend(req, &http.Response{Request: newRequest(t)}, nil)
	if err != nil || response.Body != http.NoBody || response.Request != req {
		t.Errorf("without a body: %+v, %v", response, err)
	}
}

func TestAnErrorCountsMoreThanTheResponseBesideIt(t *testing.T) {
	t.Parallel()
	broken, body := errors.New("broken"), &closing{Reader: strings.NewReader("x")}
	for name, given := range map[string]*http.Response{"none": nil, "without a body": {}, "with a body": {Body: body}} {
		if response, err := Mend(newRequest(t), given, broken); response != nil || err != broken { //nolint:errorlint // the same value
			t.Errorf("%s: %v, %v", name, response, err)
		}
	}
	if body.closed != 1 {
		t.Errorf("the body was closed %d times", body.closed)
	}
}

func TestNeitherResponseNorErrorIsAnError(t *testing.T) {
	t.Parallel()
	if response, err := Mend(newRequest(t), nil, nil); response != nil || !errors.Is(err, ErrNoResponse) {
		t.Errorf("%v, %v", response, err)
	}
}

func TestTheBodyOfARequestIsClosedIfItHasOne(t *testing.T) {
	t.Parallel()
	req, body := newRequest(t), &closing{Reader: strings.NewReader("x")}
	req.Body = nil
	CloseBody(req)
	req.Body = body
	CloseBody(req)
	if body.closed != 1 {
		t.Errorf("closed %d times", body.closed)
	}
}

type idle struct {
	http.RoundTripper

	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

func TestIdleConnectionsAreClosedOfABaseThatHasThem(t *testing.T) {
	t.Parallel()
	base := new(idle)
	CloseIdleConnections(base)
	CloseIdleConnections(struct{ http.RoundTripper }{base})
	if base.closed != 1 {
		t.Errorf("closed %d times", base.closed)
	}
}

func TestIdempotentMethods(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{
		"": true, "GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "PUT": true, "DELETE": true,
		"POST": false, "PATCH": false, "CONNECT": false, "get": false,
	} {
		if IsIdempotent(method) != want {
			t.Errorf("%q: %v", method, !want)
		}
	}
}

func TestAMediaTypeIsReadWithoutItsParameters(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": "", "application/json": "application/json", "text/event-stream": "text/event-stream",
		" Application/JSON ": "application/json", "TEXT/event-stream; charset=utf-8": "text/event-stream",
		"text/plain;charset": "text/plain", "text/plain;;": "text/plain", ";": "",
	} {
		h := http.Header{}
		if value != "" {
			h.Set("Content-Type", value)
		}
		if got := MediaType(h); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func TestACompressedBodyIsToldByItsEncoding(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"": false, "identity": false, "Identity": false, "gzip": true, "br": true} {
		if got := IsCompressed(http.Header{"Content-Encoding": {value}}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
	if IsCompressed(nil) {
		t.Error("without a header")
	}
}
