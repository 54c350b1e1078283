package breaker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/stub"
)

// about returns a context of a call about a subject.
func about(ctx context.Context, endpoint, model, target string) context.Context {
	return (&call.Call{Subject: call.Subject{Endpoint: endpoint, Model: model, Target: target}}).Init(ctx)
}

// use sends a request.
func use(ctx context.Context, t *testing.T, tr *breaker.Transport, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := tr.RoundTrip(req); err == nil { //nolint:contextcheck // a count needs none
		_ = resp.Body.Close()
	}
}

func wantKeys(t *testing.T, tr *breaker.Transport, want ...string) {
	t.Helper()
	var got []string
	for _, s := range tr.Snapshot() {
		got = append(got, s.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, answer(204, ""), breaker.Config{MaxKeys: 3})
	get := func(url string) { t.Helper(); use(t.Context(), t, tr, url) }
	get("http://A.example/x?y")
	get("http://a.EXAMPLE:80")
	get("https://a.example")
	get("HTTP://me:secret@a.example")
	wantKeys(t, tr, "http://a.example", "http://a.example:80", "https://a.example")
	if got := tr.Breaker("http://A.example").Snapshot().Totals.Success; got != 2 {
		t.Errorf("%d successes, want 2", got)
	}
	if tr.Breaker("http://b") != nil || tr.Breaker("") != nil {
		t.Error("a breaker for a key never used")
	}
	// :80 was used least recently, but is open.
	tr.Breaker("http://a.example:80").Trip()
	get("http://b")
	wantKeys(t, tr, "http://a.example", "http://a.example:80", "http://b")
	get("http://c")
	wantKeys(t, tr, "http://a.example:80", "http://b", "http://c")
	for _, s := range tr.Snapshot() {
		tr.Breaker(s.Key).Trip()
	}
	get("http://d")
	wantKeys(t, tr, "http://b", "http://c", "http://d")
	// What is no longer open is like others again.
	tr.Breaker("http://c").Reset()
	get("http://c")
	tr.Breaker("http://d").Trip()
	get("http://e")
	wantKeys(t, tr, "http://b", "http://d", "http://e")
}

func TestWhatKnowsOfFailuresIsForgottenLast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(*testing.T, *breaker.Breaker)
		kept    bool
	}{
		"a row of failures": {func(t *testing.T, b *breaker.Breaker) { fail(t, b, 1) }, true},
		"a failure in the window": {func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			succeed(t, b, 1)
		}, true},
		"a failure that the window forgot": {func(t *testing.T, b *breaker.Breaker) {
			fail(t, b, 1)
			succeed(t, b, 1)
			time.Sleep(time.Minute)
		}, false},
		"an open one":      {func(_ *testing.T, b *breaker.Breaker) { b.Trip() }, true},
		"a half-open one":  {func(_ *testing.T, b *breaker.Breaker) { b.Trip(); time.Sleep(time.Hour) }, true},
		"one on the leash": {func(t *testing.T, b *breaker.Breaker) { b.Trip(); time.Sleep(time.Hour); succeed(t, b, 1) }, true},
		"one on the leash no more": {func(t *testing.T, b *breaker.Breaker) {
			b.Trip()
			time.Sleep(time.Hour)
			succeed(t, b, 1)
			time.Sleep(time.Minute)
		}, false},
		"one whose successes ended the leash": {func(t *testing.T, b *breaker.Breaker) {
			b.Trip()
			time.Sleep(time.Hour)
			succeed(t, b, 21)
		}, false},
		"successes alone": {func(t *testing.T, b *breaker.Breaker) { succeed(t, b, 100) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTransport(t, answer(204, ""), breaker.Config{MaxKeys: 3})
				use(t.Context(), t, tr, "http://a")
				test.happens(t, tr.Breaker("http://a"))
				for _, url := range []string{"http://b", "http://c", "http://d"} {
					use(t.Context(), t, tr, url)
				}
				if kept := tr.Breaker("http://a") != nil; kept != test.kept {
					t.Errorf("kept: %v", kept)
				}
			})
		})
	}
}

