package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
)

// A scene is what a service meets.
type scene struct {
	name    string
	proxy   proxy // nil: the provider is called without one
	http2   bool  // between caller and first proxy, over TLS
	callers int   // at the same time
	calls   int   // of each
	plan    func(n int) plan
	happens incident // may be nil
	second  proxy    // of another provider, where retrip may go: no call of its fails then; nil: there is none
}

const (
	// sceneLimit bounds a scene's calls; those that are not over by then are not answered.
	// A stream that freezes behind its finish_reason ends after the 10 s in which a
	// usage event may still come, and its caller has more calls to make.
	sceneLimit = 16 * time.Second

	atOnce = 4                      // scenes
	rest   = 100 * time.Millisecond // of a caller whose call has failed
)

// A result is what came of a scene for one pairing.
type result struct {
	pairing

	calls, answered, halves int
	requests                int64
	first                   time.Duration // the median of the streams answered
	failure                 error         // of the first call that failed, for whoever looks for the reason
}

// A played scene has a result for each pairing.
type played struct {
	*scene

	results []result
}

// playAll plays scenes, some of them at the same time.
func playAll(ctx context.Context, scenes []scene) ([]played, error) {
	return each(scenes, func(s *scene) (played, error) {
		p, err := s.play(ctx)
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
		}
		return p, err
	})
}

// each does the same with all things of a list, some of them at the same time.
func each[T, R any](list []T, do func(*T) (R, error)) ([]R, error) {
	results, errs := make([]R, len(list)), make([]error, len(list))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := range list {
		places <- struct{}{}
		all.Go(func() {
			results[i], errs[i] = do(&list[i])
			<-places
		})
	}
	all.Wait()
	return results, errors.Join(errs...)
}

// play plays a scene for all pairings at the same time, each with a rig of its
// own. Where they break the rule, they do it once more: half a dozen calls may
// be unlucky.
func (s *scene) play(ctx context.Context) (played, error) {
	p, err := s.once(ctx)
	if err == nil && p.breaks() != "" {
		p, err = s.once(ctx)
	}
	return p, err
}

func (s *scene) once(ctx context.Context) (played, error) {
	p := played{s, make([]result, len(pairings))}
	errs := make([]error, len(pairings))
	var all sync.WaitGroup
	for i, pair := range pairings {
		all.Go(func() { p.results[i], errs[i] = s.through(ctx, pair) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func (s *scene) through(ctx context.Context, pair pairing) (result, error) {
	r, err := newRig(ctx, s, homeKey)
	defer r.close()
	if err != nil {
		return result{}, err
	}
	var cfg retrip.Config
	if s.second != nil {
		second, err := newRig(ctx, &scene{proxy: s.second}, secondKey)
		defer second.close()
		if err != nil {
			return result{}, err
		}
		cfg = withSecond(second.url())
	}
	c := newCaller(pair, r.url(), r.roots, cfg) //nolint:contextcheck // a Transport is for many calls
	defer c.end()
	var happened error
	var all sync.WaitGroup
	if s.happens != nil {
		all.Go(func() { happened = s.happens(ctx, r) })
	}
	limited, cancel := context.WithTimeout(ctx, sceneLimit)
	defer cancel()
	outcomes := c.crowd(limited, s.callers, s.calls, s.plan)
	all.Wait()
	return summed(pair, outcomes, c.sent.Load()), happened
}

func summed(pair pairing, outcomes []outcome, requests int64) result {
	sum := result{pairing: pair, calls: len(outcomes), requests: requests}
	var firsts []time.Duration
	for _, o := range outcomes {
		switch {
		case o.answered:
			sum.answered++
		case o.half:
			sum.halves++
		case sum.failure == nil:
			sum.failure = o.err
		}
		if o.answered && o.first > 0 {
			firsts = append(firsts, o.first)
		}
	}
	if firsts != nil {
		slices.Sort(firsts)
		sum.first = firsts[len(firsts)/2]
	}
	return sum
}

// breaks says how a scene breaks the rule; empty if it does not: whoever has
// retrip is answered as often as with the SDK's own retries, where there is a
// second provider always, and takes no more halves for a whole.
func (p played) breaks() string {
	var sdk result
	for _, r := range p.results {
		if r.sdk && !r.chain {
			sdk = r
		}
	}
	if p.second != nil {
		sdk.answered, sdk.halves = sdk.calls, 0
	}
	var broken []string
	for _, r := range p.results {
		if r.chain && (r.answered < sdk.answered || r.halves > sdk.halves) {
			broken = append(broken, fmt.Sprintf("%s: %d of %d calls answered and %d halves, where %d and %d are expected; the first failure: %v",
				r.name, r.answered, r.calls, r.halves, sdk.answered, sdk.halves, r.failure))
		}
	}
	return strings.Join(broken, "; ")
}

// named returns the scenes whose names begin so.
func named(start string) []scene {
	return slices.DeleteFunc(scenes(), func(s scene) bool { return !strings.HasPrefix(s.name, start) })
}
