package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A snapshot is all that is exported of a request, and its context.
type snapshot struct {
	req    *http.Request
	ctx    context.Context
	fields map[string]any
	deep   map[string]any // copies of what fields refer to
}

func snap(req *http.Request) snapshot {
	sn := snapshot{req: req, ctx: req.Context(), fields: identities(req), deep: map[string]any{
		"Header":           req.Header.Clone(),
		"Trailer":          req.Trailer.Clone(),
		"TransferEncoding": slices.Clone(req.TransferEncoding),
	}}
	u := *req.URL
	sn.deep["URL"] = &u
	return sn
}

// identities tells for each exported field which value it is, not only that it is an equal one.
func identities(req *http.Request) map[string]any {
	ids := map[string]any{}
	v := reflect.ValueOf(req).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		switch f.Type.Kind() {
		case reflect.Map, reflect.Func, reflect.Slice:
			ids[f.Name] = v.Field(i).Pointer()
		default:
			ids[f.Name] = v.Field(i).Interface()
		}
	}
	return ids
}

// changed returns an error that names the fields which are no longer as they were.
func (sn snapshot) changed() error {
	var errs []error
	if sn.req.Context() != sn.ctx {
		errs = append(errs, errors.New("the request's context is changed"))
	}
	now := identities(sn.req)
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if now[name] != sn.fields[name] {
			errs = append(errs, fmt.Errorf("the request's %s is another one", name))
		}
	}
	v := reflect.ValueOf(sn.req).Elem()
	for _, name := range slices.Sorted(maps.Keys(sn.deep)) {
		if got := v.FieldByName(name).Interface(); !reflect.DeepEqual(got, sn.deep[name]) {
			errs = append(errs, fmt.Errorf("the request's %s is %v, was %v", name, got, sn.deep[name]))
		}
	}
	return errors.Join(errs...)
}

// errRefused is what net/http's errors look like when nobody listens.
var errRefused = fmt.Errorf("contract: dial: %w", syscall.ECONNREFUSED)

var requestRules = []rule{
	{name: "the caller's request is unchanged/on success", check: func(x *exam) error {
		return x.unchanged(replies(200, "ok"), replies(204, ""))
	}},
	{name: "the caller's request is unchanged/on an error status", check: func(x *exam) error {
		return x.unchanged(replies(400, "no"), replies(429, "later"), replies(429, "now", "Retry-After: 0"), replies(503, "down"))
	}},
	{name: "the caller's request is unchanged/on an error of the base", check: func(x *exam) error {
		return x.unchanged(fails(errBroken), fails(errRefused))
	}},
	{name: "the caller's request is unchanged/on a panic of the base", check: func(x *exam) error {
		return x.unchanged(panics())
	}},
	{name: "the caller's request is unchanged/when the base misbehaves", check: func(x *exam) error {
		return x.unchanged(nothing(), both(503, errBroken), bare(200), bare(503))
	}},
	{name: "the caller's request is unchanged/while it is being sent", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			b := s.base(replies(503, "down"), replies(200, "ok"))
			rt := s.wrap(b)
			req, _ := s.post(k, pattern(100))
			before := snap(req)
			b.look = func(*attempt) {
				if err := before.changed(); err != nil {
					s.fault("%w", err)
				}
			}
			o, err := s.call(rt, req)
			s.discard(o)
			return err
		})
	}},
}

func (x *exam) unchanged(steps ...step) error {
	return x.each(func(s *scene, k kind) error {
		for _, st := range steps {
			rt, _ := s.overBase(st)
			req, _ := s.post(k, pattern(100))
			req.GetBody = func() (io.ReadCloser, error) { return &upload{s: s, data: pattern(100)}, nil }
			before := snap(req)
			o, err := s.trip(rt, req)
			if err != nil {
				return err
			}
			early := before.changed()
			s.discard(o)
			s.settle()
			if err := errors.Join(early, before.changed()); err != nil {
				return err
			}
		}
		return nil
	})
}

