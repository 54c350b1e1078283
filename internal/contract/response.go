package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

var responseRules = []rule{
	{name: "the response/is one the base made, not a copy", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 204, 400, 404, 503} {
				rt, b := s.overBase(replies(status, "ok"))
				req, _ := s.post(k, pattern(100))
				resp, _, err := s.answer(rt, req)
				if err != nil {
					return err
				}
				if !slices.Contains(b.made(), resp) {
					return fmt.Errorf("%d: the response is none of the base's", status)
				}
			}
			return nil
		})
	}},
	{name: "the response/names the caller's request", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 400, 503} {
				rt, _ := s.overBase(replies(status, "ok"))
				req, _ := s.post(k, pattern(100))
				resp, _, err := s.answer(rt, req)
				if err != nil {
					return err
				}
				if resp.Request != req {
					return fmt.Errorf("%d: Response.Request is not the caller's request", status)
				}
			}
			return nil
		})
	}},
	{name: "the response/shows trailers that are written after its body", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				d := &download{data: []byte("ok")}
				resp := a.respond(200, d)
				d.atEOF = func() { resp.Trailer = http.Header{"X-Sum": {"42"}} } // as net/http's HTTP/2 does
				return resp, nil
			}})
			req, _ := s.post(k, pattern(100))
			resp, _, err := s.answer(rt, req)
			if err == nil && resp.Trailer.Get("X-Sum") != "42" {
				err = errors.New("the trailer is missing")
			}
			return err
		})
	}},
	{name: "the response/is never turned into an error", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			content := pattern(3000)
			for _, status := range []int{400, 401, 404, 408, 429, 500, 501, 503} {
				rt, _ := s.overBase(replies(status, string(content), "X-Id: 7"))
				req, _ := s.post(k, pattern(100))
				resp, got, err := s.answer(rt, req)
				if err != nil {
					return fmt.Errorf("%d: %w", status, err)
				}
				if resp.StatusCode != status || resp.Header.Get("X-Id") != "7" {
					return fmt.Errorf("%d, X-Id 7 arrives as %d, X-Id %s", status, resp.StatusCode, resp.Header.Get("X-Id"))
				}
				if err := same(fmt.Sprintf("content of the %d", status), got, content); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "the response/of an upgrade keeps a body that can be written", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			d, peer := newDuplex()
			defer peer.Close()
			rt, _ := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				resp := a.respond(http.StatusSwitchingProtocols, nil, "Connection: Upgrade", "Upgrade: echo")
				resp.Body = d
				return resp, nil
			}})
			req := s.request(kind{method: http.MethodGet, path: "/v1/realtime"}, nil, 0)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "echo")
			o, err := s.call(rt, req)
			if err != nil || o.err != nil {
				return errors.Join(err, o.err)
			}
			go io.Copy(peer, peer) //nolint:errcheck // it ends when either side is closed
			if err := s.converse(o.resp); err != nil {
				return err
			}
			o.resp.Body.Close()
			s.settle()
			if d.closes.Load() == 0 {
				return errors.New("Close does not reach the connection")
			}
			return nil
		})
	}},
}

// converse sends something over an upgraded connection and wants it back.
func (s *scene) converse(resp *http.Response) error {
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d instead of 101", resp.StatusCode)
	}
	rw, ok := resp.Body.(io.ReadWriter)
	if !ok {
		return fmt.Errorf("the body, a %T, is not an io.Writer", resp.Body)
	}
	got := make([]byte, 4)
	var err error
	late := s.within(5*time.Second, "the conversation", func() {
		for range 3 {
			if _, err = rw.Write([]byte("ping")); err != nil {
				return
			}
			if _, err = io.ReadFull(rw, got); err != nil {
				return
			}
		}
	})
	if late != nil {
		return late
	}
	if err != nil {
		return err
	}
	return same("the echo", got, []byte("ping"))
}

// A duplex is the body of an upgraded connection.
type duplex struct {
	net.Conn
	closes atomic.Int32
}

func newDuplex() (body *duplex, peer net.Conn) {
	here, there := net.Pipe()
	return &duplex{Conn: here}, there
}

func (d *duplex) Close() error {
	d.closes.Add(1)
	return d.Conn.Close()
}

