package payload

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"
)

// sizes are those of an empty payload, and of both kinds of reader.
var sizes = []int{0, 1, 100, small, small + 1, 10_000}

func open(t *testing.T, p *Payload) io.ReadCloser {
	t.Helper()
	r, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReadersAreIndependentAndShareTheBytes(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		p := New([]byte(text(size)))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				r, err := p.Open()
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(iotest.HalfReader(r))
				if err != nil || string(got) != text(size) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				_ = r.Close()
			})
		}
		wg.Wait()
	}
}

func TestAReaderIsAReader(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		if err := iotest.TestReader(open(t, New([]byte(text(size)))), []byte(text(size))); err != nil {
			t.Error(err)
		}
		if err := iotest.TestReader(NewReader([]byte(text(size))), []byte(text(size))); err != nil {
			t.Error(err)
		}
	}
}

func TestASmallPayloadIsReadByWhatNetHTTPKnows(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		if known := IsInMemory(open(t, New(make([]byte, size)))); known != (size > 0 && size <= small) {
			t.Errorf("%d bytes: %v", size, known)
		}
	}
}

func TestAReaderYieldsNothingAfterClose(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"unread": 0, "begun": 2, "at its end": 5} {
		r := NewReader([]byte("12345"))
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

func TestAReaderIsTakenOnceWithWhatIsLeftOfIt(t *testing.T) {
	t.Parallel()
	data := []byte("12345")
	r := NewReader(data)
	if _, err := r.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	rest, ok := r.Take()
	if !ok || string(rest) != "345" || &rest[0] != &data[2] {
		t.Errorf("took %q, %v", rest, ok)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("a reader that was taken over can still be read")
	}
	if rest, ok = r.Take(); ok || rest != nil {
		t.Errorf("took %q again", rest)
	}
}

func TestCloseMayRunBesideRead(t *testing.T) {
	t.Parallel()
	r := NewReader(bytes.Repeat([]byte("x"), 1<<16))
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
	for _, size := range sizes {
		p := New([]byte(text(size)))
		r := open(t, p)
		p.Release()
		if p.Bytes() != nil {
			t.Errorf("%d bytes are held", len(p.Bytes()))
		}
		if got := all(t, r); got != text(size) {
			t.Errorf("an open reader read %q", got)
		}
		if r, ok := r.(*Reader); ok && r.rest != nil {
			t.Error("a reader at its end holds the payload")
		}
		if late, err := p.Open(); err == nil {
			t.Errorf("a late replay would send %q", all(t, late))
		}
	}
}
