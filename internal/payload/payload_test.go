package payload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
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

func open(t *testing.T, s *Source) *Reader {
	t.Helper()
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	return r.(*Reader)
}

func TestABodyIsReadOnceAndClosed(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once":                 func(r io.Reader) io.Reader { return r },
		"byte by byte":            iotest.OneByteReader,
		"with EOF beside the end": iotest.DataErrReader,
	} {
		for _, size := range []int{0, 1, 7, limit - 1, limit} {
			for _, known := range []bool{true, false} {
				length := int64(size)
				if !known || size == 0 {
					length = -1
				}
				var s Source
				b := of(wrap(strings.NewReader(text(size))))
				_, stream, err := s.Buffer(t.Context(), b, length, limit, false)
				if err != nil || stream != nil {
					t.Errorf("%s, %d bytes, known %v: %v, %v", name, size, known, stream, err)
					continue
				}
				if got := string(s.data); got != text(size) || len(s.data) != size {
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
	var s Source
	if _, _, err := s.Buffer(t.Context(), of(strings.NewReader(text(37))), 37, limit, false); err != nil {
		t.Fatal(err)
	}
	if got := cap(s.data); got != 37 {
		t.Errorf("%d bytes are held for 37", got)
	}
}

func TestAKnownLengthAboveTheLimitIsStreamedUnread(t *testing.T) {
	t.Parallel()
	var s Source
	b := of(strings.NewReader(text(limit + 1)))
	_, stream, err := s.Buffer(t.Context(), b, limit+1, limit, false)
	if err != nil || stream == nil {
		t.Fatal(stream, err)
	}
	if b.reads.Load() != 0 || b.closed.Load() != 0 || len(s.data) != 0 {
		t.Errorf("%d reads, closed %d times, %d bytes held", b.reads.Load(), b.closed.Load(), len(s.data))
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
		var s Source
		b := of(iotest.HalfReader(strings.NewReader(text(size))))
		_, stream, err := s.Buffer(t.Context(), b, -1, limit, false)
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
	var s Source
	var taken atomic.Int64
	endless := of(readerFunc(func(p []byte) (int, error) {
		taken.Add(int64(len(p)))
		return len(p), nil
	}))
	_, stream, err := s.Buffer(t.Context(), endless, 0, limit, false)
	if err != nil || stream == nil || taken.Load() != limit+1 {
		t.Errorf("%v, %v: %d bytes taken", stream, err, taken.Load())
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestALayerBelowDoesNotReadAStreamAgain(t *testing.T) {
	t.Parallel()
	b := of(strings.NewReader(text(9)))
	above := &Stream{Reader: b, Closer: b}
	var s Source
	_, stream, err := s.Buffer(t.Context(), above, 9, limit, false)
	if stream != above || err != nil || b.reads.Load() != 0 || b.closed.Load() != 0 {
		t.Errorf("%v, %v: %d reads, closed %d times", stream, err, b.reads.Load(), b.closed.Load())
	}
}

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
		var s Source
		b := of(strings.NewReader(text(row.size)))
		_, stream, err := s.Buffer(t.Context(), b, row.length, limit, false)
		var mismatch *LengthError
		if stream != nil || !errors.As(err, &mismatch) || mismatch.Want != row.length || mismatch.Got != row.got || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%d bytes as %d: %v", row.size, row.length, err)
		}
		if b.closed.Load() != 1 || len(s.data) != 0 {
			t.Errorf("%d bytes as %d: closed %d times, %d bytes held", row.size, row.length, b.closed.Load(), len(s.data))
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
		var s Source
		_, stream, err := s.Buffer(t.Context(), row.b, row.length, limit, false)
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
				var s Source
				_, stream, err := s.Buffer(ctx, blocked, length, limit, false)
				if stream != nil || !errors.Is(err, cause) || time.Since(start) != time.Minute {
					t.Errorf("%v, %v after %v", stream, err, time.Since(start))
				}
				synctest.Wait()
				if b.closed.Load() != 1 || len(s.data) != 0 {
					t.Errorf("closed %d times, %d bytes held", b.closed.Load(), len(s.data))
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
		var s Source
		b := of(strings.NewReader("12345"))
		if _, _, err := s.Buffer(ctx, b, 5, limit, false); err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if b.closed.Load() != 1 || len(s.data) != 5 {
			t.Errorf("closed %d times, %d bytes held", b.closed.Load(), len(s.data))
		}
	})
}

func TestAReaderOfAnotherSourceIsSharedNotCopied(t *testing.T) {
	t.Parallel()
	data := []byte(text(1000)) // far above the limit: it is in memory already
	outer := NewSource(data)
	r := open(t, outer)
	var s Source
	_, stream, err := s.Buffer(t.Context(), r, -1, limit, false)
	if stream != nil || err != nil {
		t.Fatal(stream, err)
	}
	if got := s.data; len(got) != len(data) || &got[0] != &data[0] {
		t.Error("the bytes were copied")
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("the reader that was taken over can still be read")
	}
}

func TestAReaderThatWasBegunIsNotTakenForTheWholePayload(t *testing.T) {
	t.Parallel()
	r := open(t, NewSource([]byte("12345")))
	if _, err := r.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	var s Source
	_, stream, err := s.Buffer(t.Context(), r, -1, limit, false)
	if stream != nil || err != nil || string(s.data) != "345" {
		t.Errorf("%v, %v: %q", stream, err, s.data)
	}
	if _, _, err := s.Buffer(t.Context(), r, -1, limit, false); err == nil {
		t.Error("a closed reader was read")
	}

	r = open(t, NewSource([]byte("12345")))
	if _, err := r.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	var wrong *LengthError
	if data, _, err := s.Buffer(t.Context(), r, 5, limit, false); !errors.As(err, &wrong) {
		t.Errorf("%q was taken for 5 bytes: %v", data, err)
	}
}

func TestReadersAreIndependentAndShareTheBytes(t *testing.T) {
	t.Parallel()
	s := NewSource([]byte(text(10_000)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := s.Open()
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(iotest.HalfReader(r))
			if err != nil || string(got) != text(10_000) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			_ = r.Close()
		})
	}
	wg.Wait()
}

func TestAReaderIsAReader(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 100} {
		if err := iotest.TestReader(open(t, NewSource([]byte(text(size)))), []byte(text(size))); err != nil {
			t.Error(err)
		}
	}
}

func TestAReaderYieldsNothingAfterClose(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"unread": 0, "begun": 2, "at its end": 5} {
		r := open(t, NewSource([]byte("12345")))
		if _, err := io.ReadFull(r, make([]byte, before)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n, err := r.Read(make([]byte, 9)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: read %d bytes, %v: half a payload would pass for a whole one", name, n, err)
		}
		if r.rest != nil {
			t.Errorf("%s: a closed reader holds the payload", name)
		}
	}
}

func TestCloseMayRunBesideRead(t *testing.T) {
	t.Parallel()
	r := open(t, NewSource(bytes.Repeat([]byte("x"), 1<<16)))
	var wg sync.WaitGroup
	wg.Go(func() {
		for buf := make([]byte, 64); ; {
			if _, err := r.Read(buf); err != nil {
				return
			}
		}
	})
	wg.Go(func() { _ = r.Close() })
	wg.Wait()
}

func TestReleaseLeavesOpenReadersTheirBytes(t *testing.T) {
	t.Parallel()
	s := NewSource([]byte("12345"))
	r := open(t, s)
	s.Release()
	if s.data != nil {
		t.Errorf("%d bytes are held", len(s.data))
	}
	if got := all(t, r); got != "12345" {
		t.Errorf("an open reader read %q", got)
	}
	if r.rest != nil {
		t.Error("a reader at its end holds the payload")
	}
}

func TestTheZeroSourceIsAnEmptyPayload(t *testing.T) {
	t.Parallel()
	var s Source
	if got := all(t, open(t, &s)); got != "" || len(s.data) != 0 {
		t.Errorf("read %q", got)
	}
}

func TestAStreamedBodyIsOfferedUntilItIsRead(t *testing.T) {
	t.Parallel()
	b := of(strings.NewReader("12345"))
	o := NewOnce(b)
	for range 3 { // a breaker refuses the attempt and closes its body
		if !o.Again() {
			t.Fatal("a body that nobody read cannot be sent")
		}
		_ = o.Close()
		if _, err := o.Read(make([]byte, 1)); err == nil {
			t.Fatal("it can be read after its Close")
		}
	}
	if b.closed.Load() != 0 || b.reads.Load() != 0 {
		t.Fatalf("closed %d times, %d reads", b.closed.Load(), b.reads.Load())
	}
	if !o.Again() || all(t, o) != "12345" {
		t.Error("the last attempt could not send it")
	}
	if o.Again() {
		t.Error("it can be sent twice")
	}
	_ = o.Close()
	_ = o.Close()
	o.Final()
	if b.closed.Load() != 1 {
		t.Errorf("closed %d times", b.closed.Load())
	}
}

func TestAStreamedBodyThatNobodyReadIsClosedInTheEnd(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]func(*Once){
		"close, then final":        func(o *Once) { _ = o.Close(); o.Final() },
		"final, then close":        func(o *Once) { o.Final(); _ = o.Close() },
		"closed on both sides":     func(o *Once) { _ = o.Close(); o.Final(); _ = o.Close(); o.Final() },
		"offered again in between": func(o *Once) { _ = o.Close(); o.Again(); _ = o.Close(); o.Final() },
	} {
		b := of(strings.NewReader("x"))
		steps(NewOnce(b))
		if b.closed.Load() != 1 {
			t.Errorf("%s: closed %d times", name, b.closed.Load())
		}
	}
	b := of(strings.NewReader("x"))
	o := NewOnce(b)
	o.Final() // its base is still sending
	if b.closed.Load() != 0 {
		t.Error("closed while it is being sent")
	}
	_ = o.Close()
	if b.closed.Load() != 1 {
		t.Errorf("closed %d times", b.closed.Load())
	}
}

func TestOnlyPlainRequestsAreReadBeforehand(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change          func(*http.Request)
		plain, takeOver bool
	}{
		"nothing special": {func(*http.Request) {}, true, false},
		"trailers":        {func(r *http.Request) { r.Trailer = http.Header{"A": nil} }, false, false},
		"Expect":          {func(r *http.Request) { r.Header.Set("Expect", "100-continue") }, false, false},
		"Upgrade":         {func(r *http.Request) { r.Header.Set("Upgrade", "websocket") }, false, true},
		"CONNECT":         {func(r *http.Request) { r.Method = http.MethodConnect }, false, true},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		row.change(req)
		if Plain(req) != row.plain || TakesOver(req) != row.takeOver {
			t.Errorf("%s: Plain %v, TakesOver %v", name, Plain(req), TakesOver(req))
		}
	}
}
