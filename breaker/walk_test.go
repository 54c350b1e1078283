package breaker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
)

// A walk takes a breaker and its model through the same steps, which it reads
// from bytes, and compares them after each.
type walk struct {
	*testing.T

	all     []byte
	rest    []byte // of all
	tr      *breaker.Transport
	b       *breaker.Breaker
	m       *model
	told    []breaker.StateChange
	fleet   *puppetFleet // nil for none
	permits []*permit    // all there were
	calls   [4]*call.Call
	body    *puppet // of the next stream
	err     error   // of the next attempt that is none
	cancel  context.CancelCauseFunc
	cause   error // with which the next attempt is canceled, if any
}

// A permit is the same request for the breaker and for its model.
type permit struct {
	real   *breaker.Permit // nil for a stream
	stream *http.Response
	body   *puppet
	cancel context.CancelCauseFunc // of the request
	model  *ticket
}

// A puppet is a body of which each Read returns what it is told to.
type puppet struct {
	data string
	err  error
}

func (s *puppet) Read(p []byte) (int, error) {
	n := copy(p, s.data)
	s.data = ""
	return n, s.err
}

func (s *puppet) Close() error { return nil }

// RoundTrip is the base's: it answers with the stream or error that is next.
func (w *walk) RoundTrip(*http.Request) (*http.Response, error) {
	if w.cause != nil {
		w.cancel(w.cause)
	}
	if w.body == nil {
		return nil, w.err
	}
	return response(http.StatusOK, w.body, "Content-Type", "text/event-stream"), nil
}

var (
	thresholds = []int{breaker.DefaultFailureThreshold, -1, 1, 2, 3, 5, 8}
	ratios     = []float64{breaker.DefaultFailureRatio, -1, 0.1, 0.25, 0.28, 0.75, 1}
	minimums   = []int{breaker.DefaultMinRequests, 1, 2, 4, 10, 25}
	windows    = []time.Duration{breaker.DefaultWindow, time.Second, 10 * time.Second, 3*time.Second + 17}
	durations  = []time.Duration{30 * time.Second, time.Second, 5 * time.Second, 1500 * time.Millisecond, 12 * time.Second, 4 * time.Minute}
	timeouts   = []time.Duration{0, 0, 0, 700 * time.Millisecond, 45 * time.Second}
	few        = []int{1, 2, 3}
	crowds     = []int{1, 1, 1, 1, 1, 1, 1, 20}
	waits      = []time.Duration{0, time.Second, -1, 1, 3 * time.Second, 6 * time.Second, time.Minute, 2 * time.Minute, time.Hour}
	limits     = []time.Duration{0, time.Second, 8 * time.Second, 45 * time.Second, 3 * time.Minute}
	sleeps     = []time.Duration{
		time.Second, 250 * time.Millisecond, 0, 100 * time.Millisecond, 500 * time.Millisecond, 1, 249 * time.Millisecond,
		time.Second - 1, time.Second + 1, 2 * time.Second, 6 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute, 75 * time.Second, 4 * time.Minute,
	}
	verdicts = []breaker.Outcome{breaker.Success, breaker.Failure, breaker.Ignored, breaker.Undecided}
)

// byte returns the next byte of the script, 0 behind its end.
func (w *walk) byte() int {
	if len(w.rest) == 0 {
		return 0
	}
	b := w.rest[0]
	w.rest = w.rest[1:]
	return int(b)
}

func pick[T any](w *walk, from []T) T { return from[w.byte()%len(from)] }

// TestABreakerIsItsModel walks at random.
func TestABreakerIsItsModel(t *testing.T) {
	t.Parallel()
	walks, least := 800, 100
	if testing.Short() {
		walks, least = 80, 3
	}
	reasons := map[string]int{}
	for seed := range uint64(walks) {
		chance := rand.New(rand.NewPCG(seed, 1))
		steps := make([]byte, 600)
		for i := range steps {
			steps[i] = byte(chance.Uint32())
		}
		for _, c := range walkOn(t, steps, seed%2 == 0) {
			reasons[c.Reason]++
		}
	}
	for _, reason := range []string{
		"failures_in_a_row", "failure_ratio", "probe_failed", "probes_succeeded", "places_ran_out", "open_duration_over", "tripped", "reset",
		"failure_after_advice", "advised_by_others",
	} {
		if reasons[reason] < least {
			t.Errorf("only %d of the walks' changes had the reason %s", reasons[reason], reason)
		}
	}
}