var bodyRules = []rule{
	{name: "the response's body/has the base's bytes", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, size := range []int{0, 1, 1000, 70 << 10} {
				for _, d := range []*download{{}, {chunk: 7}, {joined: true}, {joined: true, chunk: 999}} {
					content := pattern(size)
					rt, _ := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
						return a.respond(200, &download{data: content, chunk: d.chunk, joined: d.joined}), nil
					}})
					req, _ := s.post(k, pattern(100))
					_, got, err := s.answer(rt, req)
					if err == nil {
						err = same("the content", got, content)
					}
					if err != nil {
						return fmt.Errorf("%d bytes, at most %d a Read, last with io.EOF %t: %w", size, d.chunk, d.joined, err)
					}
				}
			}
			return nil
		})
	}},
	{name: "the response's body/arrives as it comes", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			gate := make(chan struct{})
			rt, _ := s.overBase(sends(200, func() *download {
				return &download{data: pattern(20), chunk: 10, gate: gate}
			}))
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req)
			if err != nil || o.err != nil {
				return errors.Join(err, o.err)
			}
			defer o.resp.Body.Close()
			var first []byte
			if err := s.within(time.Minute, "reading the first bytes", func() {
				for len(first) < 10 {
					p := make([]byte, 1000)
					n, err := o.resp.Body.Read(p)
					if first = append(first, p[:n]...); err != nil {
						s.fault("the first bytes: %w", err)
						return
					}
				}
			}); err != nil {
				return err
			}
			close(gate)
			rest, err := s.finish(o.resp)
			if err != nil {
				return err
			}
			return same("the content", slices.Concat(first, rest), pattern(20))
		})
	}},
	{name: "the response's body/passes a read error on, after the bytes before it", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 400, 503} {
				for _, end := range []error{errBroken, io.ErrUnexpectedEOF} {
					for _, joined := range []bool{false, true} {
						content := pattern(1000)
						rt, _ := s.overBase(sends(status, func() *download {
							return &download{data: content, end: end, joined: joined}
						}))
						req, _ := s.post(k, pattern(100))
						resp, got, err := s.answer(rt, req)
						if resp == nil {
							return err
						}
						if !errors.Is(err, end) {
							return fmt.Errorf("%d: the body ends with %v, not with %w", status, err, end)
						}
						if err := same(fmt.Sprintf("%d: what came with the error (%t) or before", status, joined), got, content); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
	}},
	{name: "the response's body/stays at io.EOF", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 400, 503} {
				rt, _ := s.overBase(replies(status, "ok"))
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req)
				if err != nil || o.err != nil {
					return errors.Join(err, o.err)
				}
				if _, err := io.ReadAll(o.resp.Body); err != nil {
					return err
				}
				for range 3 {
					if n, err := o.resp.Body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
						return fmt.Errorf("%d: after io.EOF a Read returns %d, %v", status, n, err)
					}
				}
				o.resp.Body.Close()
			}
			return nil
		})
	}},
	{name: "the response's body/is closed by Close", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 400, 503} {
				for _, read := range []int64{0, 1, 1000} {
					rt, b := s.overBase(replies(status, string(pattern(100))))
					req, _ := s.post(k, pattern(100))
					o, err := s.call(rt, req)
					if err != nil || o.err != nil {
						return errors.Join(err, o.err)
					}
					if _, err := io.CopyN(io.Discard, o.resp.Body, read); err != nil && err != io.EOF { //nolint:errorlint // CopyN's own
						return err
					}
					o.resp.Body.Close()
					s.settle()
					last := b.seen()[len(b.seen())-1]
					if last.body.closed() == 0 {
						return fmt.Errorf("%d, after %d bytes: Close does not reach the base's body", status, read)
					}
				}
			}
			return nil
		})
	}},
	{name: "the response's body/yields no more after Close", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 400, 503} {
				for _, read := range []int64{0, 1} {
					rt, _ := s.overBase(replies(status, string(pattern(100))))
					req, _ := s.post(k, pattern(100))
					o, err := s.call(rt, req)
					if err != nil || o.err != nil {
						return errors.Join(err, o.err)
					}
					if _, err := io.CopyN(io.Discard, o.resp.Body, read); err != nil {
						return err
					}
					o.resp.Body.Close()
					n, err := o.resp.Body.Read(make([]byte, 10))
					if n != 0 || err == nil || err == io.EOF { //nolint:errorlint // readers compare
						return fmt.Errorf("%d: after Close a Read returns %d, %v", status, n, err)
					}
				}
			}
			return nil
		})
	}},
	{name: "the response's body/can be closed twice", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 400, 503} {
				for _, read := range []bool{false, true} {
					rt, _ := s.overBase(replies(status, "ok"))
					req, _ := s.post(k, pattern(100))
					o, err := s.call(rt, req)
					if err != nil || o.err != nil {
						return errors.Join(err, o.err)
					}
					if read {
						if _, err := io.ReadAll(o.resp.Body); err != nil {
							return err
						}
					}
					if err := errors.Join(o.resp.Body.Close(), o.resp.Body.Close()); err != nil {
						return fmt.Errorf("%d: %w", status, err)
					}
				}
			}
			return nil
		})
	}},
	{name: "the response's body/can be closed beside a Read, which ends", check: func(x *exam) error {
		return x.awake(func(s *scene) error {
			for i := range 20 {
				k := kinds[i%len(kinds)]
				rt, _ := s.overBase(sends(200, func() *download {
					return &download{data: pattern(10), stalls: true, beside: true}
				}))
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req)
				if err != nil || o.err != nil {
					return errors.Join(err, o.err)
				}
				if err := s.closesBesideRead(o.resp.Body, time.Duration(i%5)*200*time.Microsecond); err != nil {
					return err
				}
			}
			return nil
		})
	}},
}

