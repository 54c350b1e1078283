package call

import (
	"slices"
	"sync"
)

// Rows are the numbers of the rows of failures that attempts of one call belong to. A
// call that goes from one target to another and back is in several at a time. The
// zero value has none. Its methods may be called concurrently.
type Rows struct {
	mu      sync.Mutex
	numbers []uint64
	begun   uint64 // the latest that the call itself has begun
}

// Add notes a row, and whether the call begins it. It reports whether it was noted
// before: attempts of one call count once in a row, so that one payload that breaks a
// server can't open a breaker by itself.
func (r *Rows) Add(number uint64, begins bool) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if begins {
		r.begun = number
	}
	if slices.Contains(r.numbers, number) {
		return true
	}
	r.numbers = append(r.numbers, number)
	return false
}

// Began reports whether a row is the latest that the call has begun.
func (r *Rows) Began(number uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begun == number
}