// FuzzBreaker: whatever happens in whatever order, a breaker does what its
// model does.
func FuzzBreaker(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0, 1, 2, 3, 4, 5, 6, 7}, 30))
	// 7 failures of 25 are exactly a ratio of 0.28.
	f.Add([]byte{1, 4, 5, 0, 0, 0, 0, 0, 9, 17, 10, 5, 2})
	f.Fuzz(func(t *testing.T, steps []byte) {
		walkOn(t, steps[:min(len(steps), 1<<10)], false)
		walkOn(t, steps[:min(len(steps), 1<<10)], true)
	})
}

func walkOn(t *testing.T, steps []byte, fleet bool) (changes []breaker.StateChange) {
	synctest.Test(t, func(t *testing.T) {
		w := &walk{T: t, all: steps, rest: steps, err: syscall.ECONNREFUSED}
		if fleet {
			w.fleet = new(puppetFleet)
		}
		w.begin()
		for len(w.rest) > 0 && len(w.permits) < 1000 { // the model takes its time over many
			w.step()
			w.compare()
		}
		w.end()
		changes = w.told
	})
	return changes
}

func (w *walk) begin() {
	cfg := breaker.Config{
		FailureThreshold: pick(w, thresholds), FailureRatio: pick(w, ratios), MinRequests: pick(w, minimums), Window: pick(w, windows),
		OpenDuration: pick(w, durations), ProbeTimeout: pick(w, timeouts), SuccessThreshold: pick(w, few), MaxProbes: pick(w, few),
		OnStateChange: func(c breaker.StateChange) { w.told = append(w.told, c) },
	}
	if w.fleet != nil {
		cfg.Fleet = w.fleet
	}
	w.m = newModel(cfg, time.Now())
	w.tr = newTransport(w.T, w, cfg)
	for i := range w.calls[1:] {
		w.calls[i+1] = new(call.Call).Init(w.Context())
	}
	w.attempt(0, 0, 0) // a Transport has no breaker before its first request
	w.b = w.tr.Breaker(key)
	w.compare()
}

// differ ends the walk, and says how to repeat it: as a file of FuzzBreaker's.
func (w *walk) differ(format string, args ...any) {
	w.Helper()
	brief := *w.m
	brief.outcomes, brief.changes, brief.places = nil, nil, nil
	w.Logf("after %v the model is %+v", w.now(), brief)
	w.Fatalf(format+"\nafter\ngo test fuzz v1\n[]byte(%q)", append(args, w.all[:len(w.all)-len(w.rest)])...)
}

// now is the model's time.
func (w *walk) now() time.Duration { return time.Since(w.m.start) }

// opened returns why the breaker has opened since the model knew.
func (w *walk) opened() string {
	if n := len(w.told); n > len(w.m.changes) && w.told[n-1].To == breaker.Open {
		return w.told[n-1].Reason
	}
	return ""
}

