package prefetch

import "sync/atomic"

// A Quota bounds the memory that several Bodies hold together, because a bound for
// each of them is none for a thousand. It is safe for concurrent use.
type Quota struct {
	Limit int64 // in bytes

	taken atomic.Int64
}

// Taken returns how many bytes are held now.
func (q *Quota) Taken() int64 { return q.taken.Load() }

// take reports whether n more bytes may be held.
func (q *Quota) take(n int) bool {
	if q.taken.Add(int64(n)) <= q.Limit {
		return true
	}
	q.taken.Add(int64(-n))
	return false
}

// giveBack says that n bytes are held no longer.
func (q *Quota) giveBack(n int) { q.taken.Add(int64(-n)) }
