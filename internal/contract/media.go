package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A media is a type of content with some of it; half of it is not whole. Some
// wrappers look into what they know.
type media struct {
	contentType string
	content     []byte
}

var medias = []media{
	{"application/octet-stream", pattern(1000)},
	{"application/json", []byte(`{"choices":[{"message":{"content":"` + string(bytes.Repeat([]byte("a"), 1000)) + `"}}]}`)},
	{"text/event-stream", events()},
}

func events() []byte {
	event := []byte("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n")
	return append(bytes.Repeat(event, 20), "data: [DONE]\n\n"...)
}

func (m media) half() []byte { return m.content[:len(m.content)/2] }

// sends replies with m's type and what body returns, made anew for each attempt.
func (m media) sends(status int, body func() *download) step {
	return step{then: func(a *attempt) (*http.Response, error) {
		return a.respond(status, body(), "Content-Type: "+m.contentType), nil
	}}
}

// eachMedia is each for every type of content. Bodies must be closed in the end.
func (x *exam) eachMedia(f func(s *scene, k kind, m media) (*base, error)) error {
	return x.each(func(s *scene, k kind) error {
		for _, m := range medias {
			b, err := f(s, k, m)
			if err == nil {
				s.settle()
				err = b.unclosed()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", m.contentType, err)
			}
		}
		return nil
	})
}

var mediaRules = []rule{
	{name: "an answer of any type/has the base's bytes, and stays at io.EOF", check: func(x *exam) error {
		return x.eachMedia(func(s *scene, k kind, m media) (b *base, err error) {
			for _, like := range []*download{{}, {chunk: 7}, {joined: true}, {joined: true, chunk: 999}} {
				var rt http.RoundTripper
				rt, b = s.overBase(m.sends(200, func() *download {
					return &download{data: m.content, chunk: like.chunk, joined: like.joined}
				}))
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req)
				if err != nil || o.err != nil {
					return b, errors.Join(err, o.err)
				}
				got, err := io.ReadAll(o.resp.Body)
				if err := errors.Join(err, same("the content", got, m.content)); err != nil {
					return b, fmt.Errorf("at most %d bytes a Read, last with io.EOF %t: %w", like.chunk, like.joined, err)
				}
				for range 3 {
					if n, err := o.resp.Body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
						return b, fmt.Errorf("after io.EOF a Read returns %d, %v", n, err)
					}
				}
				if err := errors.Join(o.resp.Body.Close(), o.resp.Body.Close()); err != nil {
					return b, err
				}
			}
			return b, nil
		})
	}},
	{name: "an answer of any type/yields no more after Close", check: func(x *exam) error {
		return x.eachMedia(func(s *scene, k kind, m media) (*base, error) {
			rt, b := s.overBase(m.sends(200, func() *download { return &download{data: m.content} }))
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req)
			if err != nil || o.err != nil {
				return b, errors.Join(err, o.err)
			}
			if _, err := io.CopyN(io.Discard, o.resp.Body, 1); err != nil {
				return b, err
			}
			o.resp.Body.Close()
			if n, err := o.resp.Body.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
				return b, fmt.Errorf("after Close a Read returns %d, %v", n, err)
			}
			return b, nil
		})
	}},
	{name: "an answer of any type/that breaks off does not end as if it were whole", check: func(x *exam) error {
		return x.eachMedia(func(s *scene, k kind, m media) (b *base, err error) {
			for _, end := range []error{errBroken, io.ErrUnexpectedEOF} {
				for _, joined := range []bool{false, true} {
					var rt http.RoundTripper
					rt, b = s.overBase(
						m.sends(200, func() *download { return &download{data: m.half(), end: end, joined: joined} }),
						m.sends(200, func() *download { return &download{data: m.content} }))
					req, _ := s.post(k, pattern(100))
					o, err := s.call(rt, req)
					if err == nil {
						err = s.nothingOr(o, m, m.half())
					}
					if err != nil {
						return b, err
					}
				}
			}
			return b, nil
		})
	}},
	{name: "an answer of any type/ends with the context", check: func(x *exam) error {
		return x.eachMedia(func(s *scene, k kind, m media) (*base, error) {
			ctx, cancel := cancelIn(time.Second)
			defer cancel()
			rt, b := s.overBase(m.sends(200, func() *download { return &download{data: m.half(), stalls: true} }))
			req, _ := s.post(k, pattern(100))
			start := time.Now()
			o, err := s.call(rt, req.WithContext(ctx))
			if err != nil {
				return b, err
			}
			if err = o.err; err == nil {
				_, err = s.finish(o.resp)
			}
			if took := time.Since(start); !errors.Is(err, context.Canceled) || took > time.Second+late {
				return b, fmt.Errorf("it ends with %v after %v", err, took)
			}
			return b, nil
		})
	}},
	{name: "an answer of any type/can be closed beside a Read, which ends", check: func(x *exam) error {
		return x.awake(func(s *scene) error {
			for i, m := range append(medias, medias...) {
				if m.contentType == "application/json" {
					continue // may be held until it is whole
				}
				rt, _ := s.overBase(m.sends(200, func() *download { return &download{data: m.half(), stalls: true, beside: true} }))
				req, _ := s.post(kinds[i%len(kinds)], pattern(100))
				o, err := s.call(rt, req)
				if err != nil || o.err != nil {
					return errors.Join(err, o.err)
				}
				if err := s.closesBesideRead(o.resp.Body, time.Duration(i)*200*time.Microsecond); err != nil {
					return fmt.Errorf("%s: %w", m.contentType, err)
				}
			}
			return nil
		})
	}},
	{name: "an answer of any type/that is an error is delivered though its body does not end", check: func(x *exam) error {
		return x.eachMedia(func(s *scene, k kind, m media) (b *base, err error) {
			for _, status := range []int{400, 429, 503} {
				for _, like := range []*download{{stalls: true}, {endless: 20 * time.Millisecond}, {slow: time.Hour}} {
					var rt http.RoundTripper
					rt, b = s.overBase(m.sends(status, func() *download {
						return &download{data: m.half(), stalls: like.stalls, endless: like.endless, slow: like.slow}
					}))
					if err := s.begins(rt, k, status, m.half()); err != nil {
						return b, fmt.Errorf("%d: %w", status, err)
					}
				}
			}
			return b, nil
		})
	}},
}