func (w *walk) step() {
	switch which := w.byte() % 31; which {
	case 0, 1:
		w.allow()
	case 2:
		for range w.byte() % 20 {
			w.allow()
		}
	case 3:
		w.settle(w.outstanding(), pick(w, verdicts), 0)
	case 4:
		w.settle(w.outstanding(), breaker.Success, 0)
	case 5:
		w.settle(w.outstanding(), breaker.Failure, 0)
	case 6:
		w.settle(w.any(), pick(w, verdicts), 0) // most likely once more
	case 7:
		w.settle(w.outstanding(), breaker.Failure, pick(w, waits))
	case 8:
		w.settle(w.outstanding(), pick(w, verdicts), pick(w, waits))
	case 9:
		w.row(1+w.byte()%40, 0, breaker.Success)
	case 10:
		w.row(1+w.byte()%10, pick(w, sleeps[:5]), breaker.Failure)
	case 11, 12:
		w.row(1+w.byte()%40, pick(w, sleeps[:7]), pick(w, verdicts))
	case 13:
		w.mixture(1+w.byte()%40, pick(w, sleeps[:5]), w.byte())
	case 14, 15:
		time.Sleep(pick(w, sleeps))
	case 16, 17, 18:
		w.sleepUntilItMatters()
	case 19:
		w.attempt(w.byte()%len(w.calls), pick(w, limits), w.byte())
	case 20:
		for range 1 + w.byte()%6 {
			w.attempt(w.byte()%len(w.calls), pick(w, limits), w.byte())
			w.compare()
			w.sleepUntilItMatters()
		}
	case 21:
		w.beginStream(w.byte() % len(w.calls))
	case 22:
		w.endStream("event")
	case 23:
		w.endStream([]string{"", "close", "break", "limit", "cancel"}[w.byte()%5])
	case 24:
		w.crowd(2+w.byte()%7, pick(w, verdicts))
	case 25, 26:
		w.letPlacesRunOut(1+w.byte()%8, (1+w.byte()%70)*pick(w, crowds))
	case 27, 28:
		w.streams(1+w.byte()%5, w.byte()%len(w.calls), w.byte())
	case 29:
		w.probeStream(w.byte())
	default:
		switch w.byte() % 12 {
		case 0:
			w.trip()
		case 1:
			time.Sleep(w.m.cfg.Window)
			w.trip()
		case 2:
			w.reset()
		case 3, 4, 5, 6:
			w.advise(pick(w, origins), pick(w, waits))
		case 7, 8:
			w.advise(pick(w, origins), pick(w, waits))
			time.Sleep(pick(w, sleeps))
			w.row(1, 0, pick(w, verdicts))
		case 9, 10, 11:
			time.Sleep(pick(w, sleeps[8:]))
			w.advise(origins[0], pick(w, waits[4:]))
			w.advise(origins[1], pick(w, waits[4:]))
		}
	}
}

// advise has somebody say that the breaker had better be open.
func (w *walk) advise(origin string, lasts time.Duration) {
	if w.fleet == nil {
		return
	}
	w.fleet.hear(breaker.Advice{Name: fleetName(key), Origin: origin, Until: time.Now().Add(lasts)})
	w.m.advise(w.now(), origin, w.now()+lasts, w.opened())
	w.compare()
}

func (w *walk) trip() {
	w.b.Trip()
	w.m.trip(w.now())
}

func (w *walk) reset() {
	w.b.Reset()
	w.m.reset(w.now())
}

func (w *walk) allow() *permit {
	p := &permit{real: new(breaker.Permit)}
	err := w.b.Allow(p.real)
	return w.admitted(p, err, 0)
}

// admitted compares the answers to a request. It returns nil if it was refused.
func (w *walk) admitted(p *permit, err error, callNumber int) *permit {
	w.Helper()
	ticket, wait := w.m.allow(w.now(), callNumber)
	if ticket != nil {
		if errors.Is(err, breaker.ErrOpen) {
			w.differ("refused with %#v, the model admits", err)
		}
		p.model = ticket
		ticket.stream = p.body != nil
		w.permits = append(w.permits, p)
		return p
	}
	var open *breaker.OpenError
	if !errors.As(err, &open) {
		w.differ("answered with %v, the model refuses for %v", err, wait)
	}
	if want := (breaker.OpenError{Key: key, RetryAfter: wait}); *open != want {
		w.differ("refused with %+v, the model with %+v", *open, want)
	}
	return nil
}

// outstanding picks a permit that is not settled, any one if there is none.
func (w *walk) outstanding() *permit {
	var open []*permit
	for _, p := range w.permits {
		if p.real != nil && !p.model.settled {
			open = append(open, p)
		}
	}
	if len(open) == 0 {
		return w.any()
	}
	return pick(w, open)
}

