package openai

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A target that refuses its credentials or a model rests: such a refusal lasts until
// the operator acts, and asking again costs each call a request. A breaker can't do this,
// because the target is healthy and breakers are about failures.
const (
	// Each further rest is twice as long as the one before, up to longestRest. A
	// new key is found soon, and one that stays refused costs little.
	firstRest   = time.Minute
	longestRest = 15 * time.Minute

	// refusalsToRest counts refusals of different calls without a success between
	// them: one refusal may be about its call alone.
	refusalsToRest = 2

	// authorizeToRest counts failures of Authorize in the same way. It is more
	// patient, because fetching a token can fail for a moment.
	authorizeToRest = 3
)

// maxRests bounds how many keys are remembered. Models and credentials come from
// callers, so that without a bound they could fill the memory.
const maxRests = 1024

// A restKey is what rests: a target as a whole, one model there, one caller's
// credential there, or the target's Authorize. They rest apart from each other, so
// that a refused model does not close the target to others.
type restKey struct {
	target     int
	model      string // "" for all
	credential uint64 // of the caller; 0 for the target's own
	authorize  bool   // its Authorize
}

// A rest is what is known of a key that was refused. A success deletes it, so that the
// next refusal begins from the start.
type rest struct {
	refusals int           // of different calls
	call     uint64        // the one that was refused last, which counts once
	length   time.Duration // of the latest rest; the next one is twice that
	until    time.Time     // zero before its first rest
	trying   bool          // the one call that may try is under way
	tried    time.Time     // when it began
}

// rests are the keys of a Transport that were refused lately. They are safe for
// concurrent use. While there are none, calls read count and need no lock, since that is
// the normal case. The zero value has no rests. Time is a parameter, for tests.
type rests struct {
	count atomic.Int64
	mu    sync.Mutex
	all   map[restKey]*rest
}

// resting reports whether a call should go elsewhere. When a rest is over, it returns
// false for one call, which may try: if the refusal lasts, only that call pays for it.
// A try that has no outcome, for example because its call was canceled, is given up
// after firstRest. Otherwise the key would rest for ever.
func (r *rests) resting(k restKey, now time.Time) bool {
	if r.count.Load() == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.all[k]
	if e == nil || e.until.IsZero() {
		return false
	}
	if now.Before(e.until) || e.trying && now.Before(e.tried.Add(firstRest)) {
		return true
	}
	e.trying, e.tried = true, now
	return false
}

// refused notes that a call was refused for the key. threshold is how many different
// calls it takes to rest. A refusal during a rest does not make that longer: it comes
// from a call that was under way, or that found all targets resting.
func (r *rests) refused(k restKey, call uint64, threshold int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.all[k]
	if e == nil {
		e = r.add(k, now)
	}
	if e.refusals == 0 || e.call != call {
		e.refusals++
		e.call = call
	}
	if e.refusals < threshold || now.Before(e.until) {
		return
	}
	e.length = min(max(2*e.length, firstRest), longestRest)
	e.until, e.trying = now.Add(e.length), false
}

// add adds a key. If there is no room, the one whose rest ended first goes, and before
// it any that has not rested yet: that is the least to forget. r.mu must be held.
func (r *rests) add(k restKey, now time.Time) *rest {
	if r.all == nil {
		r.all = make(map[restKey]*rest)
	}
	if len(r.all) >= maxRests {
		var oldest restKey
		earliest := now.Add(2 * longestRest)
		for key, e := range r.all {
			if e.until.Before(earliest) {
				oldest, earliest = key, e.until
			}
		}
		delete(r.all, oldest)
	}
	e := new(rest)
	r.all[k] = e
	r.count.Store(int64(len(r.all)))
	return e
}

// succeeded notes that the keys were not refused. All that is known of them is
// forgotten, since the credentials or the model work again.
func (r *rests) succeeded(keys ...restKey) {
	if r.count.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys {
		delete(r.all, k)
	}
	r.count.Store(int64(len(r.all)))
}

// A RestSnapshot says until when calls pass a target over, as part of a
// [TargetSnapshot]. The reason is that the target has refused its own credentials, that
// its [Target.Authorize] has failed, or that it does not have a model.
type RestSnapshot struct {
	Model string    `json:"model,omitempty"` // "" if the target rests as a whole
	Until time.Time `json:"until"`           // when one call may try
}

// of returns the rests of a target that are not over, ordered by model so that two
// snapshots can be compared. Rests of callers' credentials are left out: they concern
// one caller, and say nothing about the target. The list is never nil, so that its
// JSON is a list, too.
func (r *rests) of(target int, now time.Time) []RestSnapshot {
	list := []RestSnapshot{}
	if r.count.Load() == 0 {
		return list
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, e := range r.all {
		if k.target == target && k.credential == 0 && now.Before(e.until) {
			list = append(list, RestSnapshot{k.model, e.until})
		}
	}
	slices.SortFunc(list, func(a, b RestSnapshot) int { return strings.Compare(a.Model, b.Model) })
	return list
}
