package contract

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// answers is the turn that sends m whole.
func (m media) answers() turn {
	return turn{do: func(c *framedConn, id uint32) {
		c.head(id, m.contentType)
		c.data(id, m.content, true)
	}}
}

var (
	octets  = medias[0]
	refuses = func(c *framedConn, id uint32) { c.reset(id, codeRefused) }
	leaves  = func(c *framedConn, id uint32) { c.goAway(id-1, codeNone) }
)

var http2Rules = []rule{
	{name: "HTTP/2/a request refused by RST_STREAM is sent again whole", check: func(x *exam) error {
		return errors.Join(
			x.sentAgain(5000, turn{do: refuses}),
			x.sentAgain(200<<10, turn{early: true, do: refuses}))
	}},
	{name: "HTTP/2/a request above the last of a GOAWAY is sent again whole", check: func(x *exam) error {
		return errors.Join(
			x.sentAgain(5000, turn{do: leaves}),
			x.sentAgain(200<<10, turn{early: true, do: leaves}))
	}},
	{name: "HTTP/2/a request whose stream is reset before the headers is an error, or sent again whole", check: func(x *exam) error {
		return x.eachFramed(func(s *scene, k kind) error {
			for _, code := range []uint32{codeNone, codeProtocolError, codeInternalError, codeCancel} {
				err := s.frames(k, 5000, func(o outcome) error { return s.nothingOr(o, octets, nil) },
					turn{do: func(c *framedConn, id uint32) { c.reset(id, code) }}, octets.answers())
				if err != nil {
					return fmt.Errorf("code %d: %w", code, err)
				}
			}
			return nil
		})
	}},
	{name: "HTTP/2/a GOAWAY that spares the request leaves the answer alone", check: func(x *exam) error {
		return x.spared(func(c *framedConn, id uint32, m media) {
			c.goAway(id, codeNone)
			time.Sleep(time.Second)
			c.head(id, m.contentType)
			c.data(id, m.content, true)
		})
	}},
	{name: "HTTP/2/a GOAWAY amid the answer leaves the rest alone", check: func(x *exam) error {
		return x.spared(func(c *framedConn, id uint32, m media) {
			half := len(m.content) / 2
			c.head(id, m.contentType)
			c.data(id, m.content[:half], false)
			c.goAway(id, codeNone)
			time.Sleep(time.Second)
			c.data(id, m.content[half:], true)
		})
	}},
	{name: "HTTP/2/an answer that is cut off does not end as if it were whole", check: func(x *exam) error {
		return x.eachFramed(func(s *scene, k kind) error {
			for name, cut := range cuts {
				for _, m := range medias {
					err := s.frames(k, 5000, func(o outcome) error { return s.nothingOr(o, m, m.half()) },
						turn{do: func(c *framedConn, id uint32) {
							c.head(id, m.contentType)
							c.data(id, m.half(), false)
							time.Sleep(time.Millisecond)
							cut(c, id)
						}}, m.answers())
					if err != nil {
						return fmt.Errorf("%s, by %s: %w", m.contentType, name, err)
					}
				}
			}
			return nil
		})
	}},
	{name: "HTTP/2/an answer that comes before the payload's end is delivered", check: func(x *exam) error {
		return x.eachFramed(func(s *scene, k kind) error {
			return s.frames(k, 200<<10, func(o outcome) error { return s.whole(o, octets) },
				turn{early: true, do: func(c *framedConn, id uint32) {
					octets.answers().do(c, id)
					time.Sleep(time.Millisecond)
					c.reset(id, codeNone) // RFC 9113, 8.1: no more of the payload is wanted
				}})
		})
	}},
}

var cuts = map[string]func(c *framedConn, id uint32){
	"RST_STREAM, no error":       func(c *framedConn, id uint32) { c.reset(id, codeNone) },
	"RST_STREAM, internal error": func(c *framedConn, id uint32) { c.reset(id, codeInternalError) },
	"RST_STREAM, cancel":         func(c *framedConn, id uint32) { c.reset(id, codeCancel) },
	"RST_STREAM, refused":        refuses,
	"GOAWAY":                     leaves,
	"GOAWAY, internal error": func(c *framedConn, id uint32) {
		c.goAway(id, codeInternalError)
		c.cut()
	},
	"the connection's end": func(c *framedConn, _ uint32) { c.cut() },
}

