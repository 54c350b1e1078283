package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/retrip-go/retrip/internal/contract"
)

func TestMain(m *testing.M) {
	if p, rule, ok := asked(append(all(), villains...), os.Args[1:]); ok {
		examine(p, rule)
	}
	goleak.VerifyTestMain(m)
}

// A provider fails so many times before each answer, which is the payload.
type provider struct {
	failures int

	mu   sync.Mutex
	seen [][]byte
}

func (p *provider) RoundTrip(req *http.Request) (*http.Response, error) {
	payload, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, payload)
	resp := &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		ContentLength: int64(len(payload)), Body: io.NopCloser(bytes.NewReader(payload)),
	}
	if len(p.seen) <= p.failures {
		resp.StatusCode = http.StatusServiceUnavailable
	}
	return resp, nil
}

func (p *provider) requests() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func ask(t *testing.T, rt http.RoundTripper, payload []byte) (int, error) {
	t.Helper()
	req, err := plain(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, payload) {
		t.Errorf("the answer is %q, %v", got, err)
	}
	return resp.StatusCode, nil
}

// eachPeer runs f in virtual time, as a bubble of its own.
func eachPeer(t *testing.T, which func(peer) bool, f func(t *testing.T, p peer)) {
	ran := 0
	for _, p := range all() {
		if which(p) {
			ran++
			t.Run(p.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, p) }) })
		}
	}
	if ran < 4 {
		t.Errorf("only %d peers", ran)
	}
}

func TestTwoFailuresAreMended(t *testing.T) {
	payload := chat(small, false)
	eachPeer(t, func(p peer) bool { return p.retries }, func(t *testing.T, p peer) {
		base := &provider{failures: 2}
		status, err := ask(t, p.wrap(base, settings{}), payload)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%d, %v", status, err)
		}
		if n := len(base.requests()); n != 3 {
			t.Errorf("%d requests, not 3", n)
		}
		for i, got := range base.requests() {
			if !bytes.Equal(got, payload) {
				t.Errorf("request %d has another payload", i+1)
			}
		}
	})
}

func TestFourFailuresEndInTheLastResponse(t *testing.T) {
	eachPeer(t, func(p peer) bool { return p.retries }, func(t *testing.T, p peer) {
		base := &provider{failures: 100}
		status, err := ask(t, p.wrap(base, settings{}), chat(small, false))
		if n := len(base.requests()); err != nil || status != http.StatusServiceUnavailable || n != attempts {
			t.Errorf("%d, %v after %d requests", status, err, n)
		}
	})
}

func TestWhoDoesNotRetryPassesAFailureOn(t *testing.T) {
	for _, p := range all() {
		if p.retries {
			continue
		}
		base := &provider{failures: 1}
		status, err := ask(t, p.wrap(base, settings{}), chat(small, false))
		if n := len(base.requests()); err != nil || status != http.StatusServiceUnavailable || n != 1 {
			t.Errorf("%s: %d, %v after %d requests", p.name, status, err, n)
		}
	}
}

func TestFailuresInARowOpenTheBreaker(t *testing.T) {
	without := []string{"retrip, retry alone", "otelhttp"}
	eachPeer(t, func(p peer) bool { return !slices.Contains(without, p.name) }, func(t *testing.T, p peer) {
		base := &provider{failures: 1000}
		rt := p.wrap(base, settings{alike: true})
		for range 2 * threshold {
			_, _ = ask(t, rt, chat(small, false))
			time.Sleep(time.Second / (threshold - 1)) // what fails together is one failure to retrip
		}
		before := len(base.requests())
		if _, err := ask(t, rt, chat(small, false)); err == nil {
			t.Error("the call is not refused")
		}
		if after := len(base.requests()); after != before {
			t.Errorf("the refused call sends %d requests", after-before)
		}
		time.Sleep(openFor + time.Second)
		base.failures = 0
		if status, err := ask(t, rt, chat(small, false)); err != nil || status != http.StatusOK {
			t.Errorf("after the pause: %d, %v", status, err)
		}
	})
}

