package contract

import (
	"flag"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // broken wrappers mostly wait
		panic(err)
	}
	code := m.Run()
	close(leaks)
	os.Exit(code)
}

func TestCorrectWrappersPass(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // broken wrappers leave something behind
	t.Run("pass-through", func(t *testing.T) { Test(t, passThrough) })
	t.Run("pass-through twice", func(t *testing.T) {
		Test(t, func(base http.RoundTripper) http.RoundTripper { return passThrough(passThrough(base)) })
	})
	t.Run("retries", func(t *testing.T) { Test(t, retries(flaws{}), Buffers) })
	t.Run("retries over pass-through", func(t *testing.T) {
		Test(t, func(base http.RoundTripper) http.RoundTripper { return retries(flaws{})(passThrough(base)) }, Buffers)
	})
}

func TestBrokenWrappersAreCaught(t *testing.T) {
	for _, w := range broken {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			// The network shows what is wrong on the network only, and costs most of the time.
			spared := slices.DeleteFunc([]string{"over HTTP/", "HTTP/2/", "memory/", "ends as well as without it/"}, func(start string) bool {
				return slices.ContainsFunc(w.breaks, func(listed string) bool { return strings.HasPrefix(listed, start) })
			})
			check := func(r rule, soon time.Duration) error {
				x := &exam{t: t, wrap: w.wrap, opts: w.opts, soon: soon, kinds: kinds}
				if !coversAny(w.breaks, r.name) {
					x.kinds = []kind{kinds[0], kinds[2]} // enough to show that nothing else is wrong
				}
				return r.examine(x, patience)
			}
			var names []string
			for _, r := range rulesFor(w.opts) {
				if slices.ContainsFunc(spared, func(start string) bool { return strings.HasPrefix(r.name, start) }) ||
					testing.Short() && !coversAny(w.breaks, r.name) {
					continue
				}
				err := check(r, 300*time.Millisecond)
				if err == nil {
					continue
				}
				names = append(names, r.name)
				if !coversAny(slices.Concat(w.breaks, w.may), r.name) {
					if err := check(r, 10*time.Second); err != nil { // it was not just a slow machine
						t.Errorf("fails %q too: %v", r.name, err)
					}
				}
			}
			for _, listed := range w.breaks {
				if !slices.ContainsFunc(names, func(name string) bool { return covers(listed, name) }) {
					t.Errorf("does not fail %q", listed)
				}
			}
		})
	}
}

// covers: what a list names is a rule or, with a star at its end, all that begin so.
func covers(listed, name string) bool {
	start, all := strings.CutSuffix(listed, "*")
	return listed == name || all && strings.HasPrefix(name, start)
}

func coversAny(list []string, name string) bool {
	return slices.ContainsFunc(list, func(listed string) bool { return covers(listed, name) })
}

func TestACheckEndsWhateverTheWrapperDoes(t *testing.T) {
	var never sync.Mutex
	never.Lock()
	for name, row := range map[string]struct {
		wrap func(http.RoundTripper) http.RoundTripper
		want string
	}{
		"hangs":                              {changing(func(req *http.Request) *http.Request { never.Lock(); return req }), "hangs"},
		"hangs when it is made":              {func(base http.RoundTripper) http.RoundTripper { never.Lock(); return base }, "hangs"},
		"panics":                             {changing(func(*http.Request) *http.Request { panic("this one") }), "this one"},
		"panics when it is made":             {func(http.RoundTripper) http.RoundTripper { panic("this one") }, "this one"},
		"ends the goroutine":                 {changing(func(req *http.Request) *http.Request { runtime.Goexit(); return req }), ""},
		"ends the goroutine when it is made": {func(base http.RoundTripper) http.RoundTripper { runtime.Goexit(); return base }, "ended"},
	} {
		for _, r := range rulesFor(nil) {
			switch r.name {
			case "the response's body/has the base's bytes", "the response's body/can be closed beside a Read, which ends",
				"over HTTP/1.1/a payload is echoed", "HTTP/2/a GOAWAY amid the answer leaves the rest alone":
			default:
				continue
			}
			t.Run(name+"/"+r.name, func(t *testing.T) {
				t.Parallel()
				limit := patience
				if row.want == "hangs" {
					limit = 100 * time.Millisecond
				}
				err := r.examine(&exam{t: t, wrap: row.wrap, soon: time.Minute, kinds: kinds}, limit)
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v instead of %q", err, row.want)
				}
			})
		}
	}
}

func TestEveryRuleCatchesSomething(t *testing.T) {
	for _, r := range Rules(Buffers) {
		if !slices.ContainsFunc(broken, func(w brokenWrapper) bool { return coversAny(w.breaks, r.Name) }) {
			t.Errorf("no broken wrapper fails %q", r.Name)
		}
	}
}

func TestRuleNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules(Buffers, AddsHeaders) {
		if seen[r.Name] {
			t.Errorf("%q is there twice", r.Name)
		}
		seen[r.Name] = true
	}
}
