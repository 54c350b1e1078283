package payload

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

const limit = 64

// A body counts what is done with it.
type body struct {
	io.Reader

	reads, closed atomic.Int32
	closeErr      error
}

func (b *body) Read(p []byte) (int, error) {
	b.reads.Add(1)
	return b.Reader.Read(p)
}

func (b *body) Close() error {
	b.closed.Add(1)
	return b.closeErr
}

func of(r io.Reader) *body { return &body{Reader: r} }

func text(n int) string { return strings.Repeat("0123456789", n/10+1)[:n] }

func all(t *testing.T, r io.Reader) string {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// sent is a request with a body, which is of that length.
func sent(body io.ReadCloser, length int64) *http.Request {
	return &http.Request{Body: body, ContentLength: length}
}

func TestABodyIsReadOnceAndClosed(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once":                 func(r io.Reader) io.Reader { return r },
		"byte by byte":            iotest.OneByteReader,
		"with EOF beside the end": iotest.DataErrReader,
		"with scratch space": func(r io.Reader) io.Reader {
			return readerFunc(func(p []byte) (int, error) { // io.Reader allows to write to all of p
				n, err := r.Read(p)
				clear(p[n:])
				return n, err
			})
		},
	} {
		for _, size := range []int{0, 1, 7, limit - 1, limit} {
			for _, known := range []bool{true, false} {
				length := int64(size)
				if !known || size == 0 {
					length = -1
				}
				b := of(wrap(strings.NewReader(text(size))))
				data, stream, err := Read(t.Context(), sent(b, length), limit)
				if err != nil || stream != nil {
					t.Errorf("%s, %d bytes, known %v: %v, %v", name, size, known, stream, err)
					continue
				}
				if got := string(data); got != text(size) || len(data) != size {
					t.Errorf("%s, %d bytes, known %v: got %q", name, size, known, got)
				}
				if b.closed.Load() != 1 {
					t.Errorf("%s, %d bytes, known %v: closed %d times", name, size, known, b.closed.Load())
				}
			}
		}
	}
}

func TestAKnownLengthIsOneAllocationOfThatSize(t *testing.T) {
	t.Parallel()
	data, _, err := Read(t.Context(), sent(of(strings.NewReader(text(37))), 37), limit)
	if err != nil {
		t.Fatal(err)
	}
	if got := cap(data); got != 37 {
		t.Errorf("%d bytes are held for 37", got)
	}
}

func TestAKnownLengthAboveTheLimitIsStreamedUnread(t *testing.T) {
	t.Parallel()
	b := of(strings.NewReader(text(limit + 1)))
	data, stream, err := Read(t.Context(), sent(b, limit+1), limit)
	if err != nil || stream == nil {
		t.Fatal(stream, err)
	}
	if b.reads.Load() != 0 || b.closed.Load() != 0 || len(data) != 0 {
		t.Errorf("%d reads, closed %d times, %d bytes held", b.reads.Load(), b.closed.Load(), len(data))
	}
	if got := all(t, stream); got != text(limit+1) {
		t.Errorf("streamed %q", got)
	}
	if err := stream.Close(); err != nil || b.closed.Load() != 1 {
		t.Errorf("%v, closed %d times", err, b.closed.Load())
	}
}

func TestAnUnknownLengthAboveTheLimitIsStreamedWhole(t *testing.T) {
	t.Parallel()
	for _, size := range []int{limit + 1, 1000} {
		b := of(iotest.HalfReader(strings.NewReader(text(size))))
		_, stream, err := Read(t.Context(), sent(b, -1), limit)
		if err != nil || stream == nil {
			t.Fatal(stream, err)
		}
		if b.closed.Load() != 0 {
			t.Error("closed before it was streamed")
		}
		if got := all(t, stream); got != text(size) {
			t.Errorf("streamed %d bytes %q", len(got), got)
		}
		_ = stream.Close()
		if b.closed.Load() != 1 {
			t.Errorf("closed %d times", b.closed.Load())
		}
	}
}

