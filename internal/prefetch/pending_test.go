package prefetch

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// late is a foreign body: its Read takes no notice of a context, and brings
// data however late.
type late struct{ closed chan struct{} }

func (late) Read(p []byte) (int, error) {
	time.Sleep(time.Minute)
	return copy(p, "late"), nil
}

func (l late) Close() error {
	close(l.closed)
	return nil
}

func TestWhatAPendingReadBringsAfterCloseIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := late{make(chan struct{})}
		b := New(src, cancelFunc(func(error) {}))
		_ = b.Fill(1<<20, -1, time.Second, until(func([]byte) bool {
			t.Error("asked about what nobody waits for any more")
			return false
		}))
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		<-src.closed
		if got := b.Prefetched(); len(got) != 0 {
			t.Errorf("prefetched %q", got)
		}
	})
}

// The pending Read may still write to its room, so that the memory is in use until that
// has ended, although the Body is closed.
func TestRoomCountsUntilThePendingReadHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := late{make(chan struct{})}
		b := New(src, cancelFunc(func(error) {}))
		room := Quota{Limit: 1 << 20}
		b.Count(&room)
		_ = b.Fill(1<<20, -1, time.Second, nil)
		held := room.Taken()
		_ = b.Close()
		if got := room.Taken(); held == 0 || got != held {
			t.Errorf("%d bytes count before Close, and %d after it", held, got)
		}
		<-src.closed
		if got := room.Taken(); got != 0 {
			t.Errorf("%d bytes count after the end of the Read", got)
		}
	})
}

// bursting is a foreign body whose Read panics, after a while.
type bursting struct{ late }

func (bursting) Read([]byte) (int, error) {
	time.Sleep(time.Second)
	panic("burst")
}

func TestAPanicOfTheBodyReachesWhoeverWaitsForIt(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		wait time.Duration
		read bool // the panic comes after Fill
	}{
		"in Fill":             {0, false},
		"in Fill with a wait": {time.Minute, false},
		"in Read after Fill":  {time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := New(bursting{late{make(chan struct{})}}, cancelFunc(func(error) {}))
				filled := false
				defer func() {
					if p := recover(); p != "burst" || filled != row.read {
						t.Errorf("panic %v, after Fill: %v", p, filled)
					}
					_ = b.Close()
				}()
				_ = b.Fill(1<<20, -1, row.wait, nil)
				filled = true
				_, _ = b.Read(make([]byte, 8))
			})
		})
	}
}

// A miscounting body says that it has read another number of bytes.
type miscounting struct {
	late

	n int
}

func (m miscounting) Read([]byte) (int, error) { return m.n, io.EOF }

func TestABodyThatCountsWronglyBreaksNothing(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 1 << 20} {
		for _, wait := range []time.Duration{0, time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				b := New(miscounting{late{make(chan struct{})}, n}, cancelFunc(func(error) {}))
				if err := b.Fill(100, 50, wait, nil); !errors.Is(err, io.EOF) || len(b.Prefetched()) > 100 {
					t.Errorf("%d: %d bytes were prefetched, %v", n, len(b.Prefetched()), err)
				}
				_ = b.Close()
			})
		}
	}
}

// closing is a late body whose Close panics.
type closing struct{ late }

func (c closing) Close() error {
	close(c.closed)
	panic("boom")
}

func TestAPanicOfCloseInTheBackgroundEndsNoProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := closing{late{make(chan struct{})}}
		b := New(src, cancelFunc(func(error) {}))
		_ = b.Fill(1<<20, -1, time.Second, nil)
		_ = b.Close()
		<-src.closed
		synctest.Wait()
	})
}