var closeRules = []rule{
	{name: "the caller's body is closed exactly once/on success", check: func(x *exam) error {
		return x.closedOnce(nil, replies(200, "ok"), replies(204, ""))
	}},
	{name: "the caller's body is closed exactly once/on a 4xx", check: func(x *exam) error {
		return x.closedOnce(nil, replies(400, "no"), replies(429, "later"), replies(429, "now", "Retry-After: 0"))
	}},
	{name: "the caller's body is closed exactly once/on a 5xx", check: func(x *exam) error {
		return x.closedOnce(nil, replies(500, "oops"), replies(503, "down"))
	}},
	{name: "the caller's body is closed exactly once/on an error of the base", check: func(x *exam) error {
		return x.closedOnce(nil, fails(errBroken), fails(errRefused))
	}},
	{name: "the caller's body is closed exactly once/on a panic of the base", check: func(x *exam) error {
		return x.closedOnce(nil, panics())
	}},
	{name: "the caller's body is closed exactly once/on a panic of the base that leaves it open", buffers: true, check: func(x *exam) error {
		open := panics()
		open.open = true
		return x.closedOnce(func(k kind, _ *http.Request, _ *upload) bool { return k.repeatable }, open)
	}},
	{name: "the caller's body is closed exactly once/when the base misbehaves", check: func(x *exam) error {
		return x.closedOnce(nil, nothing(), both(503, errBroken), bare(200), bare(503))
	}},
	{name: "the caller's body is closed exactly once/when the base answers without reading it", check: func(x *exam) error {
		early, refused := replies(413, "too large"), replies(503, "down")
		early.unread, refused.unread = true, true
		return x.closedOnce(nil, early, refused)
	}},
	{name: "the caller's body is closed exactly once/when the context is already over", check: func(x *exam) error {
		return x.closedOnce(func(_ kind, req *http.Request, _ *upload) bool {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			*req = *req.WithContext(ctx)
			return true
		}, replies(200, "ok"))
	}},
	{name: "the caller's body is closed exactly once/when the context ends meanwhile", check: func(x *exam) error {
		return x.closedOnce(func(_ kind, req *http.Request, _ *upload) bool {
			ctx, _ := cancelIn(time.Second)
			*req = *req.WithContext(ctx)
			return true
		}, hangs(), replies(503, "down", "Retry-After: 20"))
	}},
	{name: "the caller's body is closed exactly once/when reading it fails", check: func(x *exam) error {
		return x.closedOnce(func(_ kind, _ *http.Request, u *upload) bool {
			u.fail, u.data = errBroken, u.data[:50]
			return true
		}, replies(200, "ok"))
	}},
	{name: "the caller's body is closed exactly once/when it is not as long as ContentLength says", check: func(x *exam) error {
		return errors.Join(
			x.closedOnce(func(_ kind, req *http.Request, _ *upload) bool { req.ContentLength++; return true }, replies(200, "ok")),
			x.closedOnce(func(_ kind, req *http.Request, _ *upload) bool { req.ContentLength--; return true }, replies(200, "ok")))
	}},
}

// closedOnce makes a call for each step; prepare may change it or say that the
// rule does not hold for it.
func (x *exam) closedOnce(prepare func(k kind, req *http.Request, u *upload) bool, steps ...step) error {
	return x.each(func(s *scene, k kind) error {
		for i, st := range steps {
			rt, _ := s.overBase(st)
			req, u := s.post(k, pattern(100))
			if prepare != nil && !prepare(k, req, u) {
				continue
			}
			o, err := s.trip(rt, req)
			if err != nil {
				return err
			}
			s.discard(o)
			s.settle()
			if err := u.once(); err != nil {
				return fmt.Errorf("case %d: %w", i+1, err)
			}
		}
		return nil
	})
}

