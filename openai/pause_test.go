package openai

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

// A pacedBase answers as its test likes.
type pacedBase struct {
	answer func(*http.Request) *http.Response
	calls  int
}

func (b *pacedBase) RoundTrip(req *http.Request) (*http.Response, error) {
	b.calls++
	return b.answer(req), nil
}

// answering stands for the layer below the breaker, which keeps errors beside
// their calls.
func answering(base http.RoundTripper) http.RoundTripper {
	return stub.Func(func(req *http.Request) (*http.Response, error) {
		response, err := base.RoundTrip(req)
		if err == nil && response.StatusCode >= http.StatusBadRequest {
			call.From(req.Context()).Answer = &errorAnswer{response: response, attempt: attemptOf(req)}
		}
		return response, err
	})
}

// A pacing is a pacer under test.
type pacing struct {
	*testing.T
	*pacer

	base *pacedBase
}

// paced runs a test of a pacer in virtual time.
func paced(t *testing.T, test func(*pacing)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := new(pacedBase)
		test(&pacing{T: t, pacer: &pacer{base: answering(base), maxKeys: 4}, base: base})
	})
}

func (p *pacing) request(model string) *http.Request {
	p.Helper()
	c := new(call.Call).Init(p.Context())
	c.Subject = call.Subject{Endpoint: "chat", Model: model}
	a := new(call.Attempt)
	a.Init(c)
	req, err := http.NewRequestWithContext(a, http.MethodPost, "https://Api.example.com/v1/chat/completions", http.NoBody)
	if err != nil {
		p.Fatal(err)
	}
	return req
}

// send sends a request for model m that gets this answer.
func (p *pacing) send(code int, header ...string) error {
	p.Helper()
	return p.sendFor("m", code, header...)
}

func (p *pacing) sendFor(model string, code int, header ...string) error {
	p.Helper()
	p.base.answer = func(*http.Request) *http.Response { return stub.Response(code, "", header...) }
	response, err := p.RoundTrip(p.request(model))
	if err == nil {
		_ = response.Body.Close()
	}
	return err
}

// admitted is send for a request that must not be refused.
func (p *pacing) admitted(code int, header ...string) {
	p.Helper()
	if err := p.send(code, header...); err != nil {
		p.Fatal(err)
	}
}

// wantPause checks how long the only key is paused from now on.
func (p *pacing) wantPause(want time.Duration) {
	p.Helper()
	got := time.Duration(0)
	for _, s := range p.snapshot() {
		if s.Key != "https://api.example.com m" {
			p.Errorf("the key is %q", s.Key)
		}
		got = time.Until(s.PausedUntil)
	}
	if got != want {
		p.Fatalf("paused for %v, want %v", got, want)
	}
}

func (p *pacing) refused() *LimitError {
	p.Helper()
	calls := p.base.calls
	err := p.send(200)
	limit, ok := err.(*LimitError) //nolint:errorlint // nothing wraps it here
	if !ok || p.base.calls != calls {
		p.Fatalf("not refused: %v", err)
	}
	return limit
}

func seconds(n int) []string { return []string{"Retry-After", strconv.Itoa(n)} }

func TestA429PausesUntilItsHint(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hint         time.Duration
		want, spread time.Duration
	}{
		"at once":    {0, 0, 0},
		"short":      {time.Second, time.Second, time.Second},
		"long":       {40 * time.Second, 40 * time.Second, 10 * time.Second},
		"far longer": {time.Hour, 120 * time.Second, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			paced(t, func(p *pacing) {
				p.admitted(429, "Retry-After-Ms", strconv.FormatInt(test.hint.Milliseconds(), 10))
				p.wantPause(test.want)
				if test.want == 0 {
					p.admitted(200)
					return
				}
				shortest, longest := time.Hour, time.Duration(0)
				for range 1000 {
					r := p.refused()
					if wait, ok := r.Paused(); !ok || wait != r.RetryAfter {
						t.Fatalf("Paused returned %v, %v", wait, ok)
					}
					shortest, longest = min(shortest, r.RetryAfter), max(longest, r.RetryAfter)
				}
				if shortest < test.want || longest >= test.want+test.spread {
					t.Errorf("callers told to wait %v to %v", shortest, longest)
				}
				if longest-shortest < test.spread*9/10 {
					t.Errorf("callers spread over %v only", longest-shortest)
				}
				time.Sleep(test.want)
				p.wantPause(0)
				p.admitted(200)
			})
		})
	}
}

