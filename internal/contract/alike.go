package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// An ending is how one call ended for its caller.
type ending struct {
	status  int
	content []byte
	trailer string
	err     error
}

// A course is what happened when calls were made in one way.
type course struct {
	calls    []ending
	requests int           // that reached the server
	took     time.Duration // until the last call was over
}

// asWell returns an error if what the wrapper made of calls is worse than what
// net/http made of them: a call that ended well must have the same answer, no
// later, after no more requests than it took before. A call that failed may end
// better, but not by being repeated if it may be sent once only.
func (got course) asWell(plain course, once bool) error {
	for i, want := range plain.calls {
		call := got.calls[i]
		switch {
		case want.err != nil:
		case call.err != nil:
			return fmt.Errorf("call %d fails, where net/http's is answered with %d: %w", i+1, want.status, call.err)
		case call.status != want.status || call.trailer != want.trailer:
			return fmt.Errorf("call %d is answered with %d %q, net/http's with %d %q", i+1, call.status, call.trailer, want.status, want.trailer)
		default:
			if err := same(fmt.Sprintf("the answer to call %d", i+1), call.content, want.content); err != nil {
				return err
			}
		}
	}
	failed := slices.ContainsFunc(plain.calls, func(e ending) bool { return e.err != nil })
	switch {
	case got.requests > plain.requests && (!failed || once):
		return fmt.Errorf("%d requests, where net/http sends %d", got.requests, plain.requests)
	case got.took > plain.took+late && !failed:
		return fmt.Errorf("it takes %v, net/http %v", got.took, plain.took)
	}
	return nil
}

// unrepeatable reports whether nobody has a reason to send a request again that
// may have arrived.
func (k kind) unrepeatable() bool {
	return !k.repeatable && k.path != repeatedPath
}

// bodies are the ways to give a payload that net/http treats differently.
var bodies = []struct {
	name string
	give func(req *http.Request, payload []byte)
}{
	{"as http.NewRequest has it", func(req *http.Request, payload []byte) {
		req.Body = io.NopCloser(bytes.NewReader(payload))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
	}},
	{"without GetBody", func(req *http.Request, payload []byte) { req.Body = &plain{Reader: bytes.NewReader(payload)} }},
	{"of unknown length", func(req *http.Request, payload []byte) {
		req.Body, req.ContentLength = &plain{Reader: bytes.NewReader(payload)}, -1
	}},
}

// A play makes calls with requests of one kind.
type play func(s *scene, request func(size int) *http.Request) course