var uploadRules = []rule{
	{name: "the caller's body/that cannot be read is an error and nothing whole is sent", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, length := range []int64{50, 100, -1} {
				for _, eager := range []bool{false, true} { // alone, and with the last bytes
					u := &upload{s: s, data: pattern(50), eager: eager, fail: errBroken}
					if err := s.cannotBeRead(k, u, length); err != nil {
						return fmt.Errorf("ContentLength %d, error with the last bytes %t: %w", length, eager, err)
					}
				}
			}
			return nil
		})
	}},
	{name: "the caller's body/that cannot be read is an error before anything is sent", buffers: true, check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, b := s.overBase(replies(200, "ok"))
			u := &upload{s: s, data: pattern(50), fail: errBroken}
			o, err := s.call(rt, s.request(k, u, 100))
			s.discard(o)
			if err == nil && k.repeatable && len(b.seen()) > 0 {
				return errors.New("the base was called")
			}
			return err
		})
	}},
	{name: "the caller's body/of another length than ContentLength is an error", check: func(x *exam) error {
		return x.wrongLength(func(kind, *base) error { return nil })
	}},
	{name: "the caller's body/of another length than ContentLength is an error before anything is sent", buffers: true, check: func(x *exam) error {
		return x.wrongLength(func(k kind, b *base) error {
			if k.repeatable && len(b.seen()) > 0 {
				return errors.New("the base was called")
			}
			return nil
		})
	}},
	{name: "the caller's body/may be had again from GetBody only to be closed", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, first := range []step{replies(200, "ok"), replies(503, "down"), fails(errRefused)} {
				rt, _ := s.overBase(first, replies(200, "ok"))
				req, _ := s.post(k, pattern(100))
				var mu sync.Mutex
				var again []*upload
				req.GetBody = func() (io.ReadCloser, error) {
					mu.Lock()
					defer mu.Unlock()
					again = append(again, &upload{s: s, data: pattern(100)})
					return again[len(again)-1], nil
				}
				o, err := s.call(rt, req)
				if err != nil {
					return err
				}
				s.discard(o)
				s.settle()
				for _, u := range again {
					if err := u.once(); err != nil {
						return fmt.Errorf("from GetBody: %w", err)
					}
				}
			}
			return nil
		})
	}},
	{name: "the caller's body/is not asked for again once it has been read", buffers: true, check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(replies(503, "down"), replies(200, "ok"))
			req, u := s.post(k, pattern(100))
			read := false
			u.atEOF = func() { read = true }
			req.GetBody = func() (io.ReadCloser, error) {
				if read && k.repeatable {
					s.fault("GetBody is called although the payload is known")
				}
				return &upload{s: s, data: pattern(100)}, nil
			}
			o, err := s.call(rt, req)
			s.discard(o)
			return err
		})
	}},
}

func (s *scene) cannotBeRead(k kind, u *upload, length int64) error {
	rt, b := s.overBase(replies(200, "ok"))
	o, err := s.call(rt, s.request(k, u, length))
	if err != nil {
		return err
	}
	s.discard(o)
	if !errors.Is(o.err, errBroken) {
		return fmt.Errorf("the error is %v, not the body's", o.err)
	}
	for _, a := range b.seen() {
		if a.whole {
			return fmt.Errorf("%d bytes were sent as if they were all", len(a.payload))
		}
	}
	return nil
}

