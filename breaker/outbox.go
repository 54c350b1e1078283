package breaker

import "sync"

// An outbox hands out what was put into it, in order, one at a time and outside
// the lock under which that was done: whoever gets it may call back, or panic.
type outbox[T any] struct {
	items []T
	busy  bool // somebody hands out, and sees to it that nothing is left
}

// put is to be called with the lock held.
func (o *outbox[T]) put(item T) { o.items = append(o.items, item) }

// drain hands out all that is there, unless somebody else does. It is to be called
// without the lock.
func (o *outbox[T]) drain(lock *sync.Mutex, handle func(T)) {
	lock.Lock()
	if o.busy {
		lock.Unlock()
		return
	}
	o.busy = true
	handed := false
	defer func() {
		if !handed { // handle panicked
			lock.Lock()
		}
		o.busy = false
		lock.Unlock()
	}()
	for len(o.items) > 0 {
		item := o.items[0]
		o.items = o.items[1:]
		lock.Unlock()
		handle(item)
		lock.Lock()
	}
	handed = true
}
