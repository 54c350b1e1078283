package openai

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A target whose credentials or model are refused rests: asking again costs a
// request and helps nobody.
const (
	firstRest       = time.Minute
	longestRest     = 15 * time.Minute
	refusalsToRest  = 2 // of different calls, without a success between them
	authorizeToRest = 3 // failures of Authorize, likewise
)

// maxRests bounds what rests remember.
const maxRests = 1024

// A restKey is what rests: a target as a whole, one model there, or one caller's
// credential there.
type restKey struct {
	target     int
	model      string // "" for all
	credential uint64 // of the caller; 0 for the target's own
	authorize  bool   // its Authorize
}

// A rest is what is known of a key that was refused.
type rest struct {
	refusals int
	call     uint64 // that was refused last
	length   time.Duration
	until    time.Time // zero while it does not rest
	trying   bool      // the call that may try is under way
	tried    time.Time // when it began
}

// rests are the keys of a Transport that were refused lately. As long as there are
// none, no lock is taken. Time is a parameter.
type rests struct {
	count atomic.Int64
	mu    sync.Mutex
	all   map[restKey]*rest
}

// resting reports whether a call should go elsewhere. When a rest is over one call
// may try: for that one it returns false.
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

// refused notes that a call was refused for the key. threshold is how many
// different calls it takes to rest.
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

// add makes room for a key: what has been over for longest goes first.
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

// succeeded notes that the keys were not refused.
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

// A RestSnapshot is a target that rests, at one moment, because it has refused its
// credentials, or does not have a model.
type RestSnapshot struct {
	Model string    `json:"model,omitempty"` // "" if the target rests as a whole
	Until time.Time `json:"until"`           // when one call may try
}

// of returns the rests of a target that are not over, ordered by model. Those of
// callers' credentials are theirs alone and not shown.
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