func TestAFloodOfNamesForgetsNoDeadModel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, stub.Func(func(req *http.Request) (*http.Response, error) {
			if call.From(req.Context()).Model == "dead" {
				return response(http.StatusServiceUnavailable, http.NoBody), nil
			}
			return response(http.StatusNotFound, http.NoBody), nil
		}), breaker.Config{})
		for range 5 {
			use(about(t.Context(), "chat", "dead", ""), t, tr, key)
			for i := range 1_100 {
				use(about(t.Context(), "chat", fmt.Sprint("invented-", i), ""), t, tr, key)
			}
			time.Sleep(apart)
		}
		wantState(t, tr.Breaker(key+" chat dead"), breaker.Open)
		if n := len(tr.Snapshot()); n != breaker.DefaultMaxKeys {
			t.Errorf("%d breakers", n)
		}
	})
}

func TestAKeyIsItsServerEndpointModelAndTarget(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, answer(204, ""), breaker.Config{})
	for _, ctx := range []context.Context{
		t.Context(),
		about(t.Context(), "", "", ""),
		about(t.Context(), "chat", "gpt-4o", ""),
		about(t.Context(), "chat", "gpt-4o", ""),
		about(t.Context(), "embeddings", "gpt-4o", ""),
		about(t.Context(), "chat", "gpt-4o", "west"),
		about(t.Context(), "models", "", ""),
	} {
		use(ctx, t, tr, "https://API.example.com/v1")
	}
	wantKeys(t, tr, key, key+" chat gpt-4o", key+" chat gpt-4o west", key+" embeddings gpt-4o", key+" models")
	if n := tr.Breaker("https://api.EXAMPLE.com chat gpt-4o").Snapshot().Totals.Success; n != 2 {
		t.Errorf("%d successes", n)
	}
	if tr.Breaker(key+" chat GPT-4O") != nil {
		t.Error("a model's name was taken for another")
	}
}

func TestAnEndpointThatIsNotThereSaysNothingOfTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, answer(http.StatusInternalServerError, ""), breaker.Config{})
		for range 5 {
			use(about(t.Context(), "embeddings", "m", ""), t, tr, key)
			time.Sleep(apart)
		}
		use(about(t.Context(), "chat", "m", ""), t, tr, key)
		wantState(t, tr.Breaker(key+" embeddings m"), breaker.Open)
		wantState(t, tr.Breaker(key+" chat m"), breaker.Closed)
	})
}

func TestNamesAreBoundedAndValid(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 127)
	for name, test := range map[string]struct{ model, want string }{
		"short":             {"m", "m"},
		"as long as it may": {long + "x", long + "x"},
		"longer":            {long + "xyz", long + "x"},
		"cut in a letter":   {long + "é", long},
		"no UTF-8":          {"a\xffb", "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, answer(204, ""), breaker.Config{})
			for range 2 {
				use(about(t.Context(), "chat", test.model, ""), t, tr, key)
			}
			wantKeys(t, tr, key+" chat "+test.want)
		})
	}
	tr := newTransport(t, answer(204, ""), breaker.Config{})
	use(t.Context(), t, tr, "http://%ff%fe")
	use(t.Context(), t, tr, "http://"+strings.Repeat("é", 1<<20))
	user := newTransport(t, answer(204, ""), breaker.Config{Key: func(*http.Request) string { return "a\xff" + strings.Repeat("x", 1<<20) }})
	use(t.Context(), t, user, key)
	for _, s := range append(tr.Snapshot(), user.Snapshot()...) {
		if !utf8.ValidString(s.Key) || len(s.Key) > 1<<10+len("http://\uFFFD") {
			t.Errorf("%.40q… of %d bytes", s.Key, len(s.Key))
		}
	}
}

func TestAKeyKeepsNothingOfThePayload(t *testing.T) {
	const payload = 1 << 20
	tr := newTransport(t, answer(204, ""), breaker.Config{})
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	for i := range 100 {
		model := (strings.Repeat("x", payload) + strconv.Itoa(i))[payload-8:]
		use(about(t.Context(), "chat", model, ""), t, tr, key)
	}
	if after := inUse(); after > before+20*payload {
		t.Errorf("%d payloads are kept", (after-before)/payload)
	}
	runtime.KeepAlive(tr)
}

// A plainHandler writes what it gets as it is, as handlers of other libraries do.
type plainHandler struct {
	slog.Handler

	out *strings.Builder
}

func (plainHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h plainHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		h.out.WriteString(a.Key + "=" + a.Value.String() + " ")
		return true
	})
	return nil
}