func (w *walk) any() *permit {
	if len(w.permits) == 0 {
		return nil
	}
	return pick(w, w.permits)
}

func (w *walk) settle(p *permit, o breaker.Outcome, retryAfter time.Duration) {
	if p == nil || p.real == nil {
		return
	}
	switch {
	case retryAfter != 0 || o == breaker.Undecided:
		p.real.Settle(o, retryAfter)
	case o == breaker.Success:
		p.real.Success()
	case o == breaker.Failure:
		p.real.Failure()
	default:
		p.real.Ignore()
	}
	w.m.settle(w.now(), p.model, ending{outcome: o, retryAfter: retryAfter}, w.opened())
}

// learnJitter lets the model know how much longer the breaker stays open, by
// chance: a quarter at most, and none without a fleet or after a Trip.
func (w *walk) learnJitter(now time.Duration, s breaker.Snapshot) {
	if w.fleet == nil || s.ProbeAt.IsZero() || w.told[len(w.told)-1].Reason == "tripped" {
		return
	}
	until := s.ProbeAt.Sub(w.m.start)
	if planned := w.m.openFor; w.m.since+planned == w.m.openUntil && until >= w.m.openUntil && until <= w.m.openUntil+planned/4 {
		w.m.openUntil = until
	}
}

// row makes requests one after the other, with the same outcome.
func (w *walk) row(n int, every time.Duration, o breaker.Outcome) {
	for range n {
		if p := w.allow(); p != nil {
			w.settle(p, o, 0)
		}
		w.compare()
		time.Sleep(every)
	}
}

// mixture makes requests one after the other, of which each bit of the pattern
// is one that fails.
func (w *walk) mixture(n int, every time.Duration, pattern int) {
	for i := range n {
		o := breaker.Success
		if pattern>>(i%8)&1 > 0 {
			o = breaker.Failure
		}
		w.row(1, every, o)
	}
}

// letPlacesRunOut makes probes that nobody hears of again.
func (w *walk) letPlacesRunOut(rounds, n int) {
	for range rounds {
		if w.m.shows(w.now()) != breaker.HalfOpen || len(w.permits) > 1000 {
			return
		}
		for range n {
			if w.allow() == nil {
				break
			}
		}
		w.compare()
		if len(w.m.places) > 0 {
			w.sleepUntil(w.m.firstDeadline())
			w.compare()
		}
	}
}

func (w *walk) sleepUntil(at time.Duration) { time.Sleep(at - w.now()) }

// sleepUntilItMatters sleeps until something ends, give or take a nanosecond.
func (w *walk) sleepUntilItMatters() {
	now, m := w.now(), w.m
	step := m.cfg.Window / steps
	moments := []time.Duration{
		m.openUntil, m.quietSince + m.cfg.Window, now.Truncate(step) + step, now.Truncate(recently/steps) + recently/steps,
	}
	for _, p := range m.places[:min(len(m.places), 3)] {
		moments = append(moments, p.deadline)
	}
	if n := len(m.row.counted); n > 0 {
		next := m.row.counted[n-1].at + m.spacing()
		moments = append(moments, next, next) // often: it is how rows get long
	}
	if len(m.outcomes) > 0 {
		moments = append(moments, m.outcomes[0].at.Truncate(step)+steps*step)
	}
	for _, origin := range origins {
		if until, advised := m.advised[origin]; advised {
			moments = append(moments, until)
		}
	}
	w.sleepUntil(pick(w, moments) + time.Duration(w.byte()%3) - 1)
}

// attempt makes one attempt of a call, which fails: by a time limit of ours, if
// that isn't 0, of which the error tells or the cause of the context's end.
func (w *walk) attempt(callNumber int, limit time.Duration, how int) {
	defer func() { w.err, w.cause = syscall.ECONNREFUSED, nil }()
	if limit > 0 {
		w.err = &fault.TimeLimitError{Limit: "retry: AttemptTimeout", After: limit}
		switch how % 3 {
		case 0:
			w.err = fmt.Errorf("wrapped: %w", w.err)
		case 1:
			w.err, w.cause = context.Canceled, w.err
		}
	}
	if p := w.roundTrip(callNumber); p != nil {
		w.m.settle(w.now(), p.model, ending{outcome: breaker.Failure, limit: limit}, w.opened())
	}
}

