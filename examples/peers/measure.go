package main

import (
	"context"
	"math"
	"runtime"
	"time"
)

// A contender does one piece of work n times.
type contender struct {
	name string
	do   func(n int) error
}

// A cost is that of one piece of work.
type cost struct {
	time   time.Duration
	allocs uint64
	bytes  uint64
}

// measured returns the least cost of each contender over all rounds, of about
// that length. In a round everybody has a turn, so that a machine's bad moments
// do not fall on one alone.
func measured(ctx context.Context, contenders []contender, rounds int, length time.Duration) ([]cost, error) {
	times := make([]int, len(contenders))
	least := make([]cost, len(contenders))
	for i, c := range contenders {
		var err error
		if times[i], err = fitting(c, length); err != nil {
			return nil, err
		}
	}
	for round := range rounds {
		for i, c := range contenders {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			got, err := turn(c, times[i])
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
func fitting(c contender, length time.Duration) (int, error) {
	for n := 1; ; n *= 4 {
		best := time.Duration(math.MaxInt64)
		for range 3 {
			got, err := turn(c, n)
			if err != nil {
				return 0, err
			}
			best = min(best, max(got.time, 1))
		}
		if best*time.Duration(n) >= length/8 {
			return max(1, int(length/best)), nil
		}
	}
}

func turn(c contender, n int) (cost, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := c.do(n)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	per := uint64(n)
	return cost{took / time.Duration(n), (after.Mallocs - before.Mallocs + per/2) / per, (after.TotalAlloc - before.TotalAlloc + per/2) / per}, err
}
