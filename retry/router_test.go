package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

// An itinerary is a Router whose attempts go to these targets, one after the other, and the
// base in which they end.
type itinerary struct {
	targets []string
	answers map[string]stub.Func
	refusal error // of the first target
	asked   int   // attempts before it refuses
	free    bool
	sent    int
}

func (w *itinerary) First() (latest bool, refusal error) {
	if w.sent > w.asked {
		refusal = w.refusal
	}
	return w.sent > 0 && refusal == nil && w.targets[w.sent-1] == w.targets[0], refusal
}

func (w *itinerary) Detour() call.Detour {
	if w.sent == len(w.targets) {
		return call.Detour{}
	}
	next := w.targets[w.sent]
	fresh := !slices.Contains(w.targets[:w.sent], next)
	return call.Detour{Fresh: fresh, Free: fresh && w.free, Subject: call.Subject{Target: next}}
}

func (w *itinerary) Onward() (call.Detour, bool) { return call.Detour{}, false }

func (w *itinerary) RoundTrip(req *http.Request) (*http.Response, error) {
	target := w.targets[w.sent]
	w.sent++
	_ = req.Body.Close()
	call.AttemptFrom(req.Context()).Subject.Target = target
	return w.answers[target](req)
}

// says is an answer that names who gives it.
func says(code int, who string) stub.Func {
	return func(*http.Request) (*http.Response, error) { return stub.Response(code, who), nil }
}

func TestWhenAllTargetsFailTheFirstMetHasTheWord(t *testing.T) {
	t.Parallel()
	errFirst, errLater, errRefused := errors.New("first"), errors.New("later"), errors.New("refused")
	again := Policy(func(a *Attempt) Decision {
		if a.Response != nil && a.Response.StatusCode < 400 {
			return Stop(NotRetryable)
		}
		return After(0, ReasonServerError)
	})
	for name, row := range map[string]struct {
		way    itinerary
		status int
		body   string
		err    error
	}{
		"its own response":                  {way: itinerary{targets: []string{"a", "b", "b"}, answers: map[string]stub.Func{"a": says(503, "a"), "b": says(502, "b")}}, status: 503, body: "a"},
		"its latest response":               {way: itinerary{targets: []string{"a", "b", "a"}, answers: map[string]stub.Func{"a": says(503, "a"), "b": says(502, "b")}}, status: 503, body: "a"},
		"a later one's, where it had none":  {way: itinerary{targets: []string{"a", "b", "c"}, answers: map[string]stub.Func{"a": failure(errFirst), "b": says(502, "b"), "c": failure(errLater)}}, status: 502, body: "b"},
		"a later one's 408":                 {way: itinerary{targets: []string{"a", "b", "c"}, answers: map[string]stub.Func{"a": failure(errFirst), "b": says(408, "b"), "c": failure(errLater)}}, status: 408, body: "b"},
		"a later one's 429":                 {way: itinerary{targets: []string{"a", "b", "c"}, answers: map[string]stub.Func{"a": failure(errFirst), "b": says(429, "b"), "c": failure(errLater)}}, status: 429, body: "b"},
		"the last one's, where it had none": {way: itinerary{targets: []string{"a", "b", "c"}, answers: map[string]stub.Func{"a": failure(errFirst), "b": failure(errLater), "c": says(503, "c")}}, status: 503, body: "c"},
		"its error, where a later one has a word for its own caller": {
			way: itinerary{targets: []string{"a", "b", "b"}, answers: map[string]stub.Func{"a": failure(errFirst), "b": says(404, "b")}}, err: errFirst,
		},
		"its refusal": {way: itinerary{targets: []string{"b", "c", "c"}, refusal: errFirst, answers: map[string]stub.Func{"b": failure(errLater), "c": failure(errLater)}}, err: errFirst},
		"its error, though it refuses later": {
			way: itinerary{targets: []string{"a", "b", "c"}, refusal: errRefused, asked: 1, answers: map[string]stub.Func{"a": failure(errFirst), "b": failure(errLater), "c": failure(errLater)}}, err: errFirst,
		},
		"who has success": {way: itinerary{targets: []string{"a", "b", "c"}, answers: map[string]stub.Func{"a": says(503, "a"), "b": says(502, "b"), "c": says(200, "c")}}, status: 200, body: "c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var report Report
				req := keyed((&call.Call{Router: &row.way}).Init(WithReport(t.Context(), &report)), t, strings.NewReader("payload"))
				resp, err := NewTransport(&row.way, Config{Policy: again, MaxAttempts: 3, Safe: func(*http.Request) bool { return true }}).RoundTrip(req)
				if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) {
					t.Fatalf("got the error %v, want %v", err, row.err)
				}
				if resp != nil {
					body, _ := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode != row.status || string(body) != row.body {
						t.Errorf("got %d %q, want %d %q", resp.StatusCode, body, row.status, row.body)
					}
				}
				var tried []string
				for _, try := range report.Tried {
					tried = append(tried, try.Target)
				}
				if !slices.Equal(tried, row.way.targets) {
					t.Errorf("tried %q, want %q", tried, row.way.targets)
				}
			})
		})
	}
}

