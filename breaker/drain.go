package breaker

import "sync"

// drain hands over, in order and one at a time, what next returns under the lock,
// until there is nothing more. It does so outside the lock, since handle runs callbacks
// of the user, which may call back or panic. busy says that another goroutine is at it
// already: that one then hands over what has come meanwhile, so that the order holds
// and no goroutine waits for another's callback.
func drain[T any](lock *sync.Mutex, busy *bool, next func() (T, bool), handle func(T)) {
	lock.Lock()
	if *busy {
		lock.Unlock()
		return
	}
	*busy = true
	handling := false
	defer func() {
		if handling { // it panicked
			lock.Lock()
		}
		*busy = false
		lock.Unlock()
	}()
	for item, ok := next(); ok; item, ok = next() {
		lock.Unlock()
		handling = true
		handle(item)
		handling = false
		lock.Lock()
	}
}