// eachFramed is each, with a GET too.
func (x *exam) eachFramed(f func(s *scene, k kind) error) error {
	get := kind{name: "GET", method: http.MethodGet, path: "/v1/models", repeatable: true}
	return errors.Join(x.each(f), x.once(func(s *scene) error {
		if err := f(s, get); err != nil {
			return fmt.Errorf("%s: %w", get.name, err)
		}
		return nil
	}))
}

// sentAgain: net/http itself sends again what certainly was not processed, if
// it has the payload again. It has, where there is none or the wrapper has
// buffered it; with a key, the wrapper may have reasons to prevent it.
func (x *exam) sentAgain(size int, refused turn) error {
	return x.eachFramed(func(s *scene, k kind) error {
		for times, within := range map[int]time.Duration{1: late, 2: 1200 * time.Millisecond} { // net/http's own pauses
			turns := append(slices.Repeat([]turn{refused}, times), octets.answers())
			rt, f, end := s.overFramer(turns...)
			err := f.call(rt, k, size, func(o outcome) error {
				if k.method != http.MethodGet && (k.method != http.MethodPut || !x.is(Buffers)) {
					return s.nothingOr(o, octets, nil)
				}
				if n := len(f.seen()); n != len(turns) || o.took > within {
					return fmt.Errorf("%d requests in %v: net/http could not do it", n, o.took)
				}
				return s.whole(o, octets)
			})
			end()
			if err != nil {
				return fmt.Errorf("refused %d times: %w", times, err)
			}
		}
		return nil
	})
}

// spared: the answer arrives, though the connection is not used any more, and
// the next call finds another one.
func (x *exam) spared(answer func(c *framedConn, id uint32, m media)) error {
	return x.eachFramed(func(s *scene, k kind) error {
		for _, m := range medias {
			rt, f, end := s.overFramer(turn{do: func(c *framedConn, id uint32) { answer(c, id, m) }}, m.answers())
			for n := 1; n <= 2; n++ {
				if err := f.call(rt, k, 5000, func(o outcome) error { return s.whole(o, m) }); err != nil {
					return fmt.Errorf("%s, call %d: %w", m.contentType, n, err)
				}
				if len(f.seen()) != n || f.conns != n {
					return fmt.Errorf("%s: %d calls, %d requests, %d connections", m.contentType, n, len(f.seen()), f.conns)
				}
			}
			end()
		}
		return nil
	})
}

// frames makes a call to a framer.
func (s *scene) frames(k kind, size int, check func(o outcome) error, turns ...turn) error {
	rt, f, end := s.overFramer(turns...)
	defer end()
	return f.call(rt, k, size, check)
}

// call makes a call. Whatever becomes of it, its bytes are the caller's.
func (f *framer) call(rt http.RoundTripper, k kind, size int, check func(o outcome) error) error {
	var payload []byte
	var body *plain
	req := f.s.request(k, nil, 0)
	if k.method != http.MethodGet {
		payload = pattern(size)
		body = &plain{Reader: bytes.NewReader(payload)}
		req = f.s.request(k, body, int64(size))
	}
	o, err := f.s.call(rt, req)
	if err != nil {
		return err
	}
	if o.panicked != nil {
		return fmt.Errorf("RoundTrip panicked: %v", o.panicked)
	}
	if err := check(o); err != nil {
		return err
	}
	f.s.settle()
	if body != nil && body.closes.Load() == 0 {
		return errors.New("the caller's body is left open")
	}
	for n, r := range f.seen() {
		if err := r.has(payload); err != nil {
			return fmt.Errorf("request %d: %w", n+1, err)
		}
	}
	return nil
}

func (r *framed) has(payload []byte) error {
	if !r.whole {
		payload = payload[:min(len(payload), len(r.payload))]
	}
	return same("the payload", r.payload, payload)
}
