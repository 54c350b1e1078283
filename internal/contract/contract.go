// Package contract is a conformance suite for HTTP middleware: what
// [http.RoundTripper] demands, and what callers rely on without its saying so.
// It knows nothing of the wrapper it examines, so it can be run on a foreign
// one too. A wrapper may make several attempts; where the suite provokes that,
// time is virtual.
package contract

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// An Option says what kind of wrapper is examined.
type Option int

const (
	// Buffers means that the wrapper reads the payload of a request that may be repeated
	// (PUT, or POST with an Idempotency-Key) before it sends anything, so that
	// it owns the caller's body from then on.
	Buffers Option = iota + 1

	// AddsHeaders means that the base may see header fields the caller has not set.
	AddsHeaders

	// RepeatsAll means that the wrapper takes every request for one that may be
	// repeated, whatever HTTP says of it.
	RepeatsAll
)

// A Rule is one thing every wrapper must keep.
type Rule struct {
	Name string // "subject/case"

	// Check returns nil if wrap keeps the rule. It calls wrap at least once,
	// with a new base each time and often inside a [testing/synctest] bubble,
	// for which alone it needs t: a broken rule does not fail t. It returns within
	// a minute, also if wrap or what it returns panics or hangs, and then leaves a
	// goroutine behind. Only what no caller can stop, as a panic in a goroutine of
	// the wrapper's own, ends the process.
	Check func(t *testing.T, wrap func(base http.RoundTripper) http.RoundTripper) error
}

// Test runs every rule as a subtest. wrap must return a new wrapper each time.
func Test(t *testing.T, wrap func(base http.RoundTripper) http.RoundTripper, opts ...Option) {
	t.Helper()
	for _, r := range Rules(opts...) {
		t.Run(r.Name, func(t *testing.T) {
			if err := r.Check(t, wrap); err != nil {
				t.Error(err)
			}
		})
	}
}

// Rules returns the rules that hold for a wrapper of the kind opts say.
func Rules(opts ...Option) []Rule {
	var rules []Rule
	for _, r := range rulesFor(opts) {
		rules = append(rules, Rule{
			Name: r.name,
			Check: func(t *testing.T, wrap func(http.RoundTripper) http.RoundTripper) error {
				return r.examine(&exam{t: t, wrap: wrap, opts: opts, soon: 5 * time.Second, kinds: kinds}, patience)
			},
		})
	}
	return rules
}

func rulesFor(opts []Option) []rule {
	var rules []rule
	for _, group := range [][]rule{
		requestRules, closeRules, uploadRules, payloadRules, attemptRules,
		responseRules, bodyRules, mediaRules, givenUpRules, baseRules,
		contextRules, cancelRules, clientRules, concurrencyRules, memoryRules, http2Rules, alikeRules(), networkRules(),
	} {
		for _, r := range group {
			if !r.buffers || slices.Contains(opts, Buffers) {
				rules = append(rules, r)
			}
		}
	}
	return rules
}

type rule struct {
	name    string
	buffers bool // only for wrappers with the option Buffers
	check   func(x *exam) error
}

// examine checks the rule, but waits no longer than patience.
func (r rule) examine(x *exam, patience time.Duration) error {
	x.wait.stop = make(chan struct{})
	timer := time.AfterFunc(patience, x.wait.giveUp)
	defer timer.Stop()
	if err := until(x.wait.stop, aside(func() error { return r.check(x) })); !errors.Is(err, errHangs) {
		return err
	}
	return fmt.Errorf("%w: not done after %v of real time", errHangs, patience)
}

// An exam is one wrapper put to one rule.
type exam struct {
	t    *testing.T
	wrap func(http.RoundTripper) http.RoundTripper
	opts []Option
	soon time.Duration // how long something may take in real time
	wait wait

	kinds []kind // of requests
}

func (x *exam) is(o Option) bool { return slices.Contains(x.opts, o) }

// once checks f in a scene of its own.
func (x *exam) once(f func(s *scene) error) error {
	return bubble(x.t, &x.wait, func(s *scene) error {
		s.wrap = x.wrap
		return f(s)
	})
}

// each checks f in a scene of its own for every kind of request.
func (x *exam) each(f func(s *scene, k kind) error) error {
	var errs []error
	for _, k := range x.kinds {
		err := x.once(func(s *scene) error { return f(s, k) })
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
		}
		if errors.Is(err, errHangs) {
			break
		}
	}
	return errors.Join(errs...)
}

// A kind is a shape of request that wrappers are known to treat differently.
type kind struct {
	name, method, path string
	key                string // Idempotency-Key
	repeatable         bool   // by what HTTP says of method and key
}

// repeatedPath is of an endpoint whose POSTs the chain repeats, and whose answers
// may hold anything.
const repeatedPath = "/v1/rerank"

var kinds = []kind{
	{name: "PUT", method: http.MethodPut, path: "/v1/things/1", repeatable: true},
	{name: "POST with key", method: http.MethodPost, path: "/v1/things", key: "k-1", repeatable: true},
	{name: "POST", method: http.MethodPost, path: "/v1/things"},
	{name: "POST rerank", method: http.MethodPost, path: repeatedPath},
}