// What Inspect has found wrong with an answer is wrong with it also when it is kept and
// returned later. A status of 200 must not make a success of it.
func TestAnAnswerThatIsKeptIsAsWrongAsItWas(t *testing.T) {
	t.Parallel()
	errInside := errors.New("an error inside")
	w := &itinerary{targets: []string{"a", "b"}, answers: map[string]stub.Func{"a": says(200, "a"), "b": failure(io.ErrUnexpectedEOF)}}
	cfg := Config{MaxAttempts: 2, Backoff: steady(0), Safe: func(*http.Request) bool { return true }, Inspect: func(*Attempt) error { return errInside }, Policy: func(*Attempt) Decision {
		return After(0, ReasonServerError)
	}}
	var report Report
	ctx := (&call.Call{Router: w}).Init(WithReport(t.Context(), &report))
	resp, err := NewTransport(w, cfg).RoundTrip(keyed(ctx, t, strings.NewReader("p")))
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, resp); resp.StatusCode != 200 || body != "a" || !errors.Is(report.Err, errInside) {
		t.Errorf("got %d %q, reported as %v", resp.StatusCode, body, report.Err)
	}
}

// An answer kept from another target is of no use to a caller who has gone: net/http cuts
// its body, and an error says what happened.
func TestACallThatItsCallerEndsAtALaterTargetKeepsItsError(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(cancel func(), closed chan struct{}){
		"by its context":    func(cancel func(), _ chan struct{}) { cancel() },
		"by Request.Cancel": func(_ func(), closed chan struct{}) { close(closed) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			errGone, closed := errors.New("gone"), make(chan struct{})
			w := &itinerary{targets: []string{"a", "b"}, answers: map[string]stub.Func{
				"a": says(503, "a"),
				"b": func(*http.Request) (*http.Response, error) {
					end(cancel, closed)
					return nil, errGone
				},
			}}
			cfg := Config{MaxAttempts: 2, Backoff: steady(0), Safe: func(*http.Request) bool { return true }}
			req := keyed((&call.Call{Router: w}).Init(ctx), t, strings.NewReader("p"))
			req.Cancel = closed //nolint:staticcheck // http.Client sets it for Client.Timeout
			if resp, err := NewTransport(w, cfg).RoundTrip(req); w.sent != 2 || !errors.Is(err, errGone) {
				t.Errorf("%d attempts, %v, %v", w.sent, resp, err)
			}
		})
	}
}

