package held

import (
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
		_ = b.Fill(1<<20, -1, time.Second, func([]byte) bool {
			t.Error("asked about what nobody waits for any more")
			return false
		})
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		<-src.closed
		if got := b.Held(); len(got) != 0 {
			t.Errorf("held %q", got)
		}
	})
}
