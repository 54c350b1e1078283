package fleet_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/breaker/fleet"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

var soakFor = flag.Duration("soak.for", 0, "how long TestSoak lasts; 0 = 8s, or 3s with -short")

// A place is a provider of the soak: home is well, dead or sheds by turns, the other is
// always well.
type place struct {
	*httptest.Server

	name, key string
	state     atomic.Int32
	wrong     atomic.Int64 // requests with another's credentials
	served    atomic.Int64
	failed    atomic.Int64
}

const (
	isWell = iota
	isDead
	sheds
	states
)

func newPlace(t *testing.T, name, key, foreign string) *place {
	t.Helper()
	p := &place{name: name, key: key}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var head strings.Builder
		_ = r.Header.Write(&head)
		if r.Header.Get("Authorization") != "Bearer "+key || strings.Contains(head.String()+r.RequestURI, foreign) {
			p.wrong.Add(1)
		}
		switch p.state.Load() {
		case isDead:
			p.failed.Add(1)
			panic(http.ErrAbortHandler)
		case sheds:
			p.failed.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		p.served.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, p.answer(string(body)))
	}))
	t.Cleanup(p.Close)
	return p
}

// answer is what a place says to a payload.
func (p *place) answer(payload string) string {
	return fmt.Sprintf(`{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"%s %d %s"},"finish_reason":"stop"}]}`, p.name, len(payload), payload[len(payload)-12:len(payload)-2])
}

// A member is one of three processes.
type member struct {
	*fleet.Redis

	chain  *openai.Transport
	opened atomic.Int64 // of its breakers, by whatever
}

func newMember(t *testing.T, s *server, there *place) *member {
	t.Helper()
	m := &member{Redis: fleet.NewRedis(s.client(t), fleet.Config{Prefix: "soak:"})}
	m.chain = openai.NewTransport(nil, openai.Config{
		Logger:  slog.New(slog.DiscardHandler),
		Targets: []openai.Target{{}, {Name: "there", BaseURL: there.URL + "/v1", Header: http.Header{"Authorization": {"Bearer " + there.key}}, Tier: 1}},
		Retry:   retry.Config{Budget: retry.Unlimited},
		Breaker: breaker.Config{Fleet: m.Redis, OpenDuration: 300 * time.Millisecond, FailureThreshold: 3, OnStateChange: func(c breaker.StateChange) {
			if c.To == breaker.Open {
				m.opened.Add(1)
			}
		}},
	})
	return m
}

// call makes one call, and returns what is wrong with its answer.
func (m *member) call(ctx context.Context, home, there *place, n uint64) error {
	payload := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"%s"}],"n":"%010d"}`, strings.Repeat("x", int(n%5000)), n)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, home.URL+"/v1/chat/completions", strings.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+home.key)
	resp, err := m.chain.RoundTrip(req) //nolint:contextcheck // a count needs none
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || string(got) != home.answer(payload) && string(got) != there.answer(payload) {
		return fmt.Errorf("%d %q", resp.StatusCode, got)
	}
	return nil
}

// TestSoak has three processes of a fleet, over a real Redis, call a home that dies and
// comes back, with another target that is always well, while Redis is frozen, killed,
// flushed and started anew. No call fails, no credential reaches the other's place, each
// answer is byte for byte what one of the two meant, and nothing is left.
func TestSoak(t *testing.T) {
	length := *soakFor
	switch {
	case length > 0:
	case testing.Short():
		length = 3 * time.Second
	default:
		length = 8 * time.Second
	}
	s := newServer(t)
	if s == nil {
		return
	}
	home, there := newPlace(t, "home", "home-secret", "there-secret"), newPlace(t, "there", "there-secret", "home-secret")
	var members []*member
	for range 3 {
		members = append(members, newMember(t, s, there))
	}
	var advised atomic.Int64
	members[0].Subscribe(func(breaker.Advice) { advised.Add(1) })

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wait sync.WaitGroup
	var calls atomic.Uint64
	var heap []uint64
	for _, m := range members {
		for range 4 {
			wait.Go(func() {
				for ctx.Err() == nil {
					if err := m.call(t.Context(), home, there, calls.Add(1)); err != nil { //nolint:contextcheck // the end of the soak cancels nothing
						t.Errorf("a call failed while a target was well: %v", err)
						cancel()
					}
					pause(ctx, 2*time.Millisecond)
				}
			})
		}
	}
	wait.Go(func() {
		home.state.Store(isDead) // for long enough to open breakers
		pause(ctx, 1500*time.Millisecond)
		for pause(ctx, rand.N(600*time.Millisecond)) {
			home.state.Store(rand.Int32N(states))
		}
	})
	wait.Go(func() { s.trouble(t, ctx) })
	for pause(ctx, length/5) {
		heap = append(heap, heapInUse())
	}
	wait.Wait()
	home.state.Store(isWell)
	eventually(t, "calls come home", func() bool {
		before := home.served.Load()
		for _, m := range members {
			if err := m.call(t.Context(), home, there, calls.Add(1)); err != nil {
				t.Error(err)
			}
		}
		return home.served.Load() == before+int64(len(members))
	})
	for _, m := range members {
		_ = m.chain.Close()
		_ = m.Close()
		m.chain.CloseIdleConnections()
	}
	var opened int64
	for _, m := range members {
		opened += m.opened.Load()
	}
	t.Logf("%d calls, %d answered at home, %d there; home failed %d times, breakers opened %d times, advice came %d times; heap: %v",
		calls.Load(), home.served.Load(), there.served.Load(), home.failed.Load(), opened, advised.Load(), heap)
	if n := home.wrong.Load() + there.wrong.Load(); n > 0 {
		t.Errorf("%d requests had credentials that are not for that place", n)
	}
	if home.failed.Load() == 0 || opened == 0 || there.served.Load() == 0 {
		t.Error("nothing was the matter")
	}
	if n := len(heap); n >= 3 && heap[n-1] > heap[0]+heap[0]/2+8<<20 {
		t.Errorf("the heap grew: %v", heap)
	}
}

// trouble has everything happen to the server until ctx ends. In the end it answers.
func (s *server) trouble(t *testing.T, ctx context.Context) { //nolint:revive // t goes first in tests
	t.Helper()
	own := redis.NewClient(&redis.Options{Addr: s.addr})
	defer own.Close()
	for pause(ctx, rand.N(800*time.Millisecond)) {
		switch rand.IntN(3) {
		case 0:
			_ = s.cmd.Process.Signal(syscall.SIGSTOP)
			pause(ctx, rand.N(1500*time.Millisecond))
			_ = s.cmd.Process.Signal(syscall.SIGCONT)
		case 1:
			s.kill()
			pause(ctx, rand.N(500*time.Millisecond))
			s.cmd = exec.Command(s.program, s.args...) //nolint:noctx // it is killed by Cleanup
			if err := s.cmd.Start(); err != nil {
				t.Error(err)
				return
			}
		default:
			_ = own.FlushAll(ctx).Err()
		}
	}
}

// pause waits, and reports whether ctx lasted.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