func TestAFirstMeetingIsBoundByTheContextAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Minute)
			return stub.Response(503, "slow"), nil
		}
		w := &itinerary{targets: []string{"a", "b", "c", "c"}, answers: map[string]stub.Func{"a": slow, "b": slow, "c": slow}}
		cfg := Config{MaxAttempts: 2, MaxElapsed: time.Second, Safe: func(*http.Request) bool { return true }, Backoff: steady(0)}
		resp, err := NewTransport(w, cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(t.Context()), t, strings.NewReader("p")))
		if err != nil || resp.StatusCode != 503 || w.sent != 3 {
			t.Errorf("%d attempts, %v", w.sent, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		w.sent = 0
		w.answers["a"] = says(503, "a")
		hints := Policy(func(*Attempt) Decision { return After(40*time.Second, ReasonServerError) })
		cfg.Policy, cfg.MaxRetryAfter = hints, time.Hour
		if resp, err := NewTransport(w, cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(ctx), t, strings.NewReader("p"))); err != nil || resp.StatusCode != 503 || w.sent != 1 {
			t.Errorf("%d attempts past the deadline, %v", w.sent, err)
		}
	})
}

// Another target is a second attempt, too: a call that may be made once goes to one place.
func TestACallOfOneAttemptGoesToNoOtherTarget(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		cfg Config
		ctx context.Context
	}{
		"by the Config": {Config{MaxAttempts: 1}, t.Context()},
		"by the caller": {Config{}, WithMaxAttempts(t.Context(), 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &itinerary{targets: []string{"a", "b"}, free: true, answers: map[string]stub.Func{"a": says(503, "a"), "b": says(200, "b")}}
			row.cfg.Safe = func(*http.Request) bool { return true }
			resp, err := NewTransport(w, row.cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(row.ctx), t, http.NoBody))
			if err != nil || resp.StatusCode != 503 || w.sent != 1 {
				t.Errorf("%d attempts, %v, %v", w.sent, resp, err)
			}
		})
	}
}

func TestEachTargetPaysFromItsOwnBucket(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		free bool
		sent int
	}{"a first meeting that is free": {true, 2}, "one that is paid for": {false, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &itinerary{targets: []string{"a", "b", "b"}, free: row.free, answers: map[string]stub.Func{"a": says(503, "a"), "b": says(503, "b")}}
				var keys []string
				cfg := Config{Budget: NewBudget(4, 0), Backoff: steady(0), Safe: func(*http.Request) bool { return true }, BudgetKey: func(req *http.Request) string {
					key := call.AttemptFrom(req.Context()).Subject.Target
					keys = append(keys, key)
					return key
				}}
				resp, err := NewTransport(w, cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(t.Context()), t, strings.NewReader("p")))
				if err != nil || resp.StatusCode != 503 || w.sent != row.sent || !slices.Contains(keys, "b") {
					t.Errorf("%d attempts from the buckets %q, %v", w.sent, keys, err)
				}
			})
		})
	}
}

func TestAnUpperBoundOfAWaitIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := stub.Answers(says(503, ""), says(200, ""))
		began := time.Now()
		cfg := Config{Backoff: steady(time.Minute), Policy: func(a *Attempt) Decision {
			if a.Response.StatusCode == 200 {
				return Stop(NotRetryable)
			}
			return AfterBackoff(ReasonServerError).AtMost(2 * time.Second)
		}}
		if _, err := NewTransport(base, cfg).RoundTrip(keyed(t.Context(), t, strings.NewReader("p"))); err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"retry: gave up after 1 attempt: x":                                                  &Error{Attempts: 1, Err: errors.New("x")},
		"retry: gave up after 3 attempts: x":                                                 &Error{Attempts: 3, Err: errors.New("x")},
		"retry: the call ended after 2 attempts: context canceled; the last failure was: x":  &Error{Attempts: 2, Err: errors.New("x"), Cause: context.Canceled},
		"retry: Config.MaxAttempts is -1: it may be 0 for the default, 1 for none, or above": &ConfigError{"MaxAttempts", -1, "0 for the default, 1 for none, or above"},
		"the server answered 503 Service Unavailable":                                        statusError(503),
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err.Error(), want)
		}
	}
	if _, err := NewRequest(t.Context(), "NO METHOD", "http://x", nil); err == nil {
		t.Error("a request with a method that can't be")
	}
}

// A refusing is a Router whose fresh target refuses the call, which then goes back.
type refusing struct {
	elsewhere

	back []call.Detour
}

