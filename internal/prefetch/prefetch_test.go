package prefetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A body is read from a pipe and ends with its context; it tells whether it
// was closed while it was read.
type body struct {
	io.Reader

	ctx     context.Context
	reading atomic.Bool
	closed  atomic.Int32
	clash   atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	return b.Reader.Read(p)
}

func (b *body) Close() error {
	b.closed.Add(1)
	if b.reading.Load() {
		b.clash.Store(true)
	}
	return nil
}

// slow returns a body that brings one part every second.
func slow(t *testing.T, end error, parts ...string) (*Body, *body) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	reader, writer := io.Pipe()
	go func() {
		for _, part := range parts {
			select {
			case <-time.After(time.Second):
				_, _ = writer.Write([]byte(part))
			case <-ctx.Done():
			}
		}
		if end == nil {
			<-ctx.Done()
			end = context.Cause(ctx)
		}
		_ = writer.CloseWithError(end)
	}()
	src := &body{Reader: reader, ctx: ctx}
	return New(src, cancelFunc(cancel)), src
}

func TestWhatWasPrefetchedIsReadFirst(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 2000)
	errTorn := errors.New("torn")
	for name, src := range map[string]func() io.Reader{
		"at once":         func() io.Reader { return bytes.NewReader(data) },
		"byte by byte":    func() io.Reader { return iotest.OneByteReader(bytes.NewReader(data)) },
		"data with EOF":   func() io.Reader { return iotest.DataErrReader(bytes.NewReader(data)) },
		"torn at its end": func() io.Reader { return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errTorn)) },
	} {
		for _, limit := range []int{1, 100, 4096, len(data), 1 << 20} {
			for _, wait := range []time.Duration{0, time.Minute} {
				synctest.Test(t, func(t *testing.T) {
					b := New(io.NopCloser(src()), cancelFunc(func(error) {}))
					err := b.Fill(limit, int64(len(data)), wait, nil)
					if got := len(b.Prefetched()); got > limit || limit <= len(data) && got != limit {
						t.Errorf("%s: %d bytes were prefetched, limit %d", name, got, limit)
					}
					if limit > len(data) && err == nil {
						t.Errorf("%s: the end was not seen", name)
					}
					got, err := io.ReadAll(b)
					if !bytes.Equal(got, data) || name == "torn at its end" != errors.Is(err, errTorn) {
						t.Errorf("%s: read %d bytes, error %v", name, len(got), err)
					}
				})
			}
		}
	}
}

func TestABodyOfKnownSizeIsPrefetchedInOneAllocation(t *testing.T) { //nolint:paralleltest // counts allocations
	data := bytes.Repeat([]byte("0123456789"), 2000)
	var b Body
	src := bytes.NewReader(data)
	body := io.NopCloser(src)
	got := testing.AllocsPerRun(10, func() {
		src.Reset(data)
		b = Body{}
		_ = b.Init(body, nil).Fill(1<<20, int64(len(data)), 0, nil)
	})
	if got != 1 || !bytes.Equal(b.Prefetched(), data) {
		t.Errorf("%v allocations for %d bytes", got, len(b.Prefetched()))
	}
}

// A server may announce what never comes.
func TestAnAnnouncedSizeAloneIsNoReasonToAllocate(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1 << 20, 16<<20 - 1} {
		for name, data := range map[string]int{"cut": 100, "whole": int(size)} {
			b := New(io.NopCloser(bytes.NewReader(make([]byte, data))), nil)
			if err := b.Fill(16<<20, size, 0, nil); !errors.Is(err, io.EOF) || len(b.data) != data || cap(b.data) > max(maxTrusted, 2*data) {
				t.Errorf("%s: %d bytes in %d, %v", name, len(b.data), cap(b.data), err)
			}
		}
	}
}

func TestABodyThatBringsNothingOverAndOverIsBroken(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, -1} {
		for _, wait := range []time.Duration{0, time.Minute} {
			b := New(io.NopCloser(readerFunc(func([]byte) (int, error) { return n, nil })), cancelFunc(func(error) {}))
			if err := b.Fill(100, -1, wait, nil); !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("%d: %v", n, err)
			}
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type until func(added []byte) bool

func (u until) Enough(added []byte) bool { return u(added) }

func TestFillEndsWhenThereIsEnough(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b, _ := slow(t, io.EOF, "one", "two", "three")
			err := b.Fill(1<<20, -1, wait, until(func(added []byte) bool { return string(added) == "two" }))
			if err != nil || string(b.Prefetched()) != "onetwo" {
				t.Errorf("prefetched %q, error %v", b.Prefetched(), err)
			}
			got, err := io.ReadAll(b)
			if string(got) != "onetwothree" || err != nil {
				t.Errorf("read %q, error %v", got, err)
			}
		})
	}
}

func TestABodyThatIsReadMayBeFilledAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := slow(t, io.EOF, "one", "two", "three", "four")
		one := until(func([]byte) bool { return true })
		_ = b.Fill(1<<20, -1, 0, one)
		got := make([]byte, 3)
		for _, want := range []string{"one", "two"} { // prefetched, and passed on
			if n, err := b.Read(got); string(got[:n]) != want || err != nil {
				t.Errorf("read %q, error %v, want %q", got[:n], err, want)
			}
		}
		_ = b.Fill(1<<20, -1, 0, one)
		if rest, err := io.ReadAll(b); string(rest) != "threefour" || err != nil {
			t.Errorf("then read %q, error %v", rest, err)
		}
		_ = b.Close()
		if n, err := b.Read(got); n > 0 || !errors.Is(err, errClosed) {
			t.Errorf("after Close, read %q, error %v", got[:n], err)
		}
	})
}

func TestAPendingReadIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := slow(t, io.EOF, "one", "two", "three")
		if err := b.Fill(1<<20, -1, 1500*time.Millisecond, nil); err != nil || string(b.Prefetched()) != "one" {
			t.Errorf("prefetched %q, error %v", b.Prefetched(), err)
		}
		start := time.Now()
		buffer := make([]byte, 10)
		n, _ := b.Read(buffer)
		m, err := b.Read(buffer[n:])
		if string(buffer[:n+m]) != "onetwo" || err != nil || time.Since(start) != 500*time.Millisecond {
			t.Errorf("read %q, error %v, after %v", buffer[:n+m], err, time.Since(start))
		}
		rest, err := io.ReadAll(b)
		if string(rest) != "three" || err != nil {
			t.Errorf("read %q, error %v", rest, err)
		}
	})
}

func TestCloseEndsAPendingReadAndNeverClashesWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, src := slow(t, nil, "one")
		_ = b.Fill(1<<20, -1, 1500*time.Millisecond, nil)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		_ = b.Close()
		synctest.Wait()
		if src.closed.Load() == 0 || src.clash.Load() {
			t.Errorf("closed %d times, while it was read: %v", src.closed.Load(), src.clash.Load())
		}
		if _, err := b.Read(make([]byte, 1)); err == nil {
			t.Error("read after Close")
		}
	})
}

func TestCloseWithoutAPendingReadClosesTheSource(t *testing.T) {
	t.Parallel()
	src := &body{Reader: strings.NewReader("x")}
	b := New(src, cancelFunc(func(error) {}))
	_ = b.Fill(10, -1, 0, nil)
	if err := b.Close(); err != nil || src.closed.Load() != 1 {
		t.Errorf("closed %d times, error %v", src.closed.Load(), err)
	}
}

type cancelFunc func(error)

func (f cancelFunc) Cancel(cause error) { f(cause) }

// What a body says after an error is not to be trusted: half of it would pass
// for all.
func TestAnErrorWhileFillingIsTheEnd(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			src := iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader([]byte("12"))))
			b := New(io.NopCloser(src), cancelFunc(func(error) {}))
			if err := b.Fill(10, -1, wait, nil); !errors.Is(err, iotest.ErrTimeout) {
				t.Errorf("filling ended with %v", err)
			}
			if got, err := io.ReadAll(b); string(got) != "1" || !errors.Is(err, iotest.ErrTimeout) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// A second reader of the same body would take bytes from the first.
func TestNobodyReadsBesideAPendingRead(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b, _ := slow(t, io.EOF, "one", "two")
			if err := b.Fill(100, 0, time.Second/2, nil); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := b.Fill(100, 0, wait, nil); err != nil || time.Since(start) != 0 {
				t.Errorf("filled again beside it for %v: %v, after %v", wait, err, time.Since(start))
			}
			if got, err := io.ReadAll(b); err != nil || string(got) != "onetwo" {
				t.Errorf("read %q, %v", got, err)
			}
			_ = b.Close()
		})
	}
}

// What a Body asked for in vain is there for others.
func TestRoomThatWasRefusedDoesNotCount(t *testing.T) {
	t.Parallel()
	room := Quota{Limit: firstChunk + firstChunk/2}
	b := New(io.NopCloser(iotest.HalfReader(bytes.NewReader(make([]byte, 4*firstChunk)))), cancelFunc(func(error) {}))
	b.Count(&room)
	if err := b.Fill(1<<20, -1, 0, nil); err != nil || len(b.Prefetched()) != firstChunk {
		t.Errorf("%d bytes were prefetched, %v", len(b.Prefetched()), err)
	}
	if got := room.Taken(); got != firstChunk {
		t.Errorf("%d bytes count", got)
	}
	_ = b.Close()
}
