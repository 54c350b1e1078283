package contract

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	close(leaks)
	if code == 0 {
		// A wrapper that hangs on purpose leaves its bubble behind.
		if err := goleak.Find(goleak.IgnoreAnyFunction("internal/synctest.Run")); err != nil {
			os.Stderr.WriteString(err.Error() + "\n") //nolint:errcheck // it is the last thing done
			code = 1
		}
	}
	os.Exit(code)
}

func TestCorrectWrappersPass(t *testing.T) {
	t.Run("pass-through", func(t *testing.T) { Test(t, passThrough) })
	t.Run("pass-through twice", func(t *testing.T) {
		Test(t, func(base http.RoundTripper) http.RoundTripper { return passThrough(passThrough(base)) })
	})
	t.Run("retries", func(t *testing.T) { Test(t, retries(flaws{}), Buffers) })
	t.Run("retries over pass-through", func(t *testing.T) {
		Test(t, func(base http.RoundTripper) http.RoundTripper { return retries(flaws{})(passThrough(base)) }, Buffers)
	})
}

// failed returns the names of the rules that wrap breaks.
func failed(t *testing.T, wrap func(http.RoundTripper) http.RoundTripper, opts ...Option) (names []string, why error) {
	t.Helper()
	for _, r := range Rules(opts...) {
		if err := r.Check(t, wrap); err != nil {
			names = append(names, r.Name)
			why = errors.Join(why, errors.New(r.Name+": "+err.Error()))
		}
	}
	return names, why
}

func TestBrokenWrappersAreCaught(t *testing.T) {
	for _, w := range broken {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			got, why := failed(t, w.wrap, w.opts...)
			for _, name := range got {
				if !slices.ContainsFunc(w.breaks, func(rule string) bool { return covers(rule, name) }) {
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

// covers: a rule of a list is a whole name or, with a slash at its end, a subject.
func covers(rule, name string) bool {
	return rule == name || strings.HasSuffix(rule, "/") && strings.HasPrefix(name, rule)
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