func TestAnEndlessBodyIsHeldUpToTheLimitOnly(t *testing.T) {
	t.Parallel()
	var taken atomic.Int64
	endless := of(readerFunc(func(p []byte) (int, error) {
		taken.Add(int64(len(p)))
		return len(p), nil
	}))
	_, stream, err := Read(t.Context(), sent(endless, 0), limit)
	if err != nil || stream == nil || taken.Load() != limit+1 {
		t.Errorf("%v, %v: %d bytes taken", stream, err, taken.Load())
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestALengthThatDoesNotMatchIsAnError(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		size        int
		length, got int64
		text        string
	}{
		{0, 5, 0, "ended after 0 bytes, before its ContentLength of 5"},
		{4, 5, 4, "ended after 4 bytes, before its ContentLength of 5"},
		{6, 5, 6, "longer than its ContentLength of 5"},
		{60, 5, 6, "longer than its ContentLength of 5"},
	} {
		b := of(strings.NewReader(text(row.size)))
		data, stream, err := Read(t.Context(), sent(b, row.length), limit)
		var mismatch *LengthError
		if stream != nil || !errors.As(err, &mismatch) || mismatch.Want != row.length || mismatch.Got != row.got || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%d bytes as %d: %v", row.size, row.length, err)
		}
		if b.closed.Load() != 1 || len(data) != 0 {
			t.Errorf("%d bytes as %d: closed %d times, %d bytes held", row.size, row.length, b.closed.Load(), len(data))
		}
	}
}

func TestABodyThatFailsIsAnErrorWithItsCause(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is gone")
	for name, row := range map[string]struct {
		b      *body
		length int64
	}{
		"at once, of known length":    {of(iotest.ErrReader(broken)), 5},
		"at once, of unknown length":  {of(iotest.ErrReader(broken)), -1},
		"halfway, of known length":    {of(io.MultiReader(strings.NewReader("12"), iotest.ErrReader(broken))), 5},
		"halfway, of unknown length":  {of(io.MultiReader(strings.NewReader("12"), iotest.ErrReader(broken))), -1},
		"behind the end it announced": {of(io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(broken))), 5},
		"when it is closed":           {&body{Reader: strings.NewReader("12345"), closeErr: broken}, 5},
	} {
		_, stream, err := Read(t.Context(), sent(row.b, row.length), limit)
		if stream != nil || !errors.Is(err, broken) || !strings.Contains(err.Error(), "the request body") {
			t.Errorf("%s: %v, %v", name, stream, err)
		}
		if row.b.closed.Load() != 1 {
			t.Errorf("%s: closed %d times", name, row.b.closed.Load())
		}
	}
}

func TestABlockedBodyIsClosedWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int64{"known": 10, "unknown": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cause := errors.New("the caller went away")
				ctx, cancel := context.WithCancelCause(t.Context())
				pr, pw := io.Pipe()
				b := of(pr)
				blocked := closer{b, func() error { return errors.Join(b.Close(), pr.Close()) }}
				go func() {
					_, _ = pw.Write([]byte("12"))
					time.Sleep(time.Minute)
					cancel(cause)
				}()
				start := time.Now()
				data, stream, err := Read(ctx, sent(blocked, length), limit)
				if stream != nil || !errors.Is(err, cause) || time.Since(start) != time.Minute {
					t.Errorf("%v, %v after %v", stream, err, time.Since(start))
				}
				synctest.Wait()
				if b.closed.Load() != 1 || len(data) != 0 {
					t.Errorf("closed %d times, %d bytes held", b.closed.Load(), len(data))
				}
			})
		})
	}
}

type closer struct {
	io.Reader

	close func() error
}

func (c closer) Close() error { return c.close() }

func TestAContextThatEndsAfterTheReadingClosesNothingTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := of(strings.NewReader("12345"))
		data, _, err := Read(ctx, sent(b, 5), limit)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if b.closed.Load() != 1 || len(data) != 5 {
			t.Errorf("closed %d times, %d bytes held", b.closed.Load(), len(data))
		}
	})
}

func TestTheLengthOfWhatIsInMemoryIsCheckedToo(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		got          int
		length, want int64 // a want of -1 is no error
	}{{0, 5, 0}, {4, 5, 4}, {5, 5, -1}, {6, 5, 6}, {60, 5, 6}, {5, 0, -1}, {5, -1, -1}, {0, 0, -1}} {
		var mismatch *LengthError
		err := CheckLength(row.got, row.length)
		if errors.As(err, &mismatch) != (row.want >= 0) || mismatch != nil && mismatch.Got != row.want {
			t.Errorf("%d bytes as %d: %v", row.got, row.length, err)
		}
	}
}

// A deaf body blocks in Read for ever: it does not even hear of its Close.
type deaf struct {
	body

	blocked chan struct{}
}

func (d *deaf) Read([]byte) (int, error) {
	<-d.blocked
	return 0, io.ErrClosedPipe
}