func (w *walk) beginStream(callNumber int) {
	w.body = new(puppet)
	w.m.slack = max(w.m.slack, 30) // streams' successes are counted apart
	w.roundTrip(callNumber)
	w.body = nil
}

func (w *walk) roundTrip(callNumber int) *permit {
	ctx := w.Context()
	if c := w.calls[callNumber]; c != nil {
		ctx = c
	}
	ctx, w.cancel = context.WithCancelCause(ctx)
	resp, err := w.tr.RoundTrip(request(ctx, http.MethodPost))
	return w.admitted(&permit{stream: resp, body: w.body, cancel: w.cancel}, err, callNumber)
}

// endStream brings one of the streams its first event, or its end.
func (w *walk) endStream(how string) {
	var open []*permit
	for _, p := range w.permits {
		if p.stream != nil {
			open = append(open, p)
		}
	}
	if len(open) == 0 {
		return
	}
	w.goOn(pick(w, open), how)
}

// streams makes streams that get their first event. Each of the pattern's low bits
// is one that ends well, too, after the others have begun; its high bits tell
// whether the rest break.
func (w *walk) streams(n, callNumber, pattern int) {
	first := len(w.permits)
	for range n {
		w.beginStream(callNumber)
	}
	begun := w.permits[first:]
	for _, p := range begun {
		w.goOn(p, "event")
		w.compare()
	}
	for i, p := range begun {
		switch {
		case pattern>>i&1 > 0:
			w.goOn(p, "")
		case pattern >= 128:
			time.Sleep(pick(w, sleeps[:7]))
			w.goOn(p, "break")
		}
		w.compare()
	}
}

// probeStream makes a stream that is a probe and breaks after its first event, in
// the state that has come meanwhile.
func (w *walk) probeStream(meanwhile int) {
	if w.m.shows(w.now()) != breaker.HalfOpen {
		return
	}
	first := len(w.permits)
	w.beginStream(0)
	if len(w.permits) == first {
		return
	}
	w.goOn(w.permits[first], "event")
	w.compare()
	switch meanwhile % 4 {
	case 0:
		w.reset()
	case 1:
		w.letPlacesRunOut(9, 70)
	case 2:
		w.row(3, 0, breaker.Success)
	}
	w.goOn(w.permits[first], []string{"", "break"}[meanwhile/4%2])
}

// goOn brings a stream its first event, or its end.
func (w *walk) goOn(p *permit, how string) {
	now, before := w.now(), p.model.settled
	fails := ending{outcome: breaker.Failure}
	*p.body = puppet{err: io.EOF}
	switch how {
	case "event":
		*p.body = puppet{data: event}
	case "close":
		_ = p.stream.Body.Close()
		w.giveUp(p)
		return
	case "break":
		p.body.err = syscall.ECONNRESET
	case "limit":
		fails.limit = pick(w, limits[1:])
		p.body.err = context.Canceled
		p.cancel(&fault.TimeLimitError{Limit: "openai: IdleTimeout", After: fails.limit})
	case "cancel":
		p.body.err = context.Canceled
		p.cancel(nil)
	}
	_, _ = p.stream.Body.Read(make([]byte, 100))
	switch {
	case how == "event":
		w.m.firstEvent(now, p.model)
	case how == "cancel":
		w.giveUp(p)
	case !before && how == "":
		w.m.settle(now, p.model, ending{outcome: breaker.Success}, "") // it may hold nothing
	case !before:
		w.m.settle(now, p.model, fails, w.opened())
	case how == "":
		w.m.streamEndsWell(p.model)
	default:
		w.m.streamBreaks(now, p.model, fails, w.opened())
	}
}

