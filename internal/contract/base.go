package contract

import (
	"errors"
	"fmt"
	"net/http"
)

// nothing, both and bare are what a base must not return.
func nothing() step {
	return step{then: func(*attempt) (*http.Response, error) {
		return nil, nil //nolint:nilnil // this base misbehaves
	}}
}

func both(status int, err error) step {
	return step{then: func(a *attempt) (*http.Response, error) {
		return a.respond(status, &download{data: pattern(10)}), err
	}}
}

func bare(status int) step {
	return step{then: func(a *attempt) (*http.Response, error) {
		resp := a.respond(status, nil)
		resp.Body, a.body = nil, nil
		return resp, nil
	}}
}

var baseRules = []rule{
	{name: "a base that misbehaves/returns a response without a body", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 204, 503} {
				rt, _ := s.overBase(bare(status))
				req, _ := s.post(k, pattern(100))
				if _, _, err := s.answer(rt, req); err != nil {
					return fmt.Errorf("%d: %w", status, err)
				}
			}
			return nil
		})
	}},
	{name: "a base that misbehaves/returns neither response nor error", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(nothing())
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req)
			if err == nil && o.err == nil {
				err = fmt.Errorf("no error (panic: %v)", o.panicked)
			}
			return err
		})
	}},
	{name: "a base that misbehaves/returns both response and error", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, status := range []int{200, 503} {
				rt, b := s.overBase(both(status, errBroken))
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req)
				if err != nil {
					return err
				}
				s.settle()
				if !errors.Is(o.err, errBroken) || o.resp != nil {
					return fmt.Errorf("%d: the error is %v, not the base's alone", status, o.err)
				}
				if err := b.unclosed(); err != nil {
					return fmt.Errorf("%d: %w", status, err)
				}
			}
			return nil
		})
	}},
	{name: "a base that misbehaves/returns an error and a response without a body", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(step{then: func(a *attempt) (*http.Response, error) {
				resp, _ := bare(200).then(a)
				return resp, errBroken
			}})
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req)
			if err == nil && (!errors.Is(o.err, errBroken) || o.resp != nil) {
				err = fmt.Errorf("the error is %v, not the base's alone (panic: %v)", o.err, o.panicked)
			}
			return err
		})
	}},
	{name: "a base that misbehaves/panics, and the panic goes on", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(panics())
			req, _ := s.post(k, pattern(100))
			o, err := s.call(rt, req)
			if err == nil && o.panicked != panicValue {
				err = fmt.Errorf("RoundTrip ends with %v (panic: %v)", o.err, o.panicked)
			}
			return err
		})
	}},
	{name: "a base that misbehaves/panics, and later calls go through", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			// Fewer than breakers count before they open.
			rt, _ := s.overBase(panics(), panics(), panics(), panics(), replies(200, "ok"))
			for range 4 {
				req, _ := s.post(k, pattern(100))
				o, err := s.call(rt, req)
				if err != nil {
					return err
				}
				s.discard(o)
			}
			req, _ := s.post(k, pattern(100))
			_, got, err := s.answer(rt, req)
			if err != nil {
				return err
			}
			return same("the answer", got, []byte("ok"))
		})
	}},
	{name: "CloseIdleConnections/reaches the base once", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			rt, b := s.overBase(replies(200, "ok"))
			(&http.Client{Transport: rt}).CloseIdleConnections()
			if b.idle != 1 {
				return fmt.Errorf("it reaches the base %d times", b.idle)
			}
			return nil
		})
	}},
	{name: "CloseIdleConnections/is harmless over a base without it", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			rt := s.wrap(struct{ http.RoundTripper }{s.base(replies(200, "ok"))})
			(&http.Client{Transport: rt}).CloseIdleConnections()
			return nil
		})
	}},
}
