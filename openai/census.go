package openai

import (
	"log/slog"
	"sync/atomic"
)

// tooMany is a number of Transports that one process hardly ever means to have. A
// service that makes one for each call soon reaches it, and its breakers, budgets
// and rate limits never learn anything.
const tooMany = 100

// A census counts Transports. Its zero value is ready for use, and it is safe for
// concurrent use.
type census struct {
	made   atomic.Int64
	warned atomic.Bool
}

// madeByProcess counts for the whole process, since nothing else connects the
// Transports that a program makes by mistake.
var madeByProcess census

// count counts one more Transport. From the hundredth on it warns the first
// Transport that has a Logger. It warns only once, because a program that makes one
// for each call would flood its log.
func (c *census) count(logger *slog.Logger) {
	if c.made.Add(1) < tooMany || logger == nil || !c.warned.CompareAndSwap(false, true) {
		return
	}
	logger.Warn("many Transports were made: keep one for the whole service, because breakers, budgets and connections are its own",
		slog.Int64("transports", c.made.Load()))
}
