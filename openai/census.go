package openai

import (
	"log/slog"
	"sync/atomic"
)

// tooMany is how many Transports one process hardly ever means to have. Each
// has breakers, budgets and connections of its own, and learns alone.
const tooMany = 100

// A census counts Transports.
type census struct {
	made   atomic.Int64
	warned atomic.Bool
}

var madeByProcess census

// count counts one more. From the hundredth on, the first that has a Logger is
// told, once.
func (c *census) count(logger *slog.Logger) {
	if c.made.Add(1) < tooMany || logger == nil || !c.warned.CompareAndSwap(false, true) {
		return
	}
	logger.Warn("many Transports were made: keep one for the whole service, because breakers, budgets and connections are its own",
		slog.Int64("transports", c.made.Load()))
}
