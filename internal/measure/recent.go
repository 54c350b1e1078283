package measure

import (
	"strings"
	"sync/atomic"
)

// Recent keeps what was made for some of the keys asked for lately: nearly all
// that a service records differs by the same few. The zero value is
// empty. It is safe for concurrent use, and takes no lock.
type Recent[K comparable, V any] struct {
	places [8]atomic.Pointer[kept[K, V]]
}

// kept is immutable, so that one atomic pointer hands it over whole.
type kept[K comparable, V any] struct {
	key   K
	value V
}

// Find returns what is kept for key, if it is. Of the keys with the same hash,
// which need not be a good one, one is kept.
func (r *Recent[K, V]) Find(hash int, key K) (value V, ok bool) {
	if k := r.places[uint(hash)%uint(len(r.places))].Load(); k != nil && k.key == key {
		return k.value, true
	}
	return value, false
}

// Kept returns a copy of a text that is to be part of a key, or false if it is too
// long to be kept: it is worth no place, and may be a part of something longer still.
func Kept(text string) (string, bool) {
	if len(text) > maxLabel {
		return "", false
	}
	return strings.Clone(text), true
}

// Keep keeps value for key, for as long as no other key takes its place.
func (r *Recent[K, V]) Keep(hash int, key K, value V) {
	r.places[uint(hash)%uint(len(r.places))].Store(&kept[K, V]{key, value})
}
