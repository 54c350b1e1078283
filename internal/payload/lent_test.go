package payload

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// requestBody is the body that http.NewRequest makes of r.
func requestBody(t *testing.T, r io.Reader) io.ReadCloser {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x", r)
	if err != nil {
		t.Fatal(err)
	}
	return req.Body
}

func TestABodyInMemoryIsSharedNotCopied(t *testing.T) {
	t.Parallel()
	data := []byte(text(40))
	for name, row := range map[string]struct {
		body func() io.Reader
		left []byte
	}{
		"a bytes.Reader": {func() io.Reader { return bytes.NewReader(data) }, data},
		"a bytes.Reader that was begun": {func() io.Reader {
			r := bytes.NewReader(data)
			_, _ = r.Seek(3, io.SeekStart)
			return r
		}, data[3:]},
		"a bytes.Buffer": {func() io.Reader { return bytes.NewBuffer(data) }, data},
		"a bytes.Buffer that was begun": {func() io.Reader {
			b := bytes.NewBuffer(data)
			_, _ = b.ReadByte()
			return b
		}, data[1:]},
		"nothing": {func() io.Reader { return bytes.NewReader(nil) }, nil},
	} {
		for _, length := range []int64{int64(len(row.left)), -1} {
			body := row.body()
			var s Source
			got, stream, err := s.Buffer(t.Context(), io.NopCloser(body), length, limit, true)
			if err != nil || stream != nil || !bytes.Equal(got, row.left) {
				t.Errorf("%s: %q, %v, %v", name, got, stream, err)
			} else if len(got) > 0 && &got[0] != &row.left[0] {
				t.Errorf("%s was copied", name)
			}
			if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%s has still something to be read: %v", name, err)
			}
		}
	}
}

func TestWhatIsBorrowedInPartsIsPutTogether(t *testing.T) {
	t.Parallel()
	data := []byte("1234567")
	var b borrower
	for _, part := range [][]byte{data[:3], data[3:5], data[5:]} {
		if n, err := b.Write(part); n != len(part) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if string(b.data) != "1234567" || string(data) != "1234567" {
		t.Errorf("%q of %q", b.data, data)
	}
}

// What a body does when it is closed may be to use its bytes for something
// else.
func TestABodyThatMayHearOfItsCloseIsCopied(t *testing.T) {
	t.Parallel()
	data := []byte(text(40))
	type derived struct{ *bytes.Reader }
	for name, b := range map[string]io.ReadCloser{
		"with a Close of its own":      of(bytes.NewReader(data)),
		"embedded":                     closer{bytes.NewReader(data), func() error { return nil }},
		"another kind of reader":       io.NopCloser(derived{bytes.NewReader(data)}),
		"a NopCloser in a NopCloser":   io.NopCloser(io.NopCloser(bytes.NewReader(data))),
		"a string, which has no bytes": io.NopCloser(strings.NewReader(text(40))),
	} {
		var s Source
		got, _, err := s.Buffer(t.Context(), b, 40, limit, true)
		if err != nil || string(got) != text(40) {
			t.Errorf("%s: %q, %v", name, got, err)
		} else if &got[0] == &data[0] {
			t.Errorf("%s: was not copied", name)
		}
	}
}

func TestTheRulesOfLengthHoldForABodyInMemory(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		size        int
		length, got int64
	}{{0, 5, 0}, {4, 5, 4}, {6, 5, 6}, {60, 5, 6}} {
		var s Source
		var mismatch *LengthError
		_, stream, err := s.Buffer(t.Context(), io.NopCloser(bytes.NewBufferString(text(row.size))), row.length, limit, true)
		if stream != nil || !errors.As(err, &mismatch) || mismatch.Want != row.length || mismatch.Got != row.got || len(s.data) != 0 {
			t.Errorf("%d bytes as %d: %v, %v", row.size, row.length, stream, err)
		}
	}
	for name, length := range map[string]int64{"known": limit + 1, "unknown": -1} {
		var s Source
		_, stream, err := s.Buffer(t.Context(), io.NopCloser(bytes.NewReader([]byte(text(limit+1)))), length, limit, true)
		if err != nil || stream == nil || len(s.data) != 0 {
			t.Fatalf("above the limit, of %s length: %v, %v", name, stream, err)
		}
		if got := all(t, stream); got != text(limit+1) {
			t.Errorf("above the limit, of %s length: streamed %q", name, got)
		}
	}
}

