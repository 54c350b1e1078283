package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	// limit is how long a call may take with all its attempts and waits, in virtual time.
	limit = 15 * time.Minute
	// patience is how long a check may take in real time: some ways of hanging stop virtual time.
	patience = 30 * time.Second
)

var (
	errBroken   = errors.New("contract: connection broken")
	errReleased = errors.New("contract: the scene is over")
	errEnded    = errors.New("the check's goroutine was ended")
	errHangs    = errors.New("hangs")
)

// A scene is the world of one check: a bubble of virtual time and the fakes in it.
type scene struct {
	wrap func(http.RoundTripper) http.RoundTripper
	soon time.Duration // how long something may take in real time
	over chan struct{} // closed when the check is done, so that no fake blocks for ever

	mu     sync.Mutex
	faults []error
}

// bubble runs f in virtual time. A goroutine that outlives it is an error.
// Nobody waits for a bubble that hangs once w is given up.
func bubble(t *testing.T, w *wait, f func(s *scene) error) error {
	return until(w.stop, aside(func() error {
		err := errEnded
		var stuck error
		func() {
			defer func() {
				if p := recover(); p != nil { // synctest's way to report a deadlock
					stuck = fmt.Errorf("%v", p)
				}
			}()
			if !w.begin() {
				err = errHangs
				return
			}
			synctest.Test(t, func(*testing.T) {
				w.begun()
				s := &scene{over: make(chan struct{})}
				err = s.run(f)
			})
		}()
		return errors.Join(err, stuck)
	}))
}

// A wait is how long somebody waits for a check.
type wait struct {
	stop chan struct{} // closed when nobody waits any more

	mu   sync.Mutex // held while a bubble is made: a test that is over can have none
	over bool
}

// begin reports whether a bubble may be made. If so, begun is to follow in it.
func (w *wait) begin() bool {
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return false
	}
	return true
}

func (w *wait) begun() { w.mu.Unlock() }

func (w *wait) giveUp() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	close(w.stop)
}

// aside runs f, which may panic, hang or end its goroutine, in one of its own.
func aside(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		err := errEnded
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			done <- err
		}()
		err = f()
	}()
	return done
}

// until waits for done, but not longer than stop is open.
func until(stop <-chan struct{}, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-stop:
		return errHangs
	}
}

func (s *scene) run(f func(s *scene) error) error {
	err := s.play(f)
	synctest.Wait()
	return s.verdict(err)
}

// play runs f and ends the scene.
func (s *scene) play(f func(s *scene) error) error {
	defer close(s.over)
	return <-aside(func() error { return f(s) })
}

// verdict adds to err what the fakes have seen.
func (s *scene) verdict(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(append([]error{err}, s.faults...)...)
}

// fault notes what a fake has seen and cannot return.
func (s *scene) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) < 5 {
		s.faults = append(s.faults, fmt.Errorf(format, args...))
	}
}

// settle lets everything happen that is still going to.
func (s *scene) settle() {
	time.Sleep(10 * time.Minute)
	synctest.Wait()
}

// within runs f and returns an error if it has not come back after d.
func (s *scene) within(d time.Duration, what string, f func()) error {
	done := aside(func() error {
		f()
		return nil
	})
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("%s has not returned after %v", what, d)
	}
}

// request returns one of k with every field set that a wrapper could lose.
func (s *scene) request(k kind, body io.ReadCloser, length int64) *http.Request {
	header := http.Header{
		"Authorization": {"Bearer secret"},
		"Content-Type":  {"application/octet-stream"},
		"X-Many":        {"one", "two"},
	}
	if k.key != "" {
		header.Set("Idempotency-Key", k.key)
	}
	req := &http.Request{
		Method:        k.method,
		URL:           &url.URL{Scheme: "http", Host: "provider.test", Path: k.path, RawQuery: "a=1&b=2"},
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          body,
		ContentLength: length,
		Host:          "tenant.test",
	}
	return req
}

// post is request with a payload of known length.
func (s *scene) post(k kind, payload []byte) (*http.Request, *upload) {
	u := &upload{s: s, data: payload}
	return s.request(k, u, int64(len(payload))), u
}

// An outcome is how one RoundTrip ended.
type outcome struct {
	resp     *http.Response
	err      error
	panicked any
	took     time.Duration
}

// call makes the round trip. Its error says that there is no outcome, or none
// that a caller could use.
func (s *scene) call(rt http.RoundTripper, req *http.Request) (outcome, error) {
	o, err := s.trip(rt, req)
	switch {
	case err != nil:
		return outcome{}, err
	case o.panicked == panicValue:
	case o.panicked != nil:
		return o, fmt.Errorf("RoundTrip panicked: %v", o.panicked)
	case o.resp == nil && o.err == nil:
		return o, errors.New("RoundTrip returned neither response nor error")
	case o.resp != nil && o.err != nil:
		s.fault("RoundTrip returned a response and the error %w", o.err)
	case o.resp != nil && o.resp.Body == nil:
		return o, errors.New("RoundTrip returned a response without a body")
	}
	return o, nil
}

// trip makes the round trip, whatever comes of it.
func (s *scene) trip(rt http.RoundTripper, req *http.Request) (outcome, error) {
	var o outcome // not to be looked at before RoundTrip has returned
	start := time.Now()
	late := s.within(limit, "RoundTrip", func() {
		defer func() { o.panicked = recover() }()
		o.resp, o.err = rt.RoundTrip(req)
	})
	if late != nil {
		return outcome{}, late
	}
	o.took = time.Since(start)
	return o, nil
}

// answer makes the round trip, which must yield a response, and reads it whole.
func (s *scene) answer(rt http.RoundTripper, req *http.Request) (*http.Response, []byte, error) {
	o, err := s.call(rt, req)
	if err != nil {
		return nil, nil, err
	}
	if o.panicked != nil {
		return nil, nil, fmt.Errorf("RoundTrip panicked: %v", o.panicked)
	}
	if o.err != nil {
		return nil, nil, fmt.Errorf("RoundTrip: %w", o.err)
	}
	content, err := s.finish(o.resp)
	return o.resp, content, err
}

// finish reads the response to its end and closes it.
func (s *scene) finish(resp *http.Response) ([]byte, error) {
	var content []byte
	var err error
	late := s.within(limit, "reading the response", func() {
		content, err = io.ReadAll(resp.Body)
		err = errors.Join(err, resp.Body.Close())
	})
	if late != nil {
		return nil, late
	}
	return content, err
}

// discard ends a call whatever its outcome.
func (s *scene) discard(o outcome) {
	if o.resp != nil && o.resp.Body != nil {
		s.finish(o.resp) //nolint:errcheck // only that it is over matters
	}
}

// patterns are those that were made: byte by byte is slow, above all where the
// race detector looks on.
var patterns sync.Map

// pattern returns n bytes in which every misplaced, lost or repeated piece
// shows. Nobody may write to them.
func pattern(n int) []byte {
	if made, ok := patterns.Load(n); ok {
		return made.([]byte)
	}
	p := make([]byte, n)
	x := uint32(n) + 1
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	patterns.Store(n, p)
	return p
}

func same(what string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Errorf("%s: %d bytes instead of %d, different from byte %d on", what, len(got), len(want), i)
}

// cancelIn returns a context that is cancelled after d.
func cancelIn(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(d, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}
