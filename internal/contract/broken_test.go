package contract

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A brokenWrapper is correct but for one flaw.
type brokenWrapper struct {
	name   string
	wrap   func(http.RoundTripper) http.RoundTripper
	opts   []Option
	breaks []string // rules; a star at the end stands for any rest
	may    []string // rules that it breaks only sometimes, depending on what comes first
}

// copied returns a shallow copy, which may be changed.
func copied(req *http.Request) *http.Request { return req.WithContext(req.Context()) }

// touching changes the caller's header when the call ends in one way.
func touching(when func(resp *http.Response, err error, panicked bool) bool) func(http.RoundTripper) http.RoundTripper {
	return afterwards(when, func(req *http.Request) { req.Header.Set("X-Touched", "1") })
}

// closing closes the caller's body once more when the call ends in one way.
func closing(when func(resp *http.Response, err error, panicked bool) bool) func(http.RoundTripper) http.RoundTripper {
	return afterwards(when, func(req *http.Request) {
		if req.Body != nil {
			req.Body.Close()
		}
	})
}

func afterwards(when func(*http.Response, error, bool) bool, do func(*http.Request)) func(http.RoundTripper) http.RoundTripper {
	return sending(func(base http.RoundTripper, req *http.Request) (resp *http.Response, err error) {
		panicked := true
		defer func() {
			if when(resp, err, panicked) {
				do(req)
			}
		}()
		resp, err = base.RoundTrip(req)
		panicked = false
		return resp, err
	})
}

func onStatus(low, high int) func(*http.Response, error, bool) bool {
	return func(resp *http.Response, _ error, _ bool) bool {
		return resp != nil && resp.StatusCode >= low && resp.StatusCode <= high
	}
}

func onError(_ *http.Response, err error, _ bool) bool { return err != nil }

func onPanic(_ *http.Response, _ error, panicked bool) bool { return panicked }

// payloadRead changes how the payload is read.
func payloadRead(read func(r io.Reader, p []byte) (int, error)) func(http.RoundTripper) http.RoundTripper {
	return changing(func(req *http.Request) *http.Request {
		if req.Body == nil || req.Body == http.NoBody {
			return req
		}
		req = copied(req)
		req.Body = &body{ReadCloser: req.Body, read: read}
		return req
	})
}

// A closeIdle forwards CloseIdleConnections in its own way.
type closeIdle struct {
	thin
	close func(base http.RoundTripper)
}

func (c *closeIdle) CloseIdleConnections() { c.close(c.base) }

func closingIdle(f func(base http.RoundTripper)) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper { return &closeIdle{thin{base: base}, f} }
}

// valueless is a context without values.
type valueless struct{ context.Context }

func (valueless) Value(any) any { return nil }

// causeless is a context that ends for no reason but its end.
type causeless struct{ context.Context }

func (c causeless) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(context.Context); ok { // how context.Cause finds it
		return nil
	}
	return value
}

// traceless is a context without httptrace.
type traceless struct{ context.Context }

func (c traceless) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}

// failing is a reader at its end, or at its error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, cmp.Or(f.err, io.EOF) }

// leaks ends the goroutines that are left on purpose.
var leaks = make(chan struct{})

var buffers = []Option{Buffers}