// closesBesideRead reads the body to its end and meanwhile closes it.
func (s *scene) closesBesideRead(body io.ReadCloser, meanwhile time.Duration) error {
	read := aside(func() error {
		_, err := io.Copy(io.Discard, body)
		return err
	})
	time.Sleep(meanwhile)
	if err := s.within(s.soon, "Close beside a Read", func() { body.Close() }); err != nil {
		return err
	}
	timer := time.NewTimer(s.soon)
	defer timer.Stop()
	select {
	case err := <-read:
		if err == nil {
			return errors.New("the Read ended as if the body were complete")
		}
		return nil
	case <-timer.C:
		return errors.New("the Read has not ended after Close")
	}
}

// awake checks f in real time: what waits for a mutex stops virtual time.
func (x *exam) awake(f func(s *scene) error) error {
	s := &scene{wrap: x.wrap, soon: x.soon, over: make(chan struct{})}
	return s.verdict(s.play(f))
}

var givenUpRules = []rule{
	{name: "a response given up/is closed", check: func(x *exam) error {
		return x.givesUp(nil, [][]step{
			{replies(503, "down"), replies(200, "ok")},
			{replies(429, "now", "Retry-After: 0"), replies(500, string(pattern(100<<10))), replies(200, "ok")},
			{replies(503, "down"), replies(400, "no")},
			{replies(503, "down")},
		})
	}},
	{name: "a response given up/is closed when the next attempt fails", check: func(x *exam) error {
		return x.givesUp(nil, [][]step{{replies(503, "down"), fails(errRefused)}, {replies(503, "down"), fails(errBroken)}})
	}},
	{name: "a response given up/is closed when the next attempt panics", check: func(x *exam) error {
		return x.givesUp(nil, [][]step{{replies(503, "down"), panics()}})
	}},
	{name: "a response given up/is closed when the context ends", check: func(x *exam) error {
		return x.givesUp(func() (context.Context, context.CancelFunc) { return cancelIn(time.Second) }, [][]step{
			{replies(503, "down", "Retry-After: 20")},
			{replies(503, "down"), hangs()},
		})
	}},
	{name: "a response given up/delays nothing when its body never ends", check: func(x *exam) error {
		return x.troublesome(func() *download { return &download{data: pattern(100), endless: 20 * time.Millisecond} })
	}},
	{name: "a response given up/delays nothing when its body stalls", check: func(x *exam) error {
		return x.troublesome(func() *download { return &download{data: pattern(100), stalls: true} })
	}},
	{name: "a response given up/delays nothing when its Close is slow", check: func(x *exam) error {
		return x.troublesome(func() *download { return &download{data: pattern(100), slow: time.Hour} })
	}},
	{name: "a response given up/delays no end of the context when its Close is slow", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			ctx, cancel := cancelIn(300 * time.Millisecond)
			defer cancel()
			rt, b := s.overBase(sends(503, func() *download { return &download{data: pattern(100), slow: time.Hour} }), hangs())
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req.WithContext(ctx))
			if err != nil || o.resp != nil && len(b.seen()) == 1 {
				return err // it does not retry
			}
			return ended(o, context.Canceled, 300*time.Millisecond+late)
		})
	}},
}

func (x *exam) givesUp(limited func() (context.Context, context.CancelFunc), scripts [][]step) error {
	return x.each(func(s *scene, k kind) error {
		for i, script := range scripts {
			rt, b := s.overBase(script...)
			req, _ := s.post(k, pattern(100))
			if limited != nil {
				ctx, cancel := limited()
				defer cancel()
				req = req.WithContext(ctx)
			}
			o, err := s.call(rt, req)
			if err != nil {
				return err
			}
			s.discard(o)
			s.settle()
			if err := b.unclosed(); err != nil {
				return fmt.Errorf("case %d: %w", i+1, err)
			}
		}
		return nil
	})
}

// troublesome answers with a body that cannot be read to its end. The pace of
// the attempts is the wrapper's, so the bound is generous.
func (x *exam) troublesome(body func() *download) error {
	return x.each(func(s *scene, k kind) error {
		for _, script := range [][]step{{sends(503, body), replies(200, "ok")}, {sends(503, body)}} {
			rt, b := s.overBase(script...)
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req)
			if err != nil || o.err != nil {
				return errors.Join(err, o.err)
			}
			if o.took > 2*time.Minute {
				return fmt.Errorf("the answer takes %v, %d attempts", o.took, len(b.seen()))
			}
			if o.resp.StatusCode == 503 {
				got := make([]byte, 100)
				if err := s.within(time.Minute, "reading the last response", func() {
					if _, err := io.ReadFull(o.resp.Body, got); err != nil {
						s.fault("the last response: %w", err)
					}
				}); err != nil {
					return err
				}
				if err := same("the last response's beginning", got, pattern(100)); err != nil {
					return err
				}
			}
			o.resp.Body.Close()
			s.settle()
			if err := b.unclosed(); err != nil {
				return err
			}
		}
		return nil
	})
}