// lentTo returns a Source that shares data, as that of a call does.
func lentTo(t *testing.T, data []byte) *Source {
	t.Helper()
	s := new(Source)
	if _, _, err := s.Buffer(t.Context(), requestBody(t, bytes.NewReader(data)), int64(len(data)), 1<<20, true); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLentBytesAreReadByNobodyOnceTheyAreGivenBack(t *testing.T) {
	t.Parallel()
	for name, lend := range map[string]func(data []byte) *Source{
		"a body in memory": func(data []byte) *Source { return lentTo(t, data) },
		"a reader of NewSource": func(data []byte) *Source {
			s := new(Source)
			_, _, _ = s.Buffer(t.Context(), open(t, NewSource(data)), -1, limit, true)
			return s
		},
	} {
		data := bytes.Repeat([]byte("x"), 1<<16)
		s := lend(data)
		var own Reader
		s.Init(&own)
		var inner Source // of a call below, which is over before
		if _, _, err := inner.Buffer(t.Context(), open(t, s), -1, limit, true); err != nil {
			t.Fatal(err)
		}
		below, belowLate := open(t, &inner), open(t, &inner)
		inner.GiveBack()
		if _, err := below.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s: a call below has ended that of its caller: %v", name, err)
		}
		var wg sync.WaitGroup
		for _, r := range []*Reader{&own, open(t, s), below} {
			wg.Go(func() {
				for buf := make([]byte, 16); ; {
					if _, err := r.Read(buf); err != nil {
						if !errors.Is(err, io.EOF) && !errors.Is(err, errReleased) {
							t.Errorf("%s: %v", name, err)
						}
						return
					}
				}
			})
		}
		late := open(t, s)
		s.GiveBack()
		clear(data) // the race detector sees to the rest
		for _, r := range []*Reader{late, belowLate} {
			if n, err := r.Read(make([]byte, 16)); n != 0 || !errors.Is(err, errReleased) {
				t.Errorf("%s: then %d bytes were read, %v", name, n, err)
			}
			if r.rest != nil {
				t.Errorf("%s: a late reader holds the payload", name)
			}
		}
		if _, err := s.Open(); err == nil {
			t.Errorf("%s: it can be opened again", name)
		}
		wg.Wait()
	}
}

func TestBytesOfOursStayWithOpenReadersAfterTheCall(t *testing.T) {
	t.Parallel()
	var s Source
	if _, _, err := s.Buffer(t.Context(), of(strings.NewReader("12345")), 5, limit, false); err != nil {
		t.Fatal(err)
	}
	r := open(t, &s)
	s.GiveBack()
	if got := all(t, r); got != "12345" || s.data != nil {
		t.Errorf("read %q, %d bytes are held", got, len(s.data))
	}
}

func TestASourceOfNoCallIsSentByAsManyAsLike(t *testing.T) {
	t.Parallel()
	lasting := NewSource([]byte("12345"))
	for range 2 {
		var s Source
		if got, _, err := s.Buffer(t.Context(), open(t, lasting), -1, limit, true); err != nil || string(got) != "12345" {
			t.Errorf("%q, %v", got, err)
		}
		s.GiveBack()
	}
}

func TestAPayloadReadToItsEndIsNotCutAfterwards(t *testing.T) {
	t.Parallel()
	s := lentTo(t, []byte("12345"))
	whole, half := open(t, s), open(t, s)
	if _, err := io.ReadFull(whole, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_, _ = half.Read(make([]byte, 2))
	s.GiveBack()
	for range 2 {
		if n, err := whole.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("its end is %d bytes, %v", n, err)
		}
		if n, err := half.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("half of it passes for a whole: %d bytes, %v", n, err)
		}
	}
}

func TestABodyThatPanicsIsClosed(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int64{"known": 5, "unknown": -1} {
		b := of(readerFunc(func([]byte) (int, error) { panic("boom") }))
		func() {
			defer func() { _ = recover() }()
			_, _, _ = new(Source).Buffer(t.Context(), b, length, limit, false)
		}()
		if b.closed.Load() != 1 {
			t.Errorf("%s: closed %d times", name, b.closed.Load())
		}
	}
}