var broken = []brokenWrapper{
	// The caller's request.
	{name: "adds to the caller's header", wrap: changing(func(req *http.Request) *http.Request {
		req.Header.Set("X-Touched", "1")
		return req
	}), breaks: []string{"the caller's request is unchanged/*"}},
	{name: "replaces the caller's Body", wrap: changing(func(req *http.Request) *http.Request {
		if req.Body != nil {
			req.Body = &body{ReadCloser: req.Body}
		}
		return req
	}), breaks: []string{"the caller's request is unchanged/*"}},
	{name: "replaces the caller's header map by an equal one", wrap: changing(func(req *http.Request) *http.Request {
		req.Header = req.Header.Clone()
		return req
	}), breaks: []string{"the caller's request is unchanged/*"}},
	{name: "changes the caller's request and restores it", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		own, method := copied(req), req.Method
		defer func() { req.Method = method }()
		req.Method = ""
		return base.RoundTrip(own)
	}), breaks: []string{"the caller's request is unchanged/while it is being sent", "every attempt/has the caller's method, URL and Host"}},
	{
		name: "changes the caller's request after success", wrap: touching(onStatus(200, 299)),
		breaks: []string{"the caller's request is unchanged/on success", "the caller's request is unchanged/when the base misbehaves"},
	},
	{
		name: "changes the caller's request after an error status", wrap: touching(onStatus(400, 599)),
		breaks: []string{"the caller's request is unchanged/on an error status", "the caller's request is unchanged/when the base misbehaves"},
	},
	{
		name: "changes the caller's request after an error", wrap: touching(onError),
		breaks: []string{"the caller's request is unchanged/on an error of the base", "the caller's request is unchanged/when the base misbehaves"},
	},
	{
		name: "changes the caller's request after a panic", wrap: touching(onPanic),
		breaks: []string{"the caller's request is unchanged/on a panic of the base"},
	},

	// The caller's body.
	{name: "closes the caller's body again after success", wrap: closing(onStatus(200, 200)), breaks: []string{
		"the caller's body is closed exactly once/on success", "the caller's body is closed exactly once/when the base misbehaves",
		"Request.Cancel/ends the body", "calls one after the other/may use one request",
	}},
	{name: "closes the caller's body again after a 4xx", wrap: closing(onStatus(400, 499)), breaks: []string{
		"the caller's body is closed exactly once/on a 4xx", "the caller's body is closed exactly once/when the base answers without reading it",
	}},
	{name: "closes the caller's body again after a 5xx", wrap: closing(onStatus(500, 599)), breaks: []string{
		"the caller's body is closed exactly once/on a 5xx", "the caller's body is closed exactly once/when the base answers without reading it",
		"the caller's body is closed exactly once/when the context ends meanwhile", "the caller's body is closed exactly once/when the base misbehaves",
		"Request.Cancel/ends the wait between attempts",
	}},
	{
		name: "closes the caller's body again after a panic", wrap: closing(onPanic),
		breaks: []string{"the caller's body is closed exactly once/on a panic of the base"},
	},
	{name: "closes the caller's body again after an error", wrap: closing(onError), breaks: []string{
		"the caller's body is closed exactly once/on an error of the base", "the caller's body is closed exactly once/when the base misbehaves",
		"Request.Cancel/*",
		"the caller's body is closed exactly once/when the context is already over",
		"the caller's body is closed exactly once/when the context ends meanwhile",
		"the caller's body is closed exactly once/when reading it fails",
		"the caller's body is closed exactly once/when it is not as long as ContentLength says",
	}},
	{name: "never closes the caller's body", wrap: retries(flaws{leavesBody: true}), opts: buffers, breaks: []string{
		"the caller's body is closed exactly once/*", "Request.Cancel/*", "calls one after the other/may use one request",
		"over HTTP/1.1/a payload is echoed", "over HTTP/2/a payload is echoed",
	}},
	{name: "closes the caller's body twice", wrap: retries(flaws{closesTwice: true}), opts: buffers, breaks: []string{
		"the caller's body is closed exactly once/*", "Request.Cancel/*", "calls one after the other/may use one request",
	}},
	{
		name: "leaves the caller's body when the context is over", wrap: retries(flaws{leavesUnread: true}), opts: buffers,
		breaks: []string{"the caller's body is closed exactly once/when the context is already over", "Request.Cancel/is closed before the call"},
	},
	{name: "buffers only by its own account", wrap: passThrough, opts: buffers, breaks: []string{
		"the caller's body is closed exactly once/on a panic of the base that leaves it open",
		"the caller's body/that cannot be read is an error before anything is sent",
		"the caller's body/of another length than ContentLength is an error before anything is sent",
		"every attempt/offers its payload again by GetBody",
		"HTTP/2/a request refused by RST_STREAM is sent again whole", "HTTP/2/a request above the last of a GOAWAY is sent again whole",
	}},
	{name: "sends what it could read", wrap: retries(flaws{ignoresReadError: true}), opts: buffers, breaks: []string{
		"the caller's body/that cannot be read is an error and nothing whole is sent",
		"the caller's body/that cannot be read is an error before anything is sent",
	}},
	{name: "mends ContentLength", wrap: retries(flaws{ignoresLength: true}), opts: buffers, breaks: []string{
		"the caller's body/of another length than ContentLength is an error",
		"the caller's body/of another length than ContentLength is an error before anything is sent",
	}},
	{name: "takes an error with the last bytes for the end", wrap: payloadRead(func(r io.Reader, p []byte) (int, error) {
		n, err := r.Read(p)
		if n > 0 && err != nil {
			err = io.EOF
		}
		return n, err
	}), breaks: []string{"the caller's body/that cannot be read is an error and nothing whole is sent"}},
	{
		name: "asks for the payload again", wrap: retries(flaws{asksGetBody: true}), opts: buffers,
		breaks: []string{"the caller's body/is not asked for again once it has been read"},
	},
	{name: "asks for the payload again and leaves it open", wrap: retries(flaws{asksGetBody: true, leavesGetBody: true}), opts: buffers, breaks: []string{
		"the caller's body/is not asked for again once it has been read", "the caller's body/may be had again from GetBody only to be closed",
	}},

	// The payload.
	{name: "flips a bit", wrap: payloadRead(func(r io.Reader, p []byte) (int, error) {
		n, err := r.Read(p)
		if n > 0 {
			p[0] ^= 1
		}
		return n, err
	}), breaks: []string{
		"every attempt carries the caller's bytes/known length", "every attempt carries the caller's bytes/unknown length",
		"every attempt carries the caller's bytes/*", "calls beside each other/keep their bytes apart", "calls one after the other/*",
		"http.Client/follows a 307 with the same payload", "over HTTP/1.1/a payload is echoed", "over HTTP/2/a payload is echoed",
		"HTTP/2/a request whose stream is reset before the headers is an error, or sent again whole",
		"ends as well as without it/an echo", "ends as well as without it/Expect: 100-continue, and the server goes on",
	}, may: []string{"HTTP/2/*", "ends as well as without it/*"}},
	{name: "loses bytes that come with io.EOF", wrap: payloadRead(func(r io.Reader, p []byte) (int, error) {
		n, err := r.Read(p)
		if err != nil {
			return 0, err
		}
		return n, nil
	}), breaks: []string{
		"every attempt carries the caller's bytes/last bytes with io.EOF", "every attempt carries the caller's bytes/last bytes with io.EOF, unknown length",
	}},
	{name: "reads once", wrap: changing(func(req *http.Request) *http.Request {
		if req.Body == nil || req.Body == http.NoBody {
			return req
		}
		req = copied(req)
		first := true
		req.Body = &body{ReadCloser: req.Body, read: func(r io.Reader, p []byte) (int, error) {
			if !first {
				return 0, io.EOF
			}
			n, err := r.Read(p)
			first = n == 0
			return n, err
		}}
		return req
	}), breaks: []string{
		"every attempt carries the caller's bytes/*", "calls beside each other/keep their bytes apart", "every attempt/sends the Trailer*",
		"the caller's body/*", "http.Client/follows a 307 with the same payload", "over HTTP/1.1/*", "over HTTP/2/*",
	}},
	{name: "sends something for nothing", wrap: changing(func(req *http.Request) *http.Request {
		if req.Method == http.MethodGet || req.Body != nil && req.Body != http.NoBody {
			return req
		}
		req = copied(req)
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
		return req
	}), breaks: []string{"every attempt carries the caller's bytes/http.NoBody", "every attempt carries the caller's bytes/no body"}},
	{name: "takes ContentLength 0 for no body", wrap: changing(func(req *http.Request) *http.Request {
		if req.Body != nil && req.ContentLength == 0 {
			req.Body.Close()
			req = copied(req)
			req.Body = http.NoBody
		}
		return req
	}), breaks: []string{"every attempt carries the caller's bytes/unknown length said as zero"}},
	{name: "refuses an empty body", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		if u, ok := req.Body.(*upload); ok && len(u.data) < 2 {
			req.Body.Close()
			return nil, errors.New("empty payload")
		}
		return base.RoundTrip(req)
	}), breaks: []string{
		"every attempt carries the caller's bytes/empty", "every attempt carries the caller's bytes/empty of unknown length",
		"every attempt carries the caller's bytes/one byte", "calls one after the other/*", "calls beside each other/do not wait for each other",
	}},
	{
		name: "one reader for all attempts", wrap: retries(flaws{sharesReader: true}), opts: buffers,
		breaks: []string{"every attempt carries the caller's bytes/whatever becomes of the attempt before"},
	},
	{
		name: "one reader for all of GetBody", wrap: retries(flaws{sharesGetBody: true}), opts: buffers,
		breaks: []string{
			"every attempt carries the caller's bytes/GetBody yields them again",
			"HTTP/2/a request refused by RST_STREAM is sent again whole", "HTTP/2/a request above the last of a GOAWAY is sent again whole",
		},
		may: []string{"HTTP/2/a request whose stream is reset before the headers is an error, or sent again whole"},
	},
	{name: "forgets ContentLength", wrap: retries(flaws{forgetsLength: true}), opts: buffers, breaks: []string{
		"every attempt carries the caller's bytes/known length", "every attempt carries the caller's bytes/one byte",
		"every attempt carries the caller's bytes/70 KiB", "every attempt carries the caller's bytes/short reads",
		"every attempt carries the caller's bytes/last bytes with io.EOF", "every attempt carries the caller's bytes/unknown length said as zero",
	}},

	// What the base receives.
	{name: "drops the caller's context and Request.Cancel", wrap: changing(func(req *http.Request) *http.Request {
		req = req.WithContext(context.Background())
		req.Cancel = nil //nolint:staticcheck // the flaw
		return req
	}), breaks: []string{
		"an answer of any type/ends with the context",
		"Request.Cancel/is closed before the call", "Request.Cancel/ends an attempt, and no other follows", "Request.Cancel/ends the body",
		"every attempt/has a context that ends with the caller's", "every attempt/has the values of the caller's context", "the context/*",
		"every attempt/has a context that ends for the caller's cause", "every attempt/tells the caller's httptrace",
		"the caller's body is closed exactly once/when the context ends meanwhile",
		"http.Client/times out while it waits for headers", "http.Client/times out in the body",
		"over HTTP/1.1/a cancelled call ends at the server", "over HTTP/2/a cancelled call ends at the server",
		"over HTTP/1.1/no goroutine is left", "over HTTP/2/no goroutine is left",
	}},
	{name: "ends the attempt's context without the cause", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req.WithContext(causeless{req.Context()}))
		if over := overFor(req); err != nil && over != nil {
			err = over
		}
		return resp, err
	}), breaks: []string{"every attempt/has a context that ends for the caller's cause"}},
	{name: "puts its own httptrace in the place of the caller's", wrap: changing(func(req *http.Request) *http.Request {
		return req.WithContext(traceless{req.Context()})
	}), breaks: []string{"every attempt/tells the caller's httptrace"}},
	{name: "drops Request.Cancel", wrap: changing(func(req *http.Request) *http.Request {
		req = copied(req)
		req.Cancel = nil //nolint:staticcheck // the flaw
		return req
	}), breaks: []string{
		"Request.Cancel/is closed before the call", "Request.Cancel/ends an attempt, and no other follows", "Request.Cancel/ends the body",
	}},
	{
		name: "offers no GetBody", wrap: retries(flaws{noGetBody: true}), opts: buffers,
		breaks: []string{
			"every attempt/offers its payload again by GetBody",
			"HTTP/2/a request refused by RST_STREAM is sent again whole", "HTTP/2/a request above the last of a GOAWAY is sent again whole",
		},
	},
	{name: "drops the values of the caller's context", wrap: changing(func(req *http.Request) *http.Request {
		return req.WithContext(valueless{req.Context()})
	}), breaks: []string{
		"every attempt/has the values of the caller's context", "every attempt/tells the caller's httptrace",
		"every attempt/has a context that ends for the caller's cause", "the context/is over with a cause, which the error shows",
	}},
	{name: "adds a header field", wrap: changing(func(req *http.Request) *http.Request {
		req = req.Clone(req.Context())
		req.Header.Set("X-Added", "1")
		return req
	}), breaks: []string{
		"every attempt/has the caller's header", "every attempt/sends the Trailer that is set while the body is read",
		"over HTTP/1.1/trailers arrive", "over HTTP/2/trailers arrive",
	}},
	{name: "keeps one value a header field", wrap: changing(func(req *http.Request) *http.Request {
		req = copied(req)
		req.Header = req.Header.Clone()
		for name := range req.Header {
			req.Header.Set(name, req.Header.Get(name))
		}
		return req
	}), breaks: []string{"every attempt/has the caller's header"}},
	{name: "drops Host", wrap: changing(func(req *http.Request) *http.Request {
		req = copied(req)
		req.Host = ""
		return req
	}), breaks: []string{"every attempt/has the caller's method, URL and Host"}},
	{
		name: "buffers what waits for the server", wrap: retries(flaws{buffersUpgrades: true}), opts: buffers,
		breaks: []string{"every attempt/is under way before a body is read that waits for it"},
	},

	// The response.
	{name: "copies the response", wrap: answering(func(_ *http.Request, resp *http.Response) *http.Response {
		c := *resp
		return &c
	}), breaks: []string{"the response/is one the base made, not a copy", "the response/shows trailers that are written after its body"}},
	{name: "names its own request", wrap: answering(func(req *http.Request, resp *http.Response) *http.Response {
		resp.Request = copied(req)
		return resp
	}), breaks: []string{"the response/names the caller's request"}},
	{name: "makes an error of a 404", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil && resp != nil && resp.StatusCode == http.StatusNotFound {
			resp.Body.Close()
			return nil, errors.New("not found")
		}
		return resp, err
	}), breaks: []string{"the response/is never turned into an error", "the response/is one the base made, not a copy"}},
	{name: "makes an error of the last response", wrap: retries(flaws{lastIsError: true}), opts: buffers, breaks: []string{
		"an answer of any type/that is an error is delivered though its body does not end",
		"the response/is never turned into an error", "the response/is one the base made, not a copy", "the response/names the caller's request",
		"the response's body/*", "a response given up/delays nothing*", "a base that misbehaves/returns a response without a body",
	}},
	{name: "loses the io.Writer of an upgrade", wrap: answering(func(_ *http.Request, resp *http.Response) *http.Response {
		resp.Body = &body{ReadCloser: resp.Body}
		return resp
	}), breaks: []string{"the response/of an upgrade keeps a body that can be written", "over HTTP/1.1/an upgraded connection is written and read"}},
	{name: "removes Location", wrap: answering(func(_ *http.Request, resp *http.Response) *http.Response {
		resp.Header.Del("Location")
		return resp
	}), breaks: []string{"http.Client/follows a 307 with the same payload", "ends as well as without it/redirects"}},

	// The response's body.
	{name: "loses bytes that come with an error", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		return &body{ReadCloser: b, read: func(r io.Reader, p []byte) (int, error) {
			n, err := r.Read(p)
			if err != nil {
				n = 0
			}
			return n, err
		}}
	}), breaks: []string{
		"the response's body/has the base's bytes", "the response's body/passes a read error on, after the bytes before it", "over HTTP/1.1/*",
		"an answer of any type/has the base's bytes, and stays at io.EOF",
	}},
	{name: "ends a broken body with io.EOF", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		return &body{ReadCloser: b, read: func(r io.Reader, p []byte) (int, error) {
			n, err := r.Read(p)
			if err != nil {
				err = io.EOF
			}
			return n, err
		}}
	}), breaks: []string{
		"the response's body/passes a read error on, after the bytes before it", "the response's body/yields no more after Close",
		"an answer of any type/that breaks off does not end as if it were whole", "an answer of any type/yields no more after Close",
		"an answer of any type/ends with the context", "an answer of any type/can be closed beside a Read, which ends",
		"the response's body/can be closed beside a Read, which ends", "the context/is cancelled while the body is read",
		"http.Client/times out in the body", "Request.Cancel/ends the body", "HTTP/2/an answer that is cut off does not end as if it were whole",
		"over HTTP/1.1/Close ends a pending Read", "over HTTP/2/Close ends a pending Read",
	}},
	{name: "hands bytes over late", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		return &body{ReadCloser: b, read: func(r io.Reader, p []byte) (int, error) {
			n, err := io.ReadAtLeast(r, p, min(len(p), 20))
			if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
				err = nil
			}
			return n, err
		}}
	}), breaks: []string{
		"the response's body/arrives as it comes",
	}},
	{name: "forgets io.EOF", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		ended := false
		return &body{ReadCloser: b, read: func(r io.Reader, p []byte) (int, error) {
			if ended {
				return 0, errors.New("already read")
			}
			n, err := r.Read(p)
			ended = err == io.EOF
			return n, err
		}}
	}), breaks: []string{"the response's body/stays at io.EOF", "an answer of any type/has the base's bytes, and stays at io.EOF"}},
	{name: "does not pass Close on", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		return &body{ReadCloser: b, close: func(io.Closer) error { return nil }}
	}), breaks: []string{
		"an answer of any type/*",
		"the response's body/is closed by Close", "the response's body/yields no more after Close", "the response's body/can be closed beside a Read, which ends",
		"a response given up/*", "http.Client/follows a 307 with the same payload",
		"over HTTP/1.1/an abandoned body ends at the server", "over HTTP/2/an abandoned body ends at the server",
		"over HTTP/1.1/Close ends a pending Read", "over HTTP/2/Close ends a pending Read",
		"over HTTP/1.1/no goroutine is left", "over HTTP/2/no goroutine is left",
	}},
	{name: "yields what it has buffered after Close", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		buffered := bufio.NewReader(b)
		return &body{ReadCloser: b, read: func(_ io.Reader, p []byte) (int, error) { return buffered.Read(p) }}
	}), breaks: []string{"the response's body/yields no more after Close", "an answer of any type/yields no more after Close"}},
	{name: "cannot be closed twice", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		var closed atomic.Bool
		return &body{ReadCloser: b, close: func(c io.Closer) error {
			if closed.Swap(true) {
				return errors.New("closed already")
			}
			return c.Close()
		}}
	}), breaks: []string{"an answer of any type/has the base's bytes, and stays at io.EOF", "the response's body/can be closed twice"}},
	{name: "closes only when no Read is pending", wrap: reading(func(b io.ReadCloser) io.ReadCloser {
		var mu sync.Mutex
		return &body{
			ReadCloser: b,
			read: func(r io.Reader, p []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return r.Read(p)
			},
			close: func(c io.Closer) error {
				mu.Lock()
				defer mu.Unlock()
				return c.Close()
			},
		}
	}), breaks: []string{
		"the response's body/can be closed beside a Read, which ends", "an answer of any type/can be closed beside a Read, which ends",
		"over HTTP/1.1/Close ends a pending Read", "over HTTP/2/Close ends a pending Read",
	}},
	{name: "reads an error to its end before it hands it over", wrap: answering(func(_ *http.Request, resp *http.Response) *http.Response {
		if resp.StatusCode < 400 || resp.Header.Get("Content-Type") != "application/json" {
			return resp
		}
		content, err := io.ReadAll(resp.Body)
		again := io.MultiReader(bytes.NewReader(content), failing{err})
		resp.Body = &body{ReadCloser: resp.Body, read: func(_ io.Reader, p []byte) (int, error) { return again.Read(p) }}
		return resp
	}), breaks: []string{"an answer of any type/that is an error is delivered though its body does not end"}},

	// Responses given up.
	{name: "leaves the responses it gives up", wrap: retries(flaws{leavesAll: true}), opts: buffers, breaks: []string{
		"an answer of any type/that is an error is delivered though its body does not end", "a response given up/*",
	}},
	{
		name: "leaves a response when the next attempt fails", wrap: retries(flaws{leavesOnError: true}), opts: buffers,
		breaks: []string{"a response given up/is closed when the next attempt fails", "a response given up/is closed when the context ends"},
	},
	{
		name: "leaves a response when the next attempt panics", wrap: retries(flaws{leavesOnPanic: true}), opts: buffers,
		breaks: []string{"a response given up/is closed when the next attempt panics"},
	},
	{
		name: "leaves a response when the context ends", wrap: retries(flaws{leavesOnEnd: true}), opts: buffers,
		breaks: []string{"a response given up/is closed when the context ends"},
	},
	{name: "drains without an end", wrap: retries(flaws{drainsAll: true}), opts: buffers, breaks: []string{
		"an answer of any type/that is an error is delivered though its body does not end",
		"a response given up/delays nothing when its body never ends", "a response given up/delays nothing when its body stalls",
	}},
	{name: "closes beside its own Read", wrap: retries(flaws{closesBeside: true}), opts: buffers, breaks: []string{
		"an answer of any type/that is an error is delivered though its body does not end",
		"a response given up/delays nothing when its Close is slow", "a response given up/delays no end of the context when its Close is slow",
		"a response given up/delays nothing when its body never ends", "a response given up/delays nothing when its body stalls",
	}},

	{name: "waits for the Close of what it gives up", wrap: retries(flaws{waitsForClose: true}), opts: buffers, breaks: []string{
		"an answer of any type/that is an error is delivered though its body does not end",
		"a response given up/delays nothing when its Close is slow", "a response given up/delays no end of the context when its Close is slow",
	}},

	// The base.
	{name: "passes everything on", wrap: func(base http.RoundTripper) http.RoundTripper { return base }, breaks: []string{
		"a base that misbehaves/returns a response without a body", "a base that misbehaves/returns neither response nor error",
		"a base that misbehaves/returns both response and error", "a base that misbehaves/returns an error and a response without a body",
	}},
	{name: "closes what is not there", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if resp != nil && err != nil {
			resp.Body.Close()
			resp = nil
		}
		return resp, err
	}), breaks: []string{"a base that misbehaves/returns an error and a response without a body"}},
	{name: "keeps its place after a panic", wrap: func(base http.RoundTripper) http.RoundTripper {
		places := make(chan struct{}, 3)
		return sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
			places <- struct{}{}
			resp, err := base.RoundTrip(req)
			<-places
			return resp, err
		})(base)
	}, breaks: []string{"a base that misbehaves/panics, and later calls go through"}, may: []string{"calls beside each other/*"}},
	{name: "makes an error of a panic", wrap: sending(func(base http.RoundTripper, req *http.Request) (resp *http.Response, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		return base.RoundTrip(req)
	}), breaks: []string{"a base that misbehaves/panics, and the panic goes on"}},
	{
		name: "swallows CloseIdleConnections", wrap: closingIdle(func(http.RoundTripper) {}),
		breaks: []string{"CloseIdleConnections/reaches the base once"},
	},
	{name: "passes CloseIdleConnections on twice", wrap: closingIdle(func(base http.RoundTripper) {
		for range 2 {
			(&http.Client{Transport: base}).CloseIdleConnections()
		}
	}), breaks: []string{"CloseIdleConnections/reaches the base once"}},
	{name: "takes CloseIdleConnections for granted", wrap: closingIdle(func(base http.RoundTripper) {
		base.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	}), breaks: []string{"CloseIdleConnections/is harmless over a base without it"}},

	// The context.
	{name: "has its own error for a context that is over", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if req.Context().Err() != nil && err != nil {
			return nil, errors.New("cancelled")
		}
		return resp, err
	}), breaks: []string{
		"the context/is over before the call", "the context/is cancelled during the attempt", "the context/is over with a cause, which the error shows",
		"the context/reaches its deadline, which is a timeout for http.Client",
		"over HTTP/1.1/a cancelled call ends at the server", "over HTTP/2/a cancelled call ends at the server",
		"over HTTP/1.1/no goroutine is left", "over HTTP/2/no goroutine is left",
	}, may: []string{"http.Client/times out while it waits for headers"}},
	{name: "hides why the context ended", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if ctx := req.Context(); err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		return resp, err
	}), breaks: []string{"the context/is over with a cause, which the error shows"}},
	{name: "hides that an error is a timeout", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		return resp, err
	}), breaks: []string{"the context/reaches its deadline, which is a timeout for http.Client"}, may: []string{"http.Client/times out while it waits for headers"}},
	{name: "sleeps on when the context ends", wrap: retries(flaws{sleepsOn: true}), opts: buffers, breaks: []string{
		"the context/is cancelled between attempts", "http.Client/times out between attempts", "Request.Cancel/ends the wait between attempts",
		"a response given up/delays no end of the context when its Close is slow",
	}},
	{
		name: "has its own error for the end of a wait", wrap: retries(flaws{losesCause: true}), opts: buffers,
		breaks: []string{"the context/is cancelled between attempts", "the context/is over with a cause, which the error shows"},
		may:    []string{"a response given up/delays no end of the context when its Close is slow"},
	},
	{
		name: "waits on when Request.Cancel is closed", wrap: retries(flaws{ignoresCancel: true}), opts: buffers,
		breaks: []string{"Request.Cancel/ends the wait between attempts"},
	},

	// Calls beside and after each other.
	{name: "makes one call at a time", wrap: func(base http.RoundTripper) http.RoundTripper {
		turn := make(chan struct{}, 1)
		return sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
			turn <- struct{}{}
			defer func() { <-turn }()
			return base.RoundTrip(req)
		})(base)
	}, breaks: []string{"calls beside each other/do not wait for each other"}},
	{name: "mixes calls up", wrap: func(base http.RoundTripper) http.RoundTripper {
		var inside atomic.Int32
		return sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil && resp != nil && resp.StatusCode == 200 {
				inside.Add(1)
				time.Sleep(time.Millisecond)
				if inside.Add(-1) > 0 {
					resp.Body = &body{ReadCloser: resp.Body, read: func(r io.Reader, p []byte) (int, error) {
						n, err := r.Read(p)
						clear(p[:n])
						return n, err
					}}
				}
			}
			return resp, err
		})(base)
	}, breaks: []string{"calls beside each other/keep their bytes apart"}},
	{name: "knows a request again", wrap: func(base http.RoundTripper) http.RoundTripper {
		var known sync.Map
		return sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
			if _, again := known.LoadOrStore(req, true); again {
				if req.Body != nil {
					req.Body.Close()
				}
				return nil, errors.New("sent already")
			}
			return base.RoundTrip(req)
		})(base)
	}, breaks: []string{"calls one after the other/may use one request"}},

	// Memory.
	{name: "keeps the payload for as long as the answer", wrap: retries(flaws{keepsPayload: true}), opts: buffers, breaks: []string{
		"memory/the payload is let go while the answer is still read",
	}},
	{name: "remembers its last request", wrap: func(base http.RoundTripper) http.RoundTripper {
		var last atomic.Pointer[http.Request]
		return changing(func(req *http.Request) *http.Request {
			last.Store(req)
			return req
		})(base)
	}, breaks: []string{"memory/nothing of a call is kept once it is over"}},
	{name: "leaves a timer", wrap: changing(func(req *http.Request) *http.Request {
		time.AfterFunc(time.Minute, func() { req.Context() })
		return req
	}), breaks: []string{"memory/nothing of a call is kept once it is over"}},
	{name: "never cancels its context", wrap: changing(func(req *http.Request) *http.Request {
		ctx, cancel := context.WithCancelCause(req.Context())
		_ = cancel
		return req.WithContext(ctx)
	}), breaks: []string{"memory/nothing of a call is kept once it is over", "memory/nothing of a call is kept once it has got its connection"}},
	{name: "cancels its context with the body only", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		ctx, cancel := context.WithCancelCause(req.Context())
		over := false
		defer func() {
			if !over {
				cancel(nil) // the base failed
			}
		}()
		resp, err := base.RoundTrip(req.WithContext(ctx))
		if err != nil || resp == nil {
			return resp, err
		}
		over = true
		if resp.StatusCode == http.StatusSwitchingProtocols || resp.Body == nil {
			return resp, nil
		}
		end := func(err error) error {
			if err != nil {
				cancel(nil)
			}
			return err
		}
		resp.Body = &body{
			ReadCloser: resp.Body,
			read: func(r io.Reader, p []byte) (int, error) {
				n, err := r.Read(p)
				return n, end(err)
			},
			close: func(c io.Closer) error {
				defer cancel(nil)
				return c.Close()
			},
		}
		return resp, nil
	}), breaks: []string{"memory/nothing of a call is kept once it has got its connection"}},

	// What net/http does by itself.
	{name: "keeps the caller's GetBody to itself", wrap: changing(func(req *http.Request) *http.Request {
		req = copied(req)
		req.GetBody = nil
		return req
	}), breaks: []string{
		"ends as well as without it/a connection that broke while it was idle", "ends as well as without it/a connection that is closed as the request arrives",
		"ends as well as without it/HTTP/2/GOAWAY", "ends as well as without it/HTTP/2/GOAWAY amid the payload",
		"ends as well as without it/HTTP/2/REFUSED_STREAM", "ends as well as without it/HTTP/2/REFUSED_STREAM amid the payload",
		"ends as well as without it/HTTP/2/RST_STREAM before the headers",
	}},
	{name: "sends again what may have arrived", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil || req.GetBody == nil {
			return resp, err
		}
		again := copied(req)
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		return base.RoundTrip(again)
	}), breaks: []string{
		"ends as well as without it/a connection that is closed as the request arrives",
		"ends as well as without it/HTTP/2/RST_STREAM before the headers",
	}},
	{name: "shuts a server out that has failed once", wrap: func(base http.RoundTripper) http.RoundTripper {
		var failed atomic.Bool
		return sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
			if failed.Load() {
				if req.Body != nil {
					req.Body.Close()
				}
				return nil, errors.New("shut out")
			}
			resp, err := base.RoundTrip(req)
			if err != nil {
				failed.Store(true)
			}
			return resp, err
		})(base)
	}, breaks: []string{"ends as well as without it/a server that restarts"}},
	{name: "sends a GET twice, to be sure", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err != nil || req.Method != http.MethodGet || req.Header.Get("Upgrade") != "" {
			return resp, err
		}
		if again, err := base.RoundTrip(req); err == nil {
			again.Body.Close()
		}
		return resp, nil
	}), breaks: []string{"ends as well as without it/one connection for all calls"}, may: []string{"ends as well as without it/*"}},
	{name: "does not ask before it sends", wrap: changing(func(req *http.Request) *http.Request {
		if strings.HasPrefix(req.URL.Path, "/v1/things") || req.Header.Get("Expect") == "" {
			return req
		}
		req = req.Clone(req.Context())
		req.Header.Del("Expect")
		return req
	}), breaks: []string{"ends as well as without it/Expect: 100-continue, and the server declines"}, may: []string{"ends as well as without it/*"}},
	{name: "drops the Trailer", wrap: changing(func(req *http.Request) *http.Request {
		req = copied(req)
		req.Trailer = nil
		return req
	}), breaks: []string{
		"ends as well as without it/trailers", "every attempt/sends the Trailer that is set while the body is read",
		"over HTTP/1.1/trailers arrive", "over HTTP/2/trailers arrive",
	}},
	{name: "takes its time", wrap: changing(func(req *http.Request) *http.Request {
		time.Sleep(50 * time.Millisecond)
		return req
	}), breaks: []string{"ends as well as without it/*"}, may: []string{"*"}},

	// The network.
	{name: "sends a request again because the answer is slow", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		start := time.Now()
		resp, err := base.RoundTrip(req)
		if err != nil || time.Since(start) < 500*time.Millisecond || req.Method != http.MethodGet {
			return resp, err
		}
		resp.Body.Close()
		return base.RoundTrip(req)
	}), breaks: []string{"HTTP/2/a GOAWAY that spares the request leaves the answer alone"}, may: []string{"HTTP/2/*"}},
	{name: "ends a stream of events that is silent for a while", wrap: answering(func(_ *http.Request, resp *http.Response) *http.Response {
		if resp.Header.Get("Content-Type") != "text/event-stream" {
			return resp
		}
		resp.Body = &body{ReadCloser: resp.Body, read: func(r io.Reader, p []byte) (int, error) {
			start := time.Now()
			n, err := r.Read(p)
			if time.Since(start) > 500*time.Millisecond {
				return 0, errors.New("too slow")
			}
			return n, err
		}}
		return resp
	}), breaks: []string{"an answer of any type/ends with the context", "HTTP/2/a GOAWAY amid the answer leaves the rest alone"}},
	{name: "makes an error of an answer that comes before the payload's end", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		var read atomic.Int64
		length := req.ContentLength
		if length > 100<<10 && strings.HasSuffix(req.URL.Host, ".test") {
			req = copied(req)
			req.Body = &body{ReadCloser: req.Body, read: func(r io.Reader, p []byte) (int, error) {
				n, err := r.Read(p)
				read.Add(int64(n))
				return n, err
			}}
		} else {
			read.Store(length)
		}
		resp, err := base.RoundTrip(req)
		if err == nil && resp != nil && read.Load() < length {
			resp.Body.Close()
			return nil, errors.New("the payload was not read")
		}
		return resp, err
	}), breaks: []string{
		"HTTP/2/an answer that comes before the payload's end is delivered",
		"ends as well as without it/an upload that is answered early", "ends as well as without it/HTTP/2/an upload that is answered early",
	}, may: []string{"ends as well as without it/HTTP/2/*"}},
	{name: "ends the payload with the headers", wrap: sending(func(base http.RoundTripper, req *http.Request) (*http.Response, error) {
		if req.Body == nil || req.Body == http.NoBody {
			return base.RoundTrip(req)
		}
		var over atomic.Bool
		req = copied(req)
		req.Body = &body{ReadCloser: req.Body, read: func(r io.Reader, p []byte) (int, error) {
			if over.Load() {
				return 0, errors.New("the call is over")
			}
			return r.Read(p)
		}}
		defer over.Store(true)
		return base.RoundTrip(req)
	}), breaks: []string{
		"over HTTP/1.1/an answer is read while the payload is still sent", "over HTTP/2/an answer is read while the payload is still sent",
	}, may: []string{"over HTTP/*"}},
	{name: "uses a connection once", wrap: changing(func(req *http.Request) *http.Request {
		if req.Header.Get("Upgrade") != "" {
			return req
		}
		req = copied(req)
		req.Close = true
		return req
	}), breaks: []string{"over HTTP/1.1/20 calls share a connection", "over HTTP/2/20 calls share a connection"}},
	{name: "leaves a goroutine", wrap: changing(func(req *http.Request) *http.Request {
		if strings.HasPrefix(req.URL.Host, "127.") {
			go func() { <-leaks }()
		}
		return req
	}), breaks: []string{"over HTTP/1.1/no goroutine is left", "over HTTP/2/no goroutine is left"}},
}
