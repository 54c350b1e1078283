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
}

// Add notes a row, and reports whether it was noted before.
func (r *Rows) Add(number uint64) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.numbers, number) {
		return true
	}
	r.numbers = append(r.numbers, number)
	return false
}
