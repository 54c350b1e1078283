package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"
)

// A contender is one way to do a piece of work. Each goroutine does it with a
// worker of its own.
type contender struct {
	does   string // what it has, to be compared with others that have the same
	name   string
	worker func() func() error
}

// do has so many goroutines do the work n times in all.
func (c contender) do(goroutines, n int) error {
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		once := c.worker()
		wg.Go(func() {
			for range (n + goroutines - 1 - g) / goroutines {
				if err := once(); err != nil {
					errs[g] = fmt.Errorf("%s: %w", c.name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A cost is that of one piece of work.
type cost struct {
	time   time.Duration
	allocs uint64
	bytes  uint64
}

// How long a measuring takes.
type effort struct {
	rounds int
	length time.Duration // of a turn, about
}

// measured returns the least cost of each contender over all rounds, on so many
// goroutines. In a round everybody has a turn, so that a machine's bad moments
// do not fall on one alone.
func measured(ctx context.Context, contenders []contender, goroutines int, e effort) ([]cost, error) {
	times := make([]int, len(contenders))
	least := make([]cost, len(contenders))
	for i, c := range contenders {
		var err error
		if times[i], err = fitting(c, goroutines, e.length); err != nil {
			return nil, err
		}
	}
	for round := range e.rounds {
		for i, c := range contenders {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			got, err := turn(c, goroutines, times[i])
			if err != nil {
				return nil, err
			}
			if round == 0 {
				least[i] = got
				continue
			}
			least[i] = cost{min(least[i].time, got.time), min(least[i].allocs, got.allocs), min(least[i].bytes, got.bytes)}
		}
	}
	return least, nil
}

// fitting is how often the work is done in that time. It takes the best of
// three, since one pause would pass for slow work.
func fitting(c contender, goroutines int, length time.Duration) (int, error) {
	for n := goroutines; ; n *= 4 {
		best := time.Duration(math.MaxInt64)
		for range 3 {
			got, err := turn(c, goroutines, n)
			if err != nil {
				return 0, err
			}
			best = min(best, max(got.time, 1))
		}
		if best*time.Duration(n) >= length/8 {
			return max(goroutines, int(length/best)), nil
		}
	}
}

func turn(c contender, goroutines, n int) (cost, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := c.do(goroutines, n)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	per := uint64(n)
	return cost{took / time.Duration(n), (after.Mallocs - before.Mallocs + per/2) / per, (after.TotalAlloc - before.TotalAlloc + per/2) / per}, err
}