func (x *exam) wrongLength(also func(kind, *base) error) error {
	return x.each(func(s *scene, k kind) error {
		for _, length := range []int64{1, 99, 101, 1 << 20} {
			rt, b := s.overBase(replies(200, "ok"))
			o, err := s.call(rt, s.request(k, &upload{s: s, data: pattern(100)}, length))
			if err != nil {
				return err
			}
			s.discard(o)
			if o.err == nil {
				return fmt.Errorf("100 bytes with ContentLength %d are sent", length)
			}
			if err := also(k, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// A shape is a way to give a payload.
type shape struct {
	name    string
	payload []byte
	body    func(s *scene, payload []byte) io.ReadCloser
	length  int64 // -1: unknown
}

func whole(s *scene, payload []byte) io.ReadCloser { return &upload{s: s, data: payload} }

var shapes = []shape{
	{"known length", pattern(1000), whole, 1000},
	{"unknown length", pattern(1000), whole, -1},
	{"unknown length said as zero", pattern(1000), whole, 0},
	{"empty", nil, whole, 0},
	{"empty of unknown length", nil, whole, -1},
	{"http.NoBody", nil, func(*scene, []byte) io.ReadCloser { return http.NoBody }, 0},
	{"no body", nil, func(*scene, []byte) io.ReadCloser { return nil }, 0},
	{"one byte", pattern(1), whole, 1},
	{"70 KiB", pattern(70 << 10), whole, 70 << 10},
	{"70 KiB of unknown length", pattern(70 << 10), whole, -1},
	{"short reads", pattern(1000), func(s *scene, p []byte) io.ReadCloser { return &upload{s: s, data: p, chunk: 7} }, 1000},
	{"short reads of unknown length", pattern(1000), func(s *scene, p []byte) io.ReadCloser { return &upload{s: s, data: p, chunk: 7} }, -1},
	{"last bytes with io.EOF", pattern(1000), func(s *scene, p []byte) io.ReadCloser { return &upload{s: s, data: p, eager: true} }, 1000},
	{"last bytes with io.EOF, unknown length", pattern(1000), func(s *scene, p []byte) io.ReadCloser {
		return &upload{s: s, data: p, eager: true, chunk: 999}
	}, -1},
}

var payloadRules = func() []rule {
	var rules []rule
	for _, sh := range shapes {
		rules = append(rules, rule{name: "every attempt carries the caller's bytes/" + sh.name, check: func(x *exam) error {
			return x.each(func(s *scene, k kind) error { return s.carries(k, sh) })
		}})
	}
	return append(rules,
		rule{name: "every attempt carries the caller's bytes/whatever becomes of the attempt before", check: independentAttempts},
		rule{name: "every attempt carries the caller's bytes/GetBody yields them again", check: getBodyAgain})
}()

func (s *scene) carries(k kind, sh shape) error {
	for _, script := range [][]step{
		{replies(200, "ok")},
		{replies(503, "down"), replies(429, "later"), replies(200, "ok")},
		{fails(errRefused), fails(errBroken), replies(200, "ok")},
	} {
		rt, b := s.overBase(script...)
		o, err := s.call(rt, s.request(k, sh.body(s, sh.payload), sh.length))
		if err != nil {
			return err
		}
		s.discard(o)
		if len(b.seen()) == 0 {
			return fmt.Errorf("nothing is sent: %w", o.err)
		}
		for _, a := range b.seen() {
			if err := same(fmt.Sprintf("payload of attempt %d", a.n+1), a.payload, sh.payload); err != nil {
				return err
			}
			if err := rightLength(a.req, sh); err != nil {
				return fmt.Errorf("attempt %d: %w", a.n+1, err)
			}
		}
	}
	return nil
}

// rightLength: net/http sends Content-Length from ContentLength; what is
// unknown stays so or becomes right.
func rightLength(req *http.Request, sh shape) error {
	n := req.ContentLength
	switch {
	case n == int64(len(sh.payload)) && n > 0:
	case n == 0 && (len(sh.payload) == 0 || sh.length == 0):
	case n == -1 && sh.length == -1 && req.Body != nil:
	default:
		return fmt.Errorf("ContentLength is %d for %d bytes (the caller said %d)", n, len(sh.payload), sh.length)
	}
	return nil
}

// independentAttempts: net/http may still be reading an attempt's body after it has answered.
func independentAttempts(x *exam) error {
	return x.each(func(s *scene, k kind) error {
		payload := pattern(1000)
		var first io.ReadCloser
		half := func(r io.Reader, what string, from, to int) {
			if r == nil {
				s.fault("%s has no body", what)
				return
			}
			got := make([]byte, to-from)
			if _, err := io.ReadFull(r, got); err != nil {
				s.fault("%s: %w", what, err)
			} else if err := same(what, got, payload[from:to]); err != nil {
				s.fault("%w", err)
			}
		}
		slow := step{unread: true, open: true, then: func(a *attempt) (*http.Response, error) {
			first = a.req.Body
			half(first, "the first attempt's first half", 0, 500)
			return a.respond(503, nil), nil
		}}
		next := step{unread: true, open: true, then: func(a *attempt) (*http.Response, error) {
			half(a.req.Body, "the second attempt's first half", 0, 500)
			half(first, "the first attempt's second half", 500, 1000)
			half(a.req.Body, "the second attempt's second half", 500, 1000)
			a.close()
			return a.respond(200, nil), nil
		}}
		rt, _ := s.overBase(slow, next)
		req, u := s.post(k, payload)
		req.GetBody = func() (io.ReadCloser, error) { // as openai-go's
			u.mu.Lock()
			defer u.mu.Unlock()
			u.off, u.closes = 0, 0
			return u, nil
		}
		o, err := s.call(rt, req)
		s.discard(o)
		if first != nil {
			first.Close()
		}
		return err
	})
}

func getBodyAgain(x *exam) error {
	return x.each(func(s *scene, k kind) error {
		payload := pattern(5000)
		again := func(a *attempt) error {
			body, err := a.req.GetBody()
			if err != nil {
				return err
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			return errors.Join(err, same("from GetBody", got, payload))
		}
		asks := func(status int) step {
			return step{then: func(a *attempt) (*http.Response, error) {
				if a.req.GetBody != nil {
					var wg sync.WaitGroup
					for i := range 8 {
						wg.Go(func() {
							for range 3 {
								if err := <-aside(func() error { return again(a) }); err != nil {
									s.fault("attempt %d, %d: %w", a.n+1, i, err)
								}
							}
						})
					}
					wg.Wait()
				}
				return a.respond(status, nil), nil
			}}
		}
		rt, _ := s.overBase(asks(503), asks(200))
		req, _ := s.post(k, payload)
		req.GetBody = func() (io.ReadCloser, error) { return &upload{s: s, data: payload}, nil }
		o, err := s.call(rt, req)
		s.discard(o)
		return err
	})
}

type ctxKey struct{}

// traces is st on a base that supports httptrace.
func traces(st step) step {
	then := st.then
	st.then = func(a *attempt) (*http.Response, error) {
		if trace := httptrace.ContextClientTrace(a.req.Context()); trace != nil {
			trace.GetConn("provider.test:80")
			trace.GotConn(httptrace.GotConnInfo{})
		}
		return then(a)
	}
	return st
}

var attemptRules = []rule{
	{name: "every attempt/has a context that ends with the caller's", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			rt, b := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				cancel()
				time.Sleep(time.Second)
				if a.req.Context().Err() == nil {
					s.fault("the caller's context is over, the attempt's is not")
				}
				return nil, ctx.Err()
			}})
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req.WithContext(ctx))
			s.discard(o)
			if n := len(b.seen()); err == nil && n != 1 {
				return fmt.Errorf("%d attempts though the context ended in the first", n)
			}
			return err
		})
	}},
	{name: "every attempt/has a context that ends for the caller's cause", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, before := range [][]step{nil, {replies(503, "down")}} {
				ctx, cancel := context.WithCancelCause(context.Background())
				rt, _ := s.overBase(append(before, step{then: func(a *attempt) (*http.Response, error) {
					cancel(errWhy)
					time.Sleep(time.Second)
					if got := context.Cause(a.req.Context()); !errors.Is(got, errWhy) {
						s.fault("the attempt's context ends for %w, not for the caller's reason", got)
					}
					return nil, overFor(a.req)
				}})...)
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req.WithContext(ctx))
				cancel(nil)
				if err != nil {
					return err
				}
				s.discard(o)
			}
			return nil
		})
	}},
	{name: "every attempt/tells the caller's httptrace", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			var told atomic.Int32
			rt, b := s.overBase(traces(replies(503, "down")), traces(replies(200, "ok")))
			ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
				GetConn: func(string) { told.Add(1) },
				GotConn: func(httptrace.GotConnInfo) { told.Add(1) },
			})
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req.WithContext(ctx))
			s.discard(o)
			if n := 2 * len(b.seen()); err == nil && int(told.Load()) != n {
				err = fmt.Errorf("it is told %d times instead of %d", told.Load(), n)
			}
			return err
		})
	}},
	{name: "every attempt/offers its payload again by GetBody", buffers: true, check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, b := s.overBase(replies(503, "down"), fails(errRefused), replies(200, "ok"))
			b.look = func(a *attempt) {
				if k.method == http.MethodPut && a.req.GetBody == nil { // a key makes net/http replay on its own account
					s.fault("attempt %d: net/http cannot replay it", a.n+1)
				}
			}
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req)
			s.discard(o)
			return err
		})
	}},
	{name: "every attempt/has the values of the caller's context", check: func(x *exam) error {
		return x.looks(func(_, got *http.Request) error {
			if got.Context().Value(ctxKey{}) != "value" {
				return errors.New("a value of the caller's context is missing")
			}
			return nil
		})
	}},
	{name: "every attempt/has the caller's header", check: func(x *exam) error {
		return x.looks(func(req, got *http.Request) error {
			for name, values := range req.Header {
				if !slices.Equal(got.Header[name], values) {
					return fmt.Errorf("%s is %q, not %q", name, got.Header[name], values)
				}
			}
			if x.is(AddsHeaders) {
				return nil
			}
			for name, values := range got.Header {
				if _, ok := req.Header[name]; !ok {
					return fmt.Errorf("%s: %q is added", name, values)
				}
			}
			return nil
		})
	}},
	{name: "every attempt/has the caller's method, URL and Host", check: func(x *exam) error {
		return x.looks(func(req, got *http.Request) error {
			if got.Method != req.Method || got.Host != req.Host || got.URL == nil || *got.URL != *req.URL || got.Close != req.Close {
				return fmt.Errorf("%s %s (Host %s, Close %t) instead of %s %s (Host %s, Close %t)",
					got.Method, got.URL, got.Host, got.Close, req.Method, req.URL, req.Host, req.Close)
			}
			return nil
		})
	}},
	{name: "every attempt/sends the Trailer that is set while the body is read", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, b := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				if got := a.req.Trailer.Get("X-Sum"); got != "42" {
					s.fault("after the last byte X-Sum is %q, not 42", got)
				}
				return a.respond(200, nil), nil
			}})
			u := &upload{s: s, data: pattern(100)}
			req := s.request(k, u, -1)
			req.Trailer = http.Header{"X-Sum": nil}
			trailer := req.Trailer
			u.atEOF = func() { trailer.Set("X-Sum", "42") }
			b.look = func(a *attempt) {
				if _, ok := a.req.Trailer["X-Sum"]; !ok {
					s.fault("the Trailer is not announced")
				}
			}
			o, err := s.call(rt, req)
			s.discard(o)
			return err
		})
	}},
	{name: "every attempt/is under way before a body is read that waits for it", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, name := range []string{"Expect", "Upgrade"} {
				started := make(chan struct{})
				rt, b := s.overBase(replies(200, "ok"))
				b.look = func(a *attempt) {
					if a.n == 0 {
						close(started)
					}
				}
				req, u := s.post(k, pattern(100))
				u.gate = started
				req.Header.Set(name, map[string]string{"Expect": "100-continue", "Upgrade": "h2c"}[name])
				if name == "Upgrade" {
					req.Header.Set("Connection", "Upgrade")
				}
				o, err := s.call(rt, req)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				s.discard(o)
				if o.err != nil {
					return fmt.Errorf("%s: %w", name, o.err)
				}
			}
			return nil
		})
	}},
}

// looks shows check every attempt of a call that may need three.
func (x *exam) looks(check func(req, got *http.Request) error) error {
	return x.each(func(s *scene, k kind) error {
		rt, b := s.overBase(replies(503, "down"), fails(errRefused), replies(200, "ok"))
		req, _ := s.post(k, pattern(100))
		req.Close = true
		req = req.WithContext(context.WithValue(context.Background(), ctxKey{}, "value"))
		b.look = func(a *attempt) {
			if err := check(req, a.req); err != nil {
				s.fault("attempt %d: %w", a.n+1, err)
			}
		}
		o, err := s.call(rt, req)
		s.discard(o)
		return err
	})
}
