package fleet

import (
	"sync/atomic"
	"time"
)

// A clock knows what time it is at the server. The clocks of processes may differ by
// minutes, and the server is the one thing that they share. The zero value does not know
// it yet. It is safe for concurrent use.
type clock struct{ latest atomic.Pointer[reading] }

// A reading is the server's time at a moment of our own.
type reading struct{ server, here time.Time }

// set takes the server's time, which was read between two moments. It is taken to be that
// of the middle, which is wrong by half the time between them at most.
func (c *clock) set(server, before, after time.Time) {
	c.latest.Store(&reading{server: server, here: before.Add(after.Sub(before) / 2)})
}

// at returns the server's time at a moment of our own; false if it is not known yet.
func (c *clock) at(here time.Time) (server time.Time, known bool) {
	r := c.latest.Load()
	if r == nil {
		return time.Time{}, false
	}
	return r.server.Add(here.Sub(r.here)), true
}