// begins wants an answer, and the beginning of its content.
func (s *scene) begins(rt http.RoundTripper, k kind, status int, beginning []byte) error {
	req, _ := s.post(k, pattern(100))
	o, err := s.call(rt, req)
	if err != nil || o.err != nil {
		return errors.Join(err, o.err)
	}
	defer o.resp.Body.Close()
	if o.resp.StatusCode != status {
		return fmt.Errorf("the status is %d", o.resp.StatusCode)
	}
	got := make([]byte, len(beginning))
	if late := s.within(time.Minute, "reading the beginning", func() { _, err = io.ReadFull(o.resp.Body, got) }); late != nil {
		return late
	}
	return errors.Join(err, same("the beginning", got, beginning))
}

// whole wants an answer that is m.
func (s *scene) whole(o outcome, m media) error {
	if o.err != nil {
		return fmt.Errorf("RoundTrip: %w", o.err)
	}
	got, err := s.finish(o.resp)
	return errors.Join(err, same("the answer", got, m.content))
}

// nothingOr wants an error, after not more than begun of m, or all of m.
func (s *scene) nothingOr(o outcome, m media, begun []byte) error {
	if o.err != nil {
		return nil //nolint:nilerr // an error is as good
	}
	got, err := s.finish(o.resp)
	switch {
	case err == nil:
		return same("what ends without an error", got, m.content)
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the answer ends with %w", err)
	case !bytes.HasPrefix(begun, got):
		return fmt.Errorf("%d bytes before the end, not the %d that were sent", len(got), len(begun))
	}
	return nil
}
