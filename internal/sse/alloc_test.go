//go:build !race

package sse

import "testing"

func TestScannerDoesNotAllocate(t *testing.T) {
	in := stream(100)
	for _, size := range []int{1, 100, 4096} {
		var s Scanner
		run := func() {
			for rest := in; len(rest) > 0; {
				n := min(size, len(rest))
				s.Feed(rest[:n])
				for s.Next() {
				}
				rest = rest[n:]
			}
		}
		run() // the buffers grow once
		if n := testing.AllocsPerRun(10, run); n != 0 {
			t.Errorf("in pieces of %d: %v allocations", size, n)
		}
	}
}