// alike plays twice, over the wrapper and over nothing.
func (x *exam) alike(p play) error {
	get := kind{name: "GET", method: http.MethodGet, path: "/v1/models", repeatable: true}
	var errs []error
	for _, k := range append(slices.Clone(x.kinds), get) {
		for i, b := range bodies {
			if k.method == http.MethodGet && i > 0 {
				break // it has none
			}
			perform := func(wrap func(http.RoundTripper) http.RoundTripper) (c course, err error) {
				err = bubble(x.t, &x.wait, func(s *scene) error {
					s.wrap = wrap
					start := time.Now()
					c = p(s, func(size int) *http.Request { return s.given(k, size, b.give) })
					if c.took == 0 {
						c.took = time.Since(start)
					}
					s.settle()
					return nil
				})
				return c, err
			}
			plain, err := perform(func(base http.RoundTripper) http.RoundTripper { return base })
			if err != nil {
				return fmt.Errorf("without a wrapper: %w", err)
			}
			got, err := perform(x.wrap)
			if err == nil {
				err = got.asWell(plain, k.unrepeatable() && !x.is(RepeatsAll))
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s, a body %s: %w", k.name, b.name, err))
			}
			if errors.Is(err, errHangs) {
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

// given returns a request of k with a payload of that size.
func (s *scene) given(k kind, size int, give func(req *http.Request, payload []byte)) *http.Request {
	req := s.request(k, nil, 0)
	if k.method != http.MethodGet {
		req.ContentLength = int64(size)
		give(req, pattern(size))
	}
	return req
}

// end makes a call and reads its answer to the end.
func (s *scene) end(rt http.RoundTripper, req *http.Request) (e ending) {
	o, err := s.call(rt, req)
	switch {
	case err != nil:
		return ending{err: err}
	case o.panicked != nil:
		return ending{err: fmt.Errorf("RoundTrip panicked: %v", o.panicked)}
	case o.err != nil:
		return ending{err: o.err}
	}
	e.status = o.resp.StatusCode
	e.content, e.err = s.finish(o.resp)
	e.trailer = o.resp.Trailer.Get("X-Answer")
	return e
}

// plays are the scenes in which net/http repairs something by itself, or has to
// be left alone to do what it does.
var plays = []struct {
	name string
	play play
}{
	{"an echo", func(s *scene, request func(int) *http.Request) course {
		rt, w := s.overWire(echoes)
		var c course
		for _, size := range []int{1, 100, 70 << 10} {
			c.calls = append(c.calls, s.end(rt, request(size)))
		}
		c.requests = w.seen()
		return c
	}},
	{"trailers", func(s *scene, request func(int) *http.Request) course {
		rt, w := s.overWire(func(c *wireConn) {
			req, _, ok := c.read()
			if !ok {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Answer\r\n\r\n"+ //nolint:errcheck // the client notices
				"2\r\nok\r\n0\r\nX-Answer: "+req.Trailer.Get("X-Question")+"!\r\n\r\n")
		})
		req := request(100)
		if req.Body != nil {
			req.Trailer = http.Header{"X-Question": {"why"}}
			req.ContentLength = -1
		}
		return course{calls: []ending{s.end(rt, req)}, requests: w.seen()}
	}},
	{"a connection that broke while it was idle", func(s *scene, request func(int) *http.Request) course {
		return s.second(request, func(c *wireConn) { // it is written in vain
			c.client.mu.Lock()
			c.client.broken = true
			c.client.mu.Unlock()
			c.next()
		})
	}},
	{"a connection that is closed as the request arrives", func(s *scene, request func(int) *http.Request) course {
		return s.second(request, func(c *wireConn) { c.read() })
	}},
	{"a server that restarts", restarts},
	{"one connection for all calls", func(s *scene, request func(int) *http.Request) course {
		rt, w := s.overWire(func(c *wireConn) {
			for {
				if _, _, ok := c.read(); !ok {
					return
				}
				time.Sleep(100 * time.Millisecond)
				c.reply(http.StatusOK, "ok")
			}
		}, func(base *http.Transport) { base.MaxConnsPerHost = 1 })
		return course{calls: s.beside(6, func() ending { return s.end(rt, request(100)) }), requests: w.seen()}
	}},
	{"an upload that is answered early", func(s *scene, request func(int) *http.Request) course {
		rt, w := s.overWire(func(c *wireConn) {
			if req := c.next(); req != nil {
				io.ReadFull(req.Body, make([]byte, 1000)) //nolint:errcheck // there may be less
				c.reply(http.StatusRequestEntityTooLarge, "too large", "Connection: close")
				time.Sleep(time.Minute) // nobody reads the rest
			}
		})
		return course{calls: []ending{s.end(rt, request(200<<10))}, requests: w.seen()}
	}},
	{"Expect: 100-continue, and the server goes on", func(s *scene, request func(int) *http.Request) course {
		return s.expects(request, func(c *wireConn, req *http.Request) {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n") //nolint:errcheck // the client notices
			payload, _ := io.ReadAll(req.Body)
			c.reply(http.StatusOK, string(payload))
		})
	}},
	{"Expect: 100-continue, and the server declines", func(s *scene, request func(int) *http.Request) course {
		return s.expects(request, func(c *wireConn, _ *http.Request) {
			c.reply(http.StatusExpectationFailed, "no", "Connection: close")
			_, err := c.reader.ReadByte() // until the client has gone
			if err == nil {
				s.fault("the payload is sent, though the server has declined it")
			}
		})
	}},
	{"redirects", func(s *scene, request func(int) *http.Request) course {
		rt, w := s.overWire(func(c *wireConn) {
			for {
				req, payload, ok := c.read()
				if !ok {
					return
				}
				if code, err := strconv.Atoi(req.Header.Get("X-Redirect")); err == nil && req.URL.Path != "/v1/moved" {
					c.reply(code, "there", "Location: /v1/moved")
					continue
				}
				c.reply(http.StatusOK, req.Method+" "+string(payload))
			}
		})
		client := clientTrip{&http.Client{Transport: rt}}
		var c course
		for code := 301; code <= 308; code++ {
			if code == 304 || code == 305 || code == 306 {
				continue
			}
			req := request(5000)
			req.Header.Set("X-Redirect", strconv.Itoa(code))
			c.calls = append(c.calls, s.end(client, req))
		}
		c.requests = w.seen()
		return c
	}},
	{"HTTP/2/GOAWAY", framed2(turn{do: leaves})},
	{"HTTP/2/GOAWAY amid the payload", framed2(turn{early: true, do: leaves})},
	{"HTTP/2/REFUSED_STREAM", framed2(turn{do: refuses})},
	{"HTTP/2/REFUSED_STREAM amid the payload", framed2(turn{early: true, do: refuses})},
	{"HTTP/2/RST_STREAM before the headers", func(s *scene, request func(int) *http.Request) course {
		var all course
		for _, code := range []uint32{codeNone, codeProtocolError, codeInternalError, codeCancel} {
			one := framed2(turn{do: func(c *framedConn, id uint32) { c.reset(id, code) }})(s, request)
			all.calls, all.requests = append(all.calls, one.calls...), all.requests+one.requests
		}
		return all
	}},
	{"HTTP/2/an upload that is answered early", framed2(turn{early: true, do: func(c *framedConn, id uint32) {
		octets.answers().do(c, id)
		time.Sleep(time.Millisecond)
		c.reset(id, codeNone) // RFC 9113, 8.1: no more of the payload is wanted
	}})},
}

// second makes two calls, the second of which finds a connection to which, once
// the first was answered, something happens. Other connections echo.
func (s *scene) second(request func(int) *http.Request, happens func(c *wireConn)) course {
	rt, w := s.overWire(func(c *wireConn) {
		if c.number > 1 {
			echoes(c)
			return
		}
		req, payload, ok := c.read()
		if !ok {
			return
		}
		c.reply(http.StatusOK, req.Method+" "+string(payload))
		happens(c)
	})
	var c course
	for range 2 {
		c.calls = append(c.calls, s.end(rt, request(100)))
		time.Sleep(time.Second) // the connection is idle
	}
	c.requests = w.seen()
	return c
}

// restarts has three calls in flight when the server goes, and three more once
// it is back.
func restarts(s *scene, request func(int) *http.Request) course {
	rt, w := s.overWire(func(c *wireConn) {
		for {
			if _, _, ok := c.read(); !ok {
				return
			}
			time.Sleep(time.Second)
			c.reply(http.StatusOK, "ok")
		}
	})
	time.AfterFunc(500*time.Millisecond, w.stop)
	time.AfterFunc(700*time.Millisecond, w.goOn)
	before := s.beside(3, func() ending { return s.end(rt, request(100)) })
	time.Sleep(time.Second)
	after := s.beside(3, func() ending { return s.end(rt, request(100)) })
	return course{calls: append(before, after...), requests: w.seen()}
}

// expects makes a call that waits for 100 Continue.
func (s *scene) expects(request func(int) *http.Request, answer func(c *wireConn, req *http.Request)) course {
	rt, w := s.overWire(func(c *wireConn) {
		if req := c.next(); req != nil {
			answer(c, req)
		}
	})
	req := request(5000)
	req.Header.Set("Expect", "100-continue")
	return course{calls: []ending{s.end(rt, req)}, requests: w.seen()}
}

// beside makes n calls at once.
func (s *scene) beside(n int, call func() ending) []ending {
	ended := make([]ending, n)
	s.crowd(n, func(i int) error { //nolint:errcheck // none is returned
		ended[i] = call()
		return nil
	})
	return ended
}

// framed2 makes a call to an HTTP/2 server which takes a turn, and answers what
// is sent again.
func framed2(t turn) play {
	return func(s *scene, request func(int) *http.Request) course {
		rt, f, end := s.overFramer(t, octets.answers())
		defer end()
		return course{calls: []ending{s.end(rt, request(200<<10))}, requests: len(f.seen())}
	}
}

// alikeRules compare a wrapper with none.
func alikeRules() []rule {
	var rules []rule
	for _, p := range plays {
		rules = append(rules, rule{name: "ends as well as without it/" + p.name, check: func(x *exam) error { return x.alike(p.play) }})
	}
	return rules
}
