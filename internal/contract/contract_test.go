package contract

import (
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
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
			spared := slices.DeleteFunc([]string{"over HTTP/", "HTTP/2/"}, func(start string) bool {
				return slices.ContainsFunc(w.breaks, func(listed string) bool { return strings.HasPrefix(listed, start) })
			})
			check := func(r rule, soon time.Duration) error {
				return r.check(&exam{t: t, wrap: w.wrap, opts: w.opts, soon: soon})
			}
			var names []string
			for _, r := range rulesFor(w.opts) {
				if slices.ContainsFunc(spared, func(start string) bool { return strings.HasPrefix(r.name, start) }) {
					continue
				}
				err := check(r, time.Second)
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