func TestEveryContenderDoesItsWork(t *testing.T) {
	ctx := t.Context()
	for name, contenders := range map[string][]contender{
		"calls":    callers(ctx, chat(small, false), func() *stub { return newStub("application/json", completion(), 0) }),
		"streams":  callers(ctx, chat(small, true), func() *stub { return newStub("text/event-stream", stream(events), 0) }),
		"payloads": repeaters(ctx, chat(small, false), func() *stub { return newStub("application/json", completion(), 2) }),
		"breakers": breakers(),
	} {
		if len(contenders) < 4 {
			t.Errorf("%s: only %d", name, len(contenders))
		}
		for _, c := range contenders {
			goroutines := 3
			if name == "payloads" {
				goroutines = 1 // whose turn it is to fail is not told by call
			}
			if err := c.do(goroutines, 100); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestACallThatIsNotAnsweredWholeIsAnError(t *testing.T) {
	short := newStub("application/json", completion(), 0)
	for name, worker := range map[string]func() func() error{
		"another length": calls(t.Context(), short, plain, chat(small, false), len(short.answer)+1),
		"another status": calls(t.Context(), newStub("application/json", down, 1), plain, chat(small, false), len(down)),
	} {
		if (contender{worker: worker}).do(1, 1) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A villain is correct until its idle connections are closed.
type villain struct {
	http.RoundTripper
	harm func()
}

func (v villain) CloseIdleConnections() { v.harm() }

func harmful(name string, harm func()) peer {
	return peer{name: name, wrap: func(base http.RoundTripper, _ settings) http.RoundTripper { return villain{base, harm} }}
}

const closesIdle = "CloseIdleConnections/reaches the base once"

// never is made outside of any bubble, so that virtual time does not see the deadlock.
var never = make(chan struct{})

var villains = []peer{
	harmful("hangs", func() { <-never }),
	harmful("panics", func() { go panic("villain") }),
	harmful("exits", func() { os.Exit(3) }),
}

func TestAWrapperMayHangOrKillItsProcess(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		within time.Duration
		want   string
	}{
		"hangs":  {2 * time.Second, "its process hangs"},
		"panics": {oneWithin, "its process ends: exit status 2: panic: villain"},
		"exits":  {oneWithin, "its process ends: exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), row.within)
			defer cancel()
			found, end := findings(ctx, program, examineArg, name, closesIdle)
			if _, ok := found[closesIdle]; ok || !strings.HasPrefix(end, row.want) {
				t.Errorf("%v, %q instead of %q", found, end, row.want)
			}
		})
	}
}

func TestWhatIsNotFoundKeptIsExaminedAlone(t *testing.T) {
	rules := contract.Rules()
	broken, mended, lost, dead := rules[0].Name, rules[1].Name, rules[2].Name, rules[3].Name
	first, alone := map[string]finding{}, map[string]finding{}
	for _, r := range rules {
		first[r.Name] = finding{Rule: r.Name}
	}
	for _, name := range []string{broken, mended} {
		first[name] = finding{Rule: name, Broken: "at first"}
	}
	delete(first, lost)
	delete(first, dead)
	alone[broken] = finding{Rule: broken, Broken: "alone"}
	alone[mended], alone[lost] = finding{Rule: mended}, finding{Rule: lost}

	r := peer{name: "p"}.examine(func(_ time.Duration, args ...string) (map[string]finding, string) {
		if len(args) == 2 {
			return first, "ended"
		}
		return alone, "ended"
	})
	if len(r.broken) != 2 || r.broken[broken] != "alone" || r.broken[dead] != "ended" {
		t.Errorf("broken: %v", r.broken)
	}
	for _, rule := range r.rules {
		if !isCounted(rule) {
			t.Errorf("%q counts", rule)
		}
	}
}

func TestEveryUncountedRuleIsOne(t *testing.T) {
	for _, u := range uncounted {
		start, all := strings.CutSuffix(u.name, "*")
		if !slices.ContainsFunc(contract.Rules(contract.Buffers), func(r contract.Rule) bool {
			return r.Name == u.name || all && strings.HasPrefix(r.Name, start)
		}) {
			t.Errorf("there is no %q", u.name)
		}
	}
}

func TestRetripKeepsEveryRuleAlsoTheUncounted(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all() {
		if len(p.modules) > 0 {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			found, end := findings(t.Context(), program, examineArg, p.name)
			for _, r := range contract.Rules(p.options...) {
				if f, ok := found[r.Name]; !ok || f.Broken != "" {
					t.Errorf("%s: %t, %s (%s)", r.Name, ok, f.Broken, end)
				}
			}
		})
	}
}