func TestABodyThatHearsOfNothingDoesNotHoldTheCall(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int64{"known": 10, "unknown": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				b := &deaf{blocked: make(chan struct{})}
				start := time.Now()
				data, stream, err := Read(ctx, sent(b, length), limit)
				if data != nil || stream != nil || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 200*time.Millisecond {
					t.Errorf("%q, %v, %v after %v", data, stream, err, time.Since(start))
				}
				if b.closed.Load() != 1 {
					t.Errorf("closed %d times", b.closed.Load())
				}
				close(b.blocked)
				synctest.Wait()
				if b.closed.Load() != 1 {
					t.Errorf("then closed %d times", b.closed.Load())
				}
			})
		})
	}
}

func TestABodyIsGivenUpWhenItsRequestIsCanceled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, cancel := &deaf{blocked: make(chan struct{})}, make(chan struct{})
		defer close(b.blocked)
		req := sent(b, -1)
		req.Cancel = cancel //nolint:staticcheck // the subject
		time.AfterFunc(time.Second, func() { close(cancel) })
		start := time.Now()
		if _, _, err := Read(context.Background(), req, limit); !errors.Is(err, errCanceled) || time.Since(start) != time.Second || b.closed.Load() != 1 {
			t.Errorf("%v after %v, closed %d times", err, time.Since(start), b.closed.Load())
		}
	})
}

func TestABodyThatPanicsIsClosedAndThePanicGoesOn(t *testing.T) {
	t.Parallel()
	for _, ctx := range []context.Context{t.Context(), context.Background()} { // beside the call, and in it
		for name, length := range map[string]int64{"known": 5, "unknown": -1} {
			b := of(readerFunc(func([]byte) (int, error) { panic("boom") }))
			func() {
				defer func() {
					if p := recover(); p != "boom" {
						t.Errorf("%s: recovered %v", name, p)
					}
				}()
				_, _, _ = Read(ctx, sent(b, length), limit)
			}()
			if b.closed.Load() != 1 {
				t.Errorf("%s: closed %d times", name, b.closed.Load())
			}
		}
	}
}

func TestABodyThatEndsItsGoroutineIsAnError(t *testing.T) {
	t.Parallel()
	b := of(readerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil }))
	if data, _, err := Read(t.Context(), sent(b, -1), limit); err == nil || b.closed.Load() != 1 {
		t.Errorf("%q, %v, closed %d times", data, err, b.closed.Load())
	}
}

// Whoever hands on what others send may be told of any length.
func TestAnAnnouncedLengthAloneIsNoReasonToAllocate(t *testing.T) { //nolint:paralleltest // it looks at the whole process's heap
	const announced = 32 << 20
	for name, brought := range map[string]io.ReadCloser{
		"nothing":         of(strings.NewReader("")),
		"little":          of(strings.NewReader(text(100))),
		"little, in one":  io.NopCloser(strings.NewReader(text(100))),
		"until it breaks": of(io.MultiReader(strings.NewReader(text(100)), iotest.ErrReader(errors.New("broken")))),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := Read(t.Context(), sent(brought, announced), announced)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 4*trusted {
			t.Errorf("%s: %d bytes were allocated; %v", name, n, err)
		}
	}
}

func TestAPayloadAboveWhatIsTrustedIsReadWhole(t *testing.T) {
	t.Parallel()
	for _, size := range []int{trusted - 1, trusted, trusted + 1, 5*trusted + 7} {
		for name, b := range map[string]io.ReadCloser{
			"at once":                 of(strings.NewReader(text(size))),
			"byte by byte":            of(iotest.OneByteReader(strings.NewReader(text(size)))),
			"with EOF beside the end": of(iotest.DataErrReader(strings.NewReader(text(size)))),
			"in memory":               io.NopCloser(strings.NewReader(text(size))),
		} {
			got, _, err := Read(t.Context(), sent(b, int64(size)), 1<<20)
			if err != nil || string(got) != text(size) || cap(got) > size {
				t.Errorf("%s: %d bytes of %d in %d, %v", name, len(got), size, cap(got), err)
			}
		}
		for name, length := range map[string]int64{"more": int64(size) + 3, "less": int64(size) - 3} {
			var wrong *LengthError
			if _, _, err := Read(t.Context(), sent(of(strings.NewReader(text(size))), length), 1<<20); !errors.As(err, &wrong) || wrong.Got != min(int64(size), length+1) {
				t.Errorf("%d bytes, %s announced: %v", size, name, err)
			}
		}
	}
}
