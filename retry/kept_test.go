package retry

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

func TestAKeptResponseEndsAsItEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := answers(func(*http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
			return &http.Response{StatusCode: 503, Body: io.NopCloser(body)}, nil
		}, reject())
		resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); string(got) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read %q, then %v", got, err)
		}
	})
}

func TestAResponseOf64KiBIsKept(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{64 << 10: 503, 64<<10 + 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			base := answers(func(*http.Request) (*http.Response, error) { return response(503, strings.Repeat("x", size)), nil }, reject())
			resp, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, nil))
			got := 0
			if err == nil {
				got = resp.StatusCode
				readAll(t, resp)
			}
			if got != want {
				t.Errorf("of %d bytes: status %d, error %v", size, got, err)
			}
		})
	}
}