func TestARefusalForARateLimitNamesItsKeyAndIsARejection(t *testing.T) {
	paced(t, func(p *pacing) {
		p.admitted(429, seconds(10)...)
		err := error(p.refused())
		if r, ok := fault.AsRejection(err); !ok || fault.Type(err) != "rate_limited" {
			t.Errorf("%v is %q, a rejection %v", err, fault.Type(err), r)
		}
		if text := err.Error(); !strings.Contains(text, `"https://api.example.com m"`) {
			t.Errorf("it says %s", text)
		}
	})
}

func TestPausesWithoutAHintDouble(t *testing.T) {
	paced(t, func(p *pacing) {
		for _, s := range []int{1, 2, 4, 8, 16, 30, 30} {
			want := time.Duration(s) * time.Second
			p.admitted(429)
			p.wantPause(want)
			time.Sleep(want)
		}
		p.admitted(200)
		p.admitted(429)
		p.wantPause(time.Second)
	})
}

func TestAPauseWithAHintDoesNotHideASuccess(t *testing.T) {
	paced(t, func(p *pacing) {
		for _, want := range []time.Duration{time.Second, 2 * time.Second} {
			p.admitted(429)
			p.wantPause(want)
			time.Sleep(want)
		}
		p.admitted(200)
		p.admitted(429, seconds(10)...)
		time.Sleep(10 * time.Second)
		p.admitted(429)
		p.wantPause(time.Second)
	})
}

func TestOnePauseForAllRequestsThatMetTheSameLimit(t *testing.T) {
	paced(t, func(p *pacing) {
		limited := make(chan struct{})
		p.base.answer = func(*http.Request) *http.Response {
			<-limited
			return stub.Response(429, "")
		}
		var wg sync.WaitGroup
		p.pacer.base = answering(stub.Func(func(req *http.Request) (*http.Response, error) { return p.base.answer(req), nil }))
		for range 200 {
			req := p.request("m")
			wg.Go(func() {
				response, err := p.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = response.Body.Close()
			})
		}
		synctest.Wait()
		close(limited)
		wg.Wait()
		p.pacer.base = answering(p.base)
		p.wantPause(time.Second)
		time.Sleep(time.Second)
		p.admitted(429)
		p.wantPause(2 * time.Second)
	})
}

func TestAHintThatIsTooShortForSoManyIsASecond(t *testing.T) {
	paced(t, func(p *pacing) {
		short := []string{"Retry-After-Ms", "20"}
		p.admitted(429, short...)
		p.wantPause(20 * time.Millisecond)
		time.Sleep(20 * time.Millisecond)
		p.admitted(200)
		p.admitted(429, short...)
		p.wantPause(time.Second)
		time.Sleep(2 * time.Second)
		p.admitted(429, short...)
		p.wantPause(20 * time.Millisecond)
	})
}

func TestAPausePrecedesOthersOnlyIfItIsLonger(t *testing.T) {
	paced(t, func(p *pacing) {
		hints := make(chan int, 2)
		p.pacer.base = answering(stub.Func(func(*http.Request) (*http.Response, error) { return stub.Response(429, "", seconds(<-hints)...), nil }))
		var wg sync.WaitGroup
		for range 2 {
			req := p.request("m")
			wg.Go(func() {
				if response, err := p.RoundTrip(req); err == nil {
					_ = response.Body.Close()
				}
			})
		}
		synctest.Wait()
		hints <- 10
		synctest.Wait()
		hints <- 2
		wg.Wait()
		p.wantPause(10 * time.Second)
	})
}

