package contract

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Request.Cancel is deprecated, and http.Client.Timeout still sets it.
var cancelRules = []rule{
	{name: "Request.Cancel/is closed before the call", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(replies(200, "ok"))
			return s.cancelled(rt, k, 0, func(o outcome) error {
				if o.err == nil {
					return errors.New("the call goes on")
				}
				return nil
			})
		})
	}},
	{name: "Request.Cancel/ends an attempt, and no other follows", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, b := s.overBase(hangs())
			return s.cancelled(rt, k, time.Second, func(o outcome) error {
				if o.err == nil || len(b.seen()) != 1 {
					return fmt.Errorf("%d attempts, error %v", len(b.seen()), o.err)
				}
				return nil
			})
		})
	}},
	{name: "Request.Cancel/ends the wait between attempts", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			for _, first := range []step{replies(503, "down", "Retry-After: 20"), replies(503, "down"), fails(errRefused)} {
				rt, b := s.overBase(first, hangs())
				err := s.cancelled(rt, k, 300*time.Millisecond, func(o outcome) error {
					if o.err == nil && len(b.seen()) > 1 {
						return errors.New("no error")
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "Request.Cancel/ends the body", check: func(x *exam) error {
		return x.each(func(s *scene, k kind) error {
			rt, _ := s.overBase(sends(200, func() *download { return &download{data: pattern(10), stalls: true} }))
			return s.cancelled(rt, k, time.Second, func(o outcome) error {
				if o.err != nil {
					return o.err
				}
				start := time.Now()
				got, err := s.finish(o.resp)
				if took := time.Since(start); err == nil || took > time.Second+late {
					return fmt.Errorf("the body ends with %v after %v", err, took)
				}
				return same("what came before", got, pattern(10))
			})
		})
	}},
}

// cancelled makes a call whose Request.Cancel is closed after a time.
func (s *scene) cancelled(rt http.RoundTripper, k kind, after time.Duration, check func(o outcome) error) error {
	cancel := make(chan struct{})
	if after == 0 {
		close(cancel)
	} else {
		timer := time.AfterFunc(after, func() { close(cancel) })
		defer timer.Stop()
	}
	req, u := s.post(k, pattern(100))
	req.Cancel = cancel //nolint:staticcheck // the subject
	o, err := s.call(rt, req)
	if err != nil {
		return err
	}
	if o.took > after+late {
		return fmt.Errorf("RoundTrip takes %v instead of at most %v", o.took, after)
	}
	if err := check(o); err != nil {
		return err
	}
	s.discard(o)
	s.settle()
	return u.once()
}
