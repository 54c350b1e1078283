package breaker

import "sync"

// drain hands over, in order and one at a time, what next returns under the lock,
// until there is nothing more. It does so outside the lock: whoever gets it may call
// back, or panic. If somebody else is at it, which busy tells, that one goes on.
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