func (r *refusing) Onward() (to call.Detour, ok bool) {
	if len(r.back) == 0 {
		return call.Detour{}, false
	}
	to, r.back = r.back[0], r.back[1:]
	return to, true
}

func TestAnAttemptThatIsRefusedIsFollowedByOneAtAnotherTarget(t *testing.T) {
	t.Parallel()
	refused := failure(fmt.Errorf("not sent: %w", fault.ErrRejected))
	again := call.Detour{Subject: call.Subject{Target: "a"}}
	for name, row := range map[string]struct {
		answers []stub.Func
		back    []call.Detour
		status  int
		after   time.Duration // a second of it before the attempt that is refused
	}{
		"with backoff where it has failed":   {[]stub.Func{says(503, "a"), refused, says(200, "a")}, []call.Detour{again}, 200, 2 * time.Second},
		"at once where it has not":           {[]stub.Func{says(503, "a"), refused, says(200, "c")}, []call.Detour{{Fresh: true, Free: true, Subject: call.Subject{Target: "c"}}}, 200, time.Second},
		"past one that can't be paid for":    {[]stub.Func{says(503, "a"), refused, says(200, "a")}, []call.Detour{{Fresh: true, Subject: call.Subject{Target: "poor"}}, again}, 200, 2 * time.Second},
		"and by none where there is none":    {[]stub.Func{says(503, "a"), refused}, nil, 503, time.Second},
		"also where nothing was sent so far": {[]stub.Func{refused, says(200, "c")}, []call.Detour{{Fresh: true, Free: true, Subject: call.Subject{Target: "c"}}}, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				w := &refusing{elsewhere{call.Detour{Fresh: true, Subject: call.Subject{Target: "b"}}}, row.back}
				budget := NewBudget(5, 0)
				budget.reserve("of poor", 5, time.Now())
				cfg := Config{Budget: budget, Backoff: steady(time.Second), Safe: func(*http.Request) bool { return true }, BudgetKey: func(req *http.Request) string {
					return "of " + call.AttemptFrom(req.Context()).Subject.Target
				}}
				resp, err := NewTransport(stub.Answers(row.answers...), cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(t.Context()), t, strings.NewReader("p")))
				if err != nil || resp.StatusCode != row.status {
					t.Fatalf("got %v, %v", resp, err)
				}
				if took := time.Since(began); took != row.after {
					t.Errorf("it took %v", took)
				}
				if !budget.reserve("of b", 5, time.Now()) {
					t.Error("what was reserved for the attempt that was refused is lost")
				}
			})
		})
	}
}

func TestWhatMayNotBeRepeatedGoesNowhereElseAfterARefusal(t *testing.T) {
	t.Parallel()
	base := stub.Answers(failure(fault.ErrRejected), says(200, "b"))
	w := &refusing{back: []call.Detour{{Fresh: true, Free: true, Subject: call.Subject{Target: "b"}}}}
	cfg := Config{Safe: func(*http.Request) bool { return false }}
	resp, err := NewTransport(base, cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(t.Context()), t, strings.NewReader("p")))
	if !errors.Is(err, fault.ErrRejected) || base.Calls() != 1 {
		t.Errorf("%d attempts, %v, %v", base.Calls(), resp, err)
	}
}

func TestARetryAfterARefusalNamesIt(t *testing.T) {
	t.Parallel()
	base := stub.Answers(reject(), says(200, "b"))
	w := &refusing{back: []call.Detour{{Fresh: true, Free: true, Subject: call.Subject{Target: "b"}}}}
	var named []string
	cfg := Config{Safe: func(*http.Request) bool { return true }, OnRetry: func(e Event) { named = append(named, e.ErrorType) }}
	resp, err := NewTransport(base, cfg).RoundTrip(keyed((&call.Call{Router: w}).Init(t.Context()), t, strings.NewReader("p")))
	if err != nil || resp.StatusCode != 200 || !slices.Equal(named, []string{rejection{}.ErrorType()}) {
		t.Errorf("%v, %v; after %q", resp, err, named)
	}
}