// giveUp is what a caller does that reads on no longer.
func (w *walk) giveUp(p *permit) {
	if !p.model.settled {
		w.m.settle(w.now(), p.model, ending{outcome: breaker.Ignored}, "")
	}
	w.m.streamEndsEarly(p.model)
}

// crowd makes requests at the same time; whose is whose makes no difference.
func (w *walk) crowd(n int, o breaker.Outcome) {
	if o == breaker.Failure && w.m.isUncertain(w.now()) {
		return // how many of them open it is not certain
	}
	w.m.slack = 40 // a reading of the clock may come before a success beside it
	permits, errs := make([]permit, n), make([]error, n)
	together(n, func(i int) {
		permits[i].real = new(breaker.Permit)
		errs[i] = w.b.Allow(permits[i].real)
	})
	var in []*permit
	for _, refused := range []bool{false, true} { // where places are few, those who got one came first
		for i := range permits {
			if (errs[i] != nil) != refused {
				continue
			}
			if p := w.admitted(&permits[i], errs[i], 0); p != nil {
				in = append(in, p)
			}
		}
	}
	together(len(in), func(i int) { in[i].real.Settle(o, 0) })
	for _, p := range in {
		w.m.settle(w.now(), p.model, ending{outcome: o}, w.opened())
	}
}

func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// compare fails the test where the breaker and its model differ.
func (w *walk) compare() {
	w.Helper()
	now := w.now()
	if !slices.EqualFunc(w.told, w.m.changes, sameChange) {
		latest := func(c []breaker.StateChange) []breaker.StateChange { return c[max(0, len(c)-3):] }
		w.differ("changes\n%+v\nof the model\n%+v", latest(w.told), latest(w.m.changes))
	}
	got := w.b.Snapshot()
	w.learnJitter(now, got)
	want := w.m.snapshot(now)
	if w.fleet != nil && !slices.Equal(w.fleet.published(w.m.start), w.m.published) {
		w.differ("published %v, the model %v", w.fleet.published(w.m.start), w.m.published)
	}
	if least, most := w.m.successes(now); int(got.Successes) >= least && int(got.Successes) <= most {
		want.Successes = got.Successes
	}
	if !sameTimes(got, want) {
		w.differ("%+v\nthe model\n%+v", got, want)
	}
	if state := w.b.State(); state != want.State {
		w.differ("state %v, snapshot %v", state, want.State)
	}
	for _, c := range w.calls[1:] {
		if c.Gate == nil {
			continue // no attempt of that call yet
		}
		if got, want := c.Gate.RefusesFor(), w.m.refusesFor(now); got != want {
			w.differ("refuses for %v, the model for %v", got, want)
		}
	}
	outstanding := uint64(0)
	for _, p := range w.permits {
		if !p.model.settled {
			outstanding++
		}
	}
	if all := got.Totals; all.Success+all.Failure+all.Ignored+all.Stale+outstanding != uint64(w.m.admitted) {
		w.differ("%d admitted, %d outstanding: %+v", w.m.admitted, outstanding, all)
	}
}

func sameChange(a, b breaker.StateChange) bool {
	same := a.At.Equal(b.At)
	a.At, b.At = time.Time{}, time.Time{}
	return same && a == b
}

func sameTimes(a, b breaker.Snapshot) bool {
	same := a.Since.Equal(b.Since) && a.ProbeAt.Equal(b.ProbeAt)
	for _, s := range []*breaker.Snapshot{&a, &b} {
		s.Since, s.ProbeAt = time.Time{}, time.Time{}
	}
	return same && a == b
}

// end lets time pass: whatever has happened, the breaker lets requests through.
func (w *walk) end() {
	time.Sleep(5 * time.Minute)
	w.compare()
	w.row(w.m.cfg.SuccessThreshold, 0, breaker.Success)
	wantState(w.T, w.b, breaker.Closed)
	for _, p := range w.permits {
		if p.stream != nil {
			_ = p.stream.Body.Close()
		}
	}
}
