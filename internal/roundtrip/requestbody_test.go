package roundtrip

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

type closer struct {
	io.Reader

	err    error
	closed int
}

func (c *closer) Close() error {
	c.closed++
	return c.err
}

func TestARequestBodyKnowsWhetherItEndedItsAttempt(t *testing.T) {
	t.Parallel()
	errDisk := errors.New("the disk is gone")
	for name, row := range map[string]struct {
		body   io.Reader
		length int64
		close  error
		failed bool
	}{
		"whole, of known length":       {strings.NewReader("12345"), 5, nil, false},
		"whole, of unknown length":     {strings.NewReader("12345"), -1, nil, false},
		"whole, its length not said":   {strings.NewReader("12345"), 0, nil, false},
		"whole, its end with its data": {iotest.DataErrReader(strings.NewReader("12345")), 5, nil, false},
		"too short":                    {strings.NewReader("1234"), 5, nil, true},
		"too long":                     {strings.NewReader("123456"), 5, nil, true},
		"failing at once":              {iotest.ErrReader(errDisk), 5, nil, true},
		"failing later":                {io.MultiReader(strings.NewReader("12"), iotest.ErrReader(errDisk)), -1, nil, true},
		"longer than is allowed":       {http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("12345")), 3), 5, nil, true},
		"failing in Close":             {strings.NewReader("12345"), 5, errDisk, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &closer{Reader: row.body, err: row.close}
			b := NewRequestBody(c, row.length)
			_, _ = io.Copy(io.Discard, b)
			if err := b.Close(); !errors.Is(err, row.close) || c.closed != 1 {
				t.Errorf("%v, closed %d times", err, c.closed)
			}
			if b.Failed() != row.failed || BodyFailed(b) != row.failed {
				t.Errorf("failed: %v", b.Failed())
			}
		})
	}
}

func TestARequestBodyIsNotToBlameForAReadAfterItsClose(t *testing.T) {
	t.Parallel()
	pr, pw := io.Pipe()
	defer pw.Close() //nolint:errcheck // it always succeeds
	b := NewRequestBody(pr, -1)
	_ = b.Close()
	if _, err := b.Read(make([]byte, 1)); err == nil || b.Failed() {
		t.Errorf("%v, failed: %v", err, b.Failed())
	}
}

func TestOnlyABodyThatMayFailIsWatched(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		body    io.Reader
		change  func(*http.Request)
		watched bool
	}{
		"none":            {nil, func(*http.Request) {}, false},
		"an empty one":    {http.NoBody, func(*http.Request) {}, false},
		"in memory":       {strings.NewReader("x"), func(*http.Request) {}, false},
		"in a buffer":     {bytes.NewBufferString("x"), func(r *http.Request) { r.GetBody = nil }, false},
		"of bytes":        {bytes.NewReader([]byte("x")), func(r *http.Request) { r.ContentLength = -1 }, false},
		"shorter":         {strings.NewReader("x"), func(r *http.Request) { r.ContentLength = 2 }, true},
		"longer":          {strings.NewReader("xyz"), func(r *http.Request) { r.ContentLength = 2 }, true},
		"to be had again": {io.MultiReader(), func(r *http.Request) { r.GetBody = func() (io.ReadCloser, error) { return r.Body, nil } }, false},
		"of some reader":  {io.MultiReader(strings.NewReader("x")), func(*http.Request) {}, true},
		"watched already": {io.MultiReader(strings.NewReader("x")), func(r *http.Request) { r.Body = NewRequestBody(r.Body, 0) }, false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com", row.body)
		if err != nil {
			t.Fatal(err)
		}
		row.change(req)
		before := req.Body
		sent := WatchBody(req)
		if req.Body != before || (sent != req) != row.watched || BodyFailed(sent.Body) {
			t.Errorf("%s: watched %v", name, sent != req)
		}
	}
}