func TestAQuotaPausesNobody(t *testing.T) {
	paced(t, func(p *pacing) {
		for _, body := range []string{`{"error":{"code":"insufficient_quota"}}`, `{"error":{"code":"1113"}}`, `{"code":"insufficient_quota"}`} {
			p.base.answer = func(*http.Request) *http.Response { return stub.Response(429, body, seconds(10)...) }
			response, err := p.RoundTrip(p.request("m"))
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			p.wantPause(0)
		}
	})
}

func TestAnotherModelIsNotPaused(t *testing.T) {
	paced(t, func(p *pacing) {
		p.admitted(429, seconds(10)...)
		if err := p.sendFor("n", 200); err != nil {
			t.Error(err)
		}
		_ = p.refused()
	})
}

// As many keys as a provider's model names, or an attacker's.
func TestPausesAreBoundedAndTheIdleOneGoesFirst(t *testing.T) {
	paced(t, func(p *pacing) {
		if err := p.sendFor("idle", 429, seconds(1)...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, model := range []string{"a", "b", "c", "d", "e"} {
			if err := p.sendFor(model, 429, seconds(30)...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			if n := len(*p.paused.Load()); n > p.maxKeys {
				t.Fatalf("%d keys", n)
			}
		}
		var keys []string
		for _, s := range p.snapshot() {
			keys = append(keys, strings.TrimPrefix(s.Key, "https://api.example.com "))
		}
		if got := strings.Join(keys, " "); got != "b c d e" {
			t.Errorf("paused are %s", got)
		}
	})
}

// A batch of workers behind a limit of requests a second must get its work
// done: a rate limit paces, it does not fail.
func TestARateLimitedBatchFinishes(t *testing.T) {
	paced(t, func(p *pacing) {
		const workers, each, perSecond = 200, 10, 50
		var mu sync.Mutex
		second, used := int64(-1), 0
		p.pacer.base = answering(stub.Func(func(*http.Request) (*http.Response, error) {
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now().Unix(); now != second {
				second, used = now, 0
			}
			if used++; used > perSecond {
				return stub.Response(429, "", seconds(1)...), nil
			}
			return stub.Response(200, ""), nil
		}))
		start := time.Now()
		var wg sync.WaitGroup
		for range workers {
			req := p.request("m")
			wg.Go(func() {
				for done := 0; done < each; {
					response, err := p.RoundTrip(req)
					var limit *LimitError
					if errors.As(err, &limit) {
						time.Sleep(limit.RetryAfter)
						continue
					}
					if response.StatusCode == http.StatusOK {
						done++
					}
					_ = response.Body.Close()
				}
			})
		}
		wg.Wait()
		if took, least := time.Since(start), workers*each/perSecond*time.Second; took > 3*least {
			t.Errorf("took %v, at least %v are needed", took, least)
		}
	})
}

// What no 429 was seen of costs nothing.
func TestAKeyWithoutA429CostsNothing(t *testing.T) {
	response := stub.Response(200, "")
	p := &pacer{base: stub.Func(func(*http.Request) (*http.Response, error) { return response, nil }), maxKeys: 4}
	c := new(call.Call).Init(t.Context())
	req, err := http.NewRequestWithContext(c, http.MethodPost, "https://api.example.com/v1/chat/completions", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		if _, err := p.RoundTrip(req); err != nil {
			t.Error(err)
		}
	}
	if n := testing.AllocsPerRun(100, send); n != 0 {
		t.Errorf("%v allocations", n)
	}
	p.keep(pacingKey{scheme: "https", host: "another.example.com"})
	if n := testing.AllocsPerRun(100, send); n != 0 {
		t.Errorf("%v allocations, once another key had its 429", n)
	}
}
