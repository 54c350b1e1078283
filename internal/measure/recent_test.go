package measure

import (
	"sync"
	"testing"
)

func TestRecentKeepsOneOfTheKeysWithTheSameHash(t *testing.T) {
	t.Parallel()
	var r Recent[string, int]
	if _, ok := r.Find(1, "a"); ok {
		t.Error("an empty one has found something")
	}
	r.Keep(1, "a", 10)
	r.Keep(2, "b", 20)
	for key, want := range map[string]int{"a": 10, "b": 20} {
		if got, ok := r.Find(want/10, key); !ok || got != want {
			t.Errorf("%s: %d, %v", key, got, ok)
		}
	}
	r.Keep(1, "c", 30)
	if _, ok := r.Find(1, "a"); ok {
		t.Error("a is kept beside c")
	}
	if got, ok := r.Find(3, "c"); ok {
		t.Errorf("found %d by another hash", got)
	}
	r.Keep(-1, "d", 40)
	if got, ok := r.Find(-1, "d"); !ok || got != 40 {
		t.Errorf("by a negative hash: %d, %v", got, ok)
	}
}

func TestRecentNeverMixesKeysAndValues(t *testing.T) {
	t.Parallel()
	var r Recent[int, int]
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 10000 {
				key := i % 40
				if got, ok := r.Find(key, key); ok && got != 2*key {
					t.Errorf("%d: %d", key, got)
				}
				r.Keep(key, key, 2*key)
			}
		})
	}
	wg.Wait()
}
