package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"weak"
)

// large is more than any buffer that a base, or a pool, keeps for good reason.
const large = 64 << 10

var memoryRules = []rule{
	{name: "memory/the payload is let go while the answer is still read", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			var kept trail
			for _, length := range []int64{2 * large, -1} {
				for _, k := range kinds {
					for _, script := range [][]step{{kept.streamed()}, {kept.swallows(replies(503, "down")), kept.streamed()}} {
						body, err := s.begun(s.wrap(s.base(script...)), k, length, &kept)
						if err != nil {
							return fmt.Errorf("%s, ContentLength %d: %w", k.name, length, err)
						}
						defer body.Close()
					}
				}
			}
			return kept.gone()
		})
	}},
	{name: "memory/nothing of a call is kept once it is over", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			ctx, cancel := context.WithCancel(context.Background()) // as long-lived as a service's
			defer cancel()
			ends := []step{
				replies(200, "ok"), replies(404, "no"), replies(503, "down"), replies(503, "down", "Retry-After: 20"),
				fails(errBroken), panics(), hangs(),
			}
			var kept trail
			wrappers := make([]http.RoundTripper, len(ends)*len(kinds))
			err := s.crowd(len(wrappers), func(i int) error {
				b := s.base(kept.swallows(ends[i/len(kinds)]))
				wrappers[i] = s.wrap(b)
				defer func() { b.look, b.attempts = nil, nil }()
				return s.past(ctx, wrappers[i], b, kinds[i%len(kinds)], &kept)
			})
			if err != nil {
				return err
			}
			time.Sleep(time.Second) // what a timer of more holds is kept
			err = kept.gone()
			runtime.KeepAlive(wrappers)
			return err
		})
	}},
	{name: "memory/nothing of a call is kept once it has got its connection", check: func(x *exam) error {
		return x.once(func(s *scene) error {
			ctx, cancel := context.WithCancel(context.Background()) // as long-lived as a service's
			defer cancel()
			var kept trail
			rt := s.wrap(s.base(kept.upgrades(ctx)))
			for range 3 {
				if err := s.upgrade(ctx, rt); err != nil {
					return err
				}
			}
			err := kept.gone()
			runtime.KeepAlive(rt)
			return err
		})
	}},
}

// upgrades hands the connection over. Like net/http's base it has something
// that ends with the request's context, until then.
func (t *trail) upgrades(callers context.Context) step {
	return step{then: func(a *attempt) (*http.Response, error) {
		_, cancel := context.WithCancel(a.req.Context())
		defer cancel()
		if a.req.Context() != callers {
			t.ownContext(a.req)
		}
		a.req = nil // the base remembers its attempts
		d, peer := newDuplex()
		peer.Close()
		return &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: http.Header{}, Body: d}, nil
	}}
}

// upgrade makes a call that gets its connection, and closes it.
//
//go:noinline
func (s *scene) upgrade(ctx context.Context, rt http.RoundTripper) error {
	req := s.request(kind{method: http.MethodGet, path: "/v1/realtime"}, nil, 0).WithContext(ctx)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	o, err := s.call(rt, req)
	if err != nil || o.err != nil {
		return errors.Join(err, o.err)
	}
	return o.resp.Body.Close()
}

// swallows reads the payload before it takes st's part, and keeps nothing of it.
func (t *trail) swallows(st step) step {
	then := st.then
	return step{unread: true, open: true, then: func(a *attempt) (*http.Response, error) {
		if a.req.Body != nil {
			io.CopyBuffer(t, a.req.Body, make([]byte, 4<<10)) //nolint:errcheck // whatever it is
			a.close()
		}
		return then(a)
	}}
}

// Write sees the whole of what a bytes.Reader reads.
func (t *trail) Write(p []byte) (int, error) {
	t.buffer(p)
	return len(p), nil
}

// streamed begins an answer that goes on and on.
func (t *trail) streamed() step {
	return t.swallows(sends(200, func() *download { return &download{data: pattern(10), stalls: true} }))
}

// begun makes a call and returns the body of its answer, which has come to its
// first bytes. The base holds the request until the end of that, as net/http does.
//
//go:noinline
func (s *scene) begun(rt http.RoundTripper, k kind, length int64, kept *trail) (io.ReadCloser, error) {
	u := &upload{s: s, data: pattern(2 * large), into: kept.buffer}
	o, err := s.call(rt, s.request(k, u, length))
	if err != nil || o.err != nil {
		return nil, errors.Join(err, o.err)
	}
	if o.resp.StatusCode == http.StatusOK {
		_, err = io.ReadFull(o.resp.Body, make([]byte, 10))
	}
	return o.resp.Body, err
}

// past makes a call and ends it; only the trail shows that it was.
//
//go:noinline
func (s *scene) past(ctx context.Context, rt http.RoundTripper, b *base, k kind, kept *trail) error {
	b.look = func(a *attempt) {
		add(kept, "an attempt's request", a.req)
		if a.req.Context() != ctx {
			kept.ownContext(a.req)
		}
	}
	u := &upload{s: s, data: pattern(2 * large), into: kept.buffer}
	add(kept, "the caller's body", u)
	req := s.request(k, u, 2*large).WithContext(ctx)
	cancel := make(chan struct{})
	timer := time.AfterFunc(4*time.Second, func() { close(cancel) })
	defer timer.Stop()
	req.Cancel = cancel //nolint:staticcheck // the context is to live on
	add(kept, "the caller's request", req)
	o, err := s.call(rt, req)
	if o.resp != nil {
		add(kept, "the response", o.resp)
	}
	s.discard(o)
	return err
}

// A trail is what calls have left in memory, which it does not keep there.
type trail struct {
	mu    sync.Mutex
	names []string
	there []func() bool
}

func add[T any](t *trail, name string, p *T) {
	w := weak.Make(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = append(t.names, name)
	t.there = append(t.there, func() bool { return w.Value() != nil })
}

// buffer notes where a payload is read to.
func (t *trail) buffer(p []byte) {
	if len(p) >= large/2 {
		add(t, "a buffer of the payload", &p[0])
	}
}

// ownContext notes an attempt's own context: one that is never cancelled stays
// with the caller's.
func (t *trail) ownContext(req *http.Request) {
	if v := reflect.ValueOf(req.Context()); v.Kind() == reflect.Pointer {
		add(t, "an attempt's context", (*byte)(v.UnsafePointer()))
	}
}

// gone returns an error that names what is still there.
func (t *trail) gone() error {
	var left []string
	for range 10 { // pools let go one collection later
		runtime.GC()
		left = nil
		for i, there := range t.there {
			if there() {
				left = append(left, t.names[i])
			}
		}
		if left == nil {
			return nil
		}
	}
	slices.Sort(left)
	return fmt.Errorf("still in memory: %s", strings.Join(slices.Compact(left), ", "))
}
