package payload

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

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
		if IsPlain(req) != row.plain || TakesOver(req) != row.takeOver {
			t.Errorf("%s: IsPlain %v, TakesOver %v", name, IsPlain(req), TakesOver(req))
		}
	}
}

func TestWhatIsInMemoryIsToldAsNetHTTPTellsIt(t *testing.T) {
	t.Parallel()
	type derived struct{ *bytes.Reader }
	for name, row := range map[string]struct {
		body io.ReadCloser
		want bool
	}{
		"a bytes.Reader":             {io.NopCloser(bytes.NewReader(nil)), true},
		"a bytes.Buffer":             {io.NopCloser(new(bytes.Buffer)), true},
		"a strings.Reader":           {io.NopCloser(strings.NewReader("")), true},
		"something else that reads":  {io.NopCloser(io.LimitReader(strings.NewReader(""), 1)), false},
		"one that embeds it":         {io.NopCloser(derived{bytes.NewReader(nil)}), false},
		"a NopCloser in a NopCloser": {io.NopCloser(io.NopCloser(bytes.NewReader(nil))), false},
		"one that hears of Close":    {of(bytes.NewReader(nil)), false},
		"a file":                     {os.Stdin, false},
		"none":                       {http.NoBody, false},
	} {
		if got := IsInMemory(row.body); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
