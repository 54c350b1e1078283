package contract

import (
	"errors"
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

// failed returns the names of the rules that wrap breaks; online, also of those over a network.
func failed(t *testing.T, wrap func(http.RoundTripper) http.RoundTripper, online bool, opts ...Option) (names []string, why error) {
	t.Helper()
	for _, r := range Rules(opts...) {
		if !online && strings.HasPrefix(r.Name, "over HTTP/") {
			continue
		}
		if err := r.Check(t, wrap); err != nil {
			names = append(names, r.Name)
			why = errors.Join(why, errors.New(r.Name+": "+err.Error()))
		}
	}
	return names, why
}

func TestBrokenWrappersAreCaught(t *testing.T) {
	patient := soon
	soon = time.Second
	t.Cleanup(func() { soon = patient })
	for _, w := range broken {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			// The network shows what is wrong on the network only, and costs most of the time.
			online := slices.ContainsFunc(w.breaks, func(rule string) bool { return strings.HasPrefix(rule, "over HTTP/") })
			got, why := failed(t, w.wrap, online, w.opts...)
			for _, name := range got {
				if !slices.ContainsFunc(slices.Concat(w.breaks, w.may), func(rule string) bool { return covers(rule, name) }) {
					t.Errorf("fails %q too", name)
				}
			}
			for _, rule := range w.breaks {
				if !slices.ContainsFunc(got, func(name string) bool { return covers(rule, name) }) {
					t.Errorf("does not fail %q", rule)
				}
			}
			if t.Failed() {
				t.Log(why)
			}
		})
	}
}

// covers: what a list names is a rule or, with a star at its end, all that begin so.
func covers(listed, name string) bool {
	start, all := strings.CutSuffix(listed, "*")
	return listed == name || all && strings.HasPrefix(name, start)
}

func TestEveryRuleCatchesSomething(t *testing.T) {
	for _, r := range Rules(Buffers) {
		if !slices.ContainsFunc(broken, func(w brokenWrapper) bool {
			return slices.ContainsFunc(w.breaks, func(rule string) bool { return covers(rule, r.Name) })
		}) {
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