func TestANameIsQuotedWhereAPersonReadsIt(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	tr := newTransport(t, answer(http.StatusInternalServerError, ""), breaker.Config{FailureThreshold: 1, Logger: slog.New(plainHandler{out: &log})})
	ctx := about(t.Context(), "chat", "m\n\x1b[31m\u202e", "")
	use(ctx, t, tr, key)
	resp, err := tr.RoundTrip(request(ctx, ""))
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("not refused")
	}
	for _, text := range []string{err.Error(), log.String()} {
		if text == "" || strings.ContainsAny(text, "\n\x1b\u202e") {
			t.Errorf("%q", text)
		}
	}
	use(t.Context(), t, tr, key)
	if !strings.Contains(log.String(), "key="+key+" ") {
		t.Errorf("a plain name is quoted: %s", log.String())
	}
}

func TestKeyOfTheUsers(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, answer(204, ""), breaker.Config{Key: func(req *http.Request) string { return req.Method + "://X" }})
	resp, err := tr.RoundTrip(request(about(t.Context(), "chat", "m", ""), "PUT"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if tr.Breaker("PUT://X") == nil || tr.Breaker("put://x") != nil {
		t.Errorf("%+v", tr.Snapshot())
	}
}

func TestConcurrentKeys(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, answer(204, ""), breaker.Config{MaxKeys: 4, Key: func(req *http.Request) string { return req.Method }})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				if resp, err := tr.RoundTrip(request(t.Context(), string(rune('A'+i)))); err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	if n := len(tr.Snapshot()); n != 4 {
		t.Errorf("%d keys, want 4", n)
	}
}

func TestTheGateSaysForHowLongABreakerIsCertainToRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, answer(http.StatusNoContent, ""), breaker.Config{})
		c := new(call.Call)
		ctx := c.Init(t.Context())
		want := func(want time.Duration) {
			t.Helper()
			if got := c.Gate.RefusesFor(); got != want {
				t.Errorf("refuses for %v, want %v", got, want)
			}
		}
		use(ctx, t, tr, key)
		want(0)
		tr.Breaker(key).Trip()
		want(30 * time.Second)
		use(ctx, t, tr, key) // refused
		time.Sleep(29 * time.Second)
		want(time.Second)
		time.Sleep(time.Second)
		want(0)
		admit(t, tr.Breaker(key))
		want(0) // it is half open: nobody knows
	})
}

// A second attempt at the same place is worth it only where no other call fails there.
func TestTheGateSaysWhetherACallFailsAlone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens string // to the call: s or f; to others: S or F; a dot is time between them
		want    bool
	}{
		"nothing failed":                        {"s", true},
		"it failed":                             {"sf", true},
		"it failed twice":                       {"sf.f", true},
		"another failed":                        {"sF", false},
		"another failed before it":              {"sFf", false},
		"another failed long before it":         {"sF.f", false},
		"another failed long after it":          {"sf.F", false},
		"another failed, in a row that is over": {"sFSf", true},
		"it failed in a row that is over":       {"sfSF", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				status := 0
				tr := newTransport(t, stub.Func(func(*http.Request) (*http.Response, error) {
					return response(status, http.NoBody), nil
				}), breaker.Config{})
				c := new(call.Call)
				ctx := c.Init(t.Context())
				for _, what := range test.happens {
					status = http.StatusInternalServerError
					switch what {
					case '.':
						time.Sleep(apart)
					case 's':
						status = http.StatusNoContent
						use(ctx, t, tr, key)
					case 'f':
						use(ctx, t, tr, key)
					case 'S':
						status = http.StatusNoContent
						use(t.Context(), t, tr, key)
					case 'F':
						use(t.Context(), t, tr, key)
					}
				}
				if got := c.Gate.FailsAlone(c); got != test.want {
					t.Errorf("%s: alone %v", test.happens, got)
				}
			})
		})
	}
}

func BenchmarkAFloodOfNames(b *testing.B) {
	for name, code := range map[string]int{"that are unknown": http.StatusNotFound, "that all fail": http.StatusServiceUnavailable} {
		b.Run(name, func(b *testing.B) {
			tr := breaker.NewTransport(answer(code, ""), breaker.Config{})
			b.Cleanup(func() { _ = tr.Close() })
			c := new(call.Call)
			req := httptest.NewRequestWithContext(c.Init(b.Context()), http.MethodPost, key, http.NoBody)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.Model = fmt.Sprint("invented-", i)
				if resp, err := tr.RoundTrip(req); err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
}
