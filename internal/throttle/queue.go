package throttle

import "time"

// A Waiter is a call that may have to wait. Its caller makes it for one call of
// Arrive, and reads it under the Throttle's lock or after Ready is closed.
type Waiter struct {
	Cost int64 // what the call costs in the unit of a limit of tokens
	// Retry says that the call was sent before. It goes before those that were not,
	// since its caller has waited longer.
	Retry bool
	// Latest is when the call is of no use any more. Zero means never.
	Latest time.Duration

	// NotBefore is when the provider wants it again, at the earliest.
	NotBefore time.Duration

	// Ready is closed when the wait is over. Nil if nobody listens.
	Ready chan struct{}

	state      State
	retryAfter time.Duration // of one that is Refused, or left
	sent       Sent          // of one that is Admitted
	queue      *queue        // that it stands in, or nil
	prev, next *Waiter
}

// A State is what has become of a Waiter. The zero value is Waiting.
type State int

// The states of a Waiter.
const (
	Waiting State = iota
	Admitted
	Refused // it would have to wait too long
)

// State returns what has become of the Waiter.
func (w *Waiter) State() State { return w.state }

// RetryAfter returns how much longer a Waiter that was refused or left would have
// had to wait.
func (w *Waiter) RetryAfter() time.Duration { return w.retryAfter }

// Sent returns what an admitted call is known by from now on.
func (w *Waiter) Sent() Sent { return w.sent }

// end sets the state before it closes Ready, so that whoever wakes up sees it.
func (w *Waiter) end(s State) State {
	w.state = s
	if w.Ready != nil {
		close(w.Ready)
	}
	return s
}

// A queue has its members in order. It is a linked list through the Waiters, so that
// one leaves from the middle at once and nothing is allocated. It sums the costs,
// because a newcomer asks for them each time.
type queue struct {
	first, last *Waiter
	length      int
	cost        int64
}

// push adds w as the last.
func (q *queue) push(w *Waiter) { q.insert(q.last, w) }

// pushByTime adds w to a queue that is ordered by NotBefore. It searches from the
// end, where most newcomers belong.
func (q *queue) pushByTime(w *Waiter) {
	after := q.last
	for after != nil && after.NotBefore > w.NotBefore {
		after = after.prev
	}
	q.insert(after, w)
}

// insert adds w behind another member, or as the first if after is nil.
func (q *queue) insert(after, w *Waiter) {
	w.queue, w.prev, w.next = q, after, q.first
	if after != nil {
		w.next, after.next = after.next, w
	} else {
		q.first = w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		q.last = w
	}
	q.length++
	q.cost += w.Cost
}

// remove removes w, which has to be a member.
func (q *queue) remove(w *Waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.queue, w.prev, w.next = nil, nil, nil
	q.length--
	q.cost -= w.Cost
}
