package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing/synctest"
	"time"
)

// late is how long after its end a context may still be waited for.
const late = 10 * time.Millisecond

var contextRules = []rule{
	{name: "the context/is over before the call", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			rt, _ := s.overBase(replies(200, "ok"))
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req.WithContext(ctx))
			s.discard(o)
			return errors.Join(err, ended(o, context.Canceled, 0))
		})
	}},
	{name: "the context/is cancelled during the attempt", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, first := range []step{hangs(), replies(503, "down")} {
				ctx, cancel := cancelIn(time.Hour / 10)
				rt, b := s.overBase(first, hangs())
				b.look = func(a *attempt) { time.AfterFunc(time.Second, cancel) }
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req.WithContext(ctx))
				cancel()
				if err != nil {
					return err
				}
				s.discard(o)
				if o.resp != nil && len(b.seen()) == 1 && o.resp.StatusCode == 503 {
					continue // it does not retry
				}
				if err := ended(o, context.Canceled, limit); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "the context/is cancelled between attempts", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, first := range []step{
				replies(503, "down", "Retry-After: 20"), replies(429, "later", "Retry-After: 20"), replies(503, "down"), fails(errRefused),
			} {
				ctx, cancel := cancelIn(300 * time.Millisecond)
				rt, b := s.overBase(first, hangs())
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req.WithContext(ctx))
				cancel()
				if err != nil {
					return err
				}
				s.discard(o)
				if o.took < 300*time.Millisecond && len(b.seen()) == 1 {
					continue // it does not wait
				}
				if err := ended(o, context.Canceled, 300*time.Millisecond+late); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "the context/reaches its deadline, which is a timeout for http.Client", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, first := range []step{hangs(), replies(503, "down"), fails(errRefused)} {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				rt, b := s.overBase(first, hangs())
				req, _ := s.post(k, pattern(100))
				o, err := s.call(clientTrip{&http.Client{Transport: rt}}, req.WithContext(ctx))
				cancel()
				if err != nil {
					return err
				}
				s.discard(o)
				if o.took < 3*time.Second && len(b.seen()) == 1 {
					continue // it does not retry, or sees that the deadline is too near
				}
				if err := errors.Join(ended(o, context.DeadlineExceeded, 3*time.Second+late), timedOut(o.err)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "the context/is over with a cause, which the error shows", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, first := range []step{hangs(), replies(503, "down", "Retry-After: 20"), fails(errRefused)} {
				for _, after := range []time.Duration{0, 300 * time.Millisecond} {
					for name, limited := range map[string]func() (context.Context, func()){
						"cancelled": func() (context.Context, func()) {
							ctx, cancel := context.WithCancelCause(context.Background())
							timer := time.AfterFunc(after, func() { cancel(errWhy) })
							return ctx, func() { timer.Stop(); cancel(nil) }
						},
						"deadline": func() (context.Context, func()) {
							return context.WithTimeoutCause(context.Background(), after, errWhy)
						},
					} {
						if err := s.showsCause(k, first, limited); err != nil {
							return fmt.Errorf("%s after %v: %w", name, after, err)
						}
					}
				}
			}
			return nil
		})
	}},
	{name: "the context/is cancelled while the body is read", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			ctx, cancel := cancelIn(time.Second)
			defer cancel()
			rt, _ := s.overBase(sends(200, func() *download { return &download{data: pattern(10), stalls: true} }))
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req.WithContext(ctx))
			if err != nil || o.err != nil {
				return errors.Join(err, o.err)
			}
			start := time.Now()
			got, err := s.finish(o.resp)
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("the body ends with %v", err)
			}
			if took := time.Since(start); took > time.Second+late {
				return fmt.Errorf("the body ends %v after the context", took-time.Second)
			}
			return same("what came before", got, pattern(10))
		})
	}},
}

var errWhy = errors.New("contract: why the context ended")

// showsCause: an error of the base shows both, so that an error which does not
// is the wrapper's own.
func (s *scene) showsCause(k kind, first step, limited func() (context.Context, func())) error {
	ctx, cancel := limited()
	defer cancel()
	synctest.Wait()
	rt, b := s.overBase(first, hangs())
	req, _ := s.post(k, pattern(100))
	o, err := s.call(rt, req.WithContext(ctx))
	if err != nil {
		return err
	}
	s.discard(o)
	if ctx.Err() == nil && len(b.seen()) == 1 {
		return nil // it does not wait, or sees that the deadline is too near
	}
	if !errors.Is(o.err, errWhy) || !errors.Is(o.err, ctx.Err()) {
		return fmt.Errorf("the error is %v, not both %w and %w", o.err, ctx.Err(), errWhy)
	}
	return nil
}

// ended returns an error unless the call ended with want within a time.
func ended(o outcome, want error, within time.Duration) error {
	if o.took > within {
		return fmt.Errorf("RoundTrip takes %v instead of at most %v", o.took, within)
	}
	if !errors.Is(o.err, want) {
		return fmt.Errorf("RoundTrip ends with %v, not with %w", o.err, want)
	}
	return nil
}

func timedOut(err error) error {
	var ue *url.Error
	if !errors.As(err, &ue) || !ue.Timeout() {
		return fmt.Errorf("Timeout() of %w is false", err)
	}
	return nil
}

// A clientTrip is an http.Client where a RoundTripper is wanted.
type clientTrip struct{ client *http.Client }

func (c clientTrip) RoundTrip(req *http.Request) (*http.Response, error) { return c.client.Do(req) }

var clientRules = []rule{
	{name: "http.Client/follows a 307 with the same payload", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			payload := pattern(5000)
			rt, b := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				if a.req.URL.Path == k.path {
					return a.respond(307, &download{data: []byte("there")}, "Location: /v1/moved"), nil
				}
				return a.respond(200, &download{data: []byte("ok")}), nil
			}})
			req, _ := s.post(k, payload)
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
			_, got, err := s.answer(clientTrip{&http.Client{Transport: rt}}, req)
			if err != nil {
				return err
			}
			if len(b.seen()) != 2 || string(got) != "ok" {
				return fmt.Errorf("%d requests, answered %q", len(b.seen()), got)
			}
			for _, a := range b.seen() {
				if err := same(a.req.URL.Path, a.payload, payload); err != nil {
					return err
				}
			}
			s.settle()
			return b.unclosed()
		})
	}},
	{name: "http.Client/times out while it waits for headers", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(hangs())
			req, _ := s.post(k, pattern(100))
			o, err := s.call(clientTrip{&http.Client{Transport: rt, Timeout: 5 * time.Second}}, req)
			if err != nil {
				return err
			}
			return errors.Join(ended(o, context.DeadlineExceeded, 5*time.Second+late), timedOut(o.err))
		})
	}},
	{name: "http.Client/times out between attempts", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, st := range []step{replies(503, "down", "Retry-After: 30"), replies(503, "down"), fails(errRefused)} {
				rt, _ := s.overBase(st)
				req, _ := s.post(k, pattern(100))
				o, err := s.call(clientTrip{&http.Client{Transport: rt, Timeout: 800 * time.Millisecond}}, req)
				if err != nil {
					return err
				}
				s.discard(o)
				if o.took > 800*time.Millisecond+late {
					return fmt.Errorf("Client.Do takes %v instead of 800ms", o.took)
				}
			}
			return nil
		})
	}},
	{name: "http.Client/times out in the body", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(sends(200, func() *download { return &download{data: pattern(10), stalls: true} }))
			req, _ := s.post(k, pattern(100))
			o, err := s.call(clientTrip{&http.Client{Transport: rt, Timeout: 5 * time.Second}}, req)
			if err != nil || o.err != nil {
				return errors.Join(err, o.err)
			}
			start := time.Now()
			_, err = s.finish(o.resp)
			var t interface{ Timeout() bool }
			if !errors.As(err, &t) || !t.Timeout() {
				return fmt.Errorf("the body ends with %v, which is no timeout", err)
			}
			if took := time.Since(start); took > 5*time.Second+late {
				return fmt.Errorf("the body ends after %v instead of 5s", took)
			}
			return nil
		})
	}},
}

var concurrencyRules = []rule{
	{name: "calls beside each other/do not wait for each other", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			const callers = 50
			var mu sync.Mutex
			arrived, all := 0, make(chan struct{})
			rt, _ := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				mu.Lock()
				if arrived++; arrived == callers {
					close(all)
				}
				mu.Unlock()
				timer := time.NewTimer(time.Minute)
				defer timer.Stop()
				select {
				case <-all:
				case <-timer.C:
					s.fault("a call waits for another one")
				}
				return a.respond(200, nil), nil
			}})
			return s.crowd(callers, func(i int) error {
				req, _ := s.post(kinds[i%len(kinds)], pattern(i+1))
				_, _, err := s.answer(rt, req)
				return err
			})
		})
	}},
	{name: "calls beside each other/keep their bytes apart", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			rt, _ := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				return a.respond(200, &download{data: a.payload, chunk: 100}), nil
			}})
			return s.crowd(50, func(i int) error {
				for j := range 10 {
					req, u := s.post(kinds[(i+j)%len(kinds)], pattern(1000+50*j+i))
					u.chunk = 100
					_, got, err := s.answer(rt, req)
					if err == nil {
						err = same("the echo", got, pattern(1000+50*j+i))
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
	}},
	{name: "calls one after the other/may use one request", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				return a.respond(200, &download{data: a.payload}), nil
			}})
			req, u := s.post(k, pattern(1))
			for n := 1; n < 500; n *= 2 {
				_, got, err := s.answer(rt, req)
				if err == nil {
					err = same("the echo", got, pattern(n))
				}
				if err != nil {
					return err
				}
				s.settle()
				if err := u.once(); err != nil {
					return err
				}
				u = &upload{s: s, data: pattern(2 * n)}
				req.Body, req.ContentLength = u, int64(2*n)
			}
			return nil
		})
	}},
}

// crowd runs f in n goroutines.
func (s *scene) crowd(n int, f func(i int) error) error {
	var all []<-chan error
	for i := range n {
		all = append(all, aside(func() error { return f(i) }))
	}
	var err error
	for _, done := range all {
		if e := <-done; e != nil {
			err = e
		}
	}
	return err
}
