package openai_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.uber.org/goleak"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

var (
	soakFor     = flag.Duration("soak.for", 0, "how long TestSoak lasts; 0 = 8s, or 3s with -short")
	soakSeed    = flag.Uint64("soak.seed", 0, "what the calls and faults of TestSoak follow from; 0 = a random one")
	soakCallers = flag.Int("soak.callers", 128, "how many callers TestSoak has at the same time")
)

const (
	soakMaxReplay  = 128 << 10
	soakMaxElapsed = 3 * time.Second
	soakSlack      = 15 * time.Second // for a busy machine and the race detector
)

// TestSoak sends calls of all kinds through chains of all kinds to a provider
// that fails in all ways, over real connections. Whatever happens, each call
// ends in time, with the answer that was meant or with an error; nothing is
// left of it; and the books balance. The plan follows from the seed, the
// schedule does not.
func TestSoak(t *testing.T) {
	length, seed := *soakFor, *soakSeed
	switch {
	case length > 0:
	case testing.Short():
		length = 3 * time.Second
	default:
		length = 8 * time.Second
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	// Not by t.Log, which says nothing if the test hangs.
	fmt.Fprintf(os.Stderr, "go test ./openai -race -run '^TestSoak$' -soak.for=%v -soak.seed=%d\n", length, seed)

	before := goleak.IgnoreCurrent()
	t.Run("calls", func(t *testing.T) {
		s := newSoak(t, seed)
		// What the first half has cost once, such as the series of its metrics,
		// the second must not cost again.
		s.run(length / 2)
		s.settle()
		first := heapInUse()
		s.run(length - length/2)
		s.settle()
		second := heapInUse()
		for limit := time.Now().Add(soakSlack); second > first+first/2+4<<20 && time.Now().Before(limit); {
			second = heapInUse()
		}
		t.Logf("heap in use: %d bytes, then %d", first, second)
		if second > first+first/2+4<<20 {
			t.Error("the heap grew")
		}
		s.summarise()
	})
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func heapInUse() uint64 {
	forgetTimers()
	for range 3 {
		runtime.GC() // the pools are empty after the second one
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A soakScene is one chain of the soak.
type soakScene struct {
	http2    bool
	patient  bool // its own limits end nothing within the test
	attempts int
	config   openai.Config

	reader *sdk.ManualReader
	chain  *openai.Transport
	url    string

	calls     atomic.Int64 // RoundTrips of the chain
	tried     atomic.Int64 // of them those that made an attempt
	stopped   atomic.Int64 // of them those whose retryable failure was returned
	attempted atomic.Int64 // RoundTrips of the base
	streams   atomic.Int64 // of them those that were answered with a readable stream
}

func soakScenes() []soakScene {
	scenes := make([]soakScene, 8)
	for n := range scenes {
		s := &scenes[n]
		s.http2 = n%2 == 1
		s.attempts = 4
		s.config = openai.Config{
			Delivery:          openai.Delivery(n / 2 % 3),
			FirstEventTimeout: 500 * time.Millisecond,
			IdleTimeout:       500 * time.Millisecond,
			RetryStateful:     n%3 == 0,
			Logger:            slog.New(slog.DiscardHandler),
			Retry: retry.Config{
				MaxAttempts: s.attempts,
				Backoff: func() backoff.BackOff {
					return backoff.NewExponentialBackOff(backoff.WithInitialInterval(2*time.Millisecond), backoff.WithMaxInterval(20*time.Millisecond))
				},
				MaxRetryAfter:  1500 * time.Millisecond,
				MaxElapsed:     soakMaxElapsed,
				AttemptTimeout: 800 * time.Millisecond,
				MaxReplayBytes: soakMaxReplay,
				Budget:         retry.NewBudget(2000, 1000),
			},
			Breaker: breaker.Config{OpenDuration: 50 * time.Millisecond, ProbeTimeout: 500 * time.Millisecond, Window: 2 * time.Second},
		}
	}
	// What a timer that is left behind holds shows only if it doesn't expire.
	for _, s := range []*soakScene{&scenes[6], &scenes[7]} {
		s.patient = true
		s.config.FirstEventTimeout, s.config.IdleTimeout, s.config.Retry.AttemptTimeout = time.Hour, time.Hour, time.Hour
		s.config.Retry.Budget = retry.Unlimited
	}
	scenes[6].config.SDKRetries = openai.StopSDKRetriesAlways
	scenes[7].config.Delivery = openai.Whole
	scenes[7].config.DisableBreaker = true
	return scenes
}

type soak struct {
	*testing.T

	provider *soakProvider
	scenes   []soakScene
	seed     uint64
	next     atomic.Uint64 // the number of the next call
	problems atomic.Int32
	dials    atomic.Int64

	stop    context.CancelFunc // ends everything, once something hangs
	stopped context.Context

	bodies atomic.Int64 // opaque request bodies that were not closed yet
	pinned sync.Map     // the calls that something still refers to

	whole, ended, passed atomic.Int64 // answers taken for whole, other answers, errors
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{T: t, seed: seed, scenes: soakScenes()}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.provider = &soakProvider{scenes: s.scenes, problem: s.problem, plan: s.plan}
	startSoakProvider(t, s.provider)
	refusing, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refusing.Close()
	for n := range s.scenes {
		scene := &s.scenes[n]
		base := openai.BaseTransport()
		// For as long the timers of net/http hold on to a closed HTTP/2 connection.
		base.IdleConnTimeout, base.HTTP2.SendPingTimeout = 500*time.Millisecond, 500*time.Millisecond
		dial := base.DialContext
		base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if s.dials.Add(1)%13 == 0 {
				address = refusing.Addr().String()
			}
			return dial(ctx, network, address)
		}
		scene.url = s.provider.plain.URL
		if scene.http2 {
			scene.url = s.provider.secure.URL
			base.TLSClientConfig.RootCAs = s.provider.secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		}
		scene.reader = sdk.NewManualReader()
		scene.config.MeterProvider = sdk.NewMeterProvider(sdk.WithReader(scene.reader))
		scene.chain = openai.NewTransport(&soakBase{base, scene}, scene.config)
		t.Cleanup(func() { _ = scene.chain.Close() })
	}
	t.Cleanup(s.stop)
	return s
}

func (s *soak) plan(id uint64) *soakPlan { return newSoakPlan(s.seed, id, s.scenes) }

func (s *soak) problem(p *soakPlan, format string, args ...any) {
	if n := s.problems.Add(1); n <= 20 {
		s.Errorf("%s\n\t%v", fmt.Sprintf(format, args...), p)
	} else if n == 21 {
		s.stop()
	}
}

// A soakBase counts what comes out of a chain.
type soakBase struct {
	*http.Transport

	scene *soakScene
}

func (b *soakBase) RoundTrip(req *http.Request) (*http.Response, error) {
	b.scene.attempted.Add(1)
	resp, err := b.Transport.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusOK && resp.Header.Get("Content-Encoding") == "" && resp.Header.Get("Content-Type") == "text/event-stream" {
		b.scene.streams.Add(1)
	}
	return resp, err
}

// run makes calls for a while.
func (s *soak) run(length time.Duration) {
	over := time.Now().Add(length)
	var wait sync.WaitGroup
	for range *soakCallers {
		wait.Go(func() {
			for time.Now().Before(over) && s.stopped.Err() == nil {
				s.call(s.plan(s.next.Add(1)))
			}
		})
	}
	wait.Wait()
}

type markKey struct{}

// call uses one request, once or twice.
func (s *soak) call(p *soakPlan) {
	state := new(soakCall)
	s.provider.calls.Store(p.id, state)
	defer s.provider.calls.Delete(p.id)

	// Whatever holds on to the call holds the mark.
	mark := new([64]byte)
	s.pinned.Store(p.id, true)
	runtime.AddCleanup(mark, func(id uint64) { s.pinned.Delete(id) }, p.id)
	report := new(retry.Report)
	ctx := retry.WithReport(context.WithValue(s.stopped, markKey{}, mark), report)
	// Where the caller has no need to, he doesn't cancel: nothing may wait for that.
	cancel := context.CancelFunc(func() {})
	switch {
	case p.caller == hasClientTimeout:
	case p.limit > 0:
		ctx, cancel = context.WithTimeout(ctx, p.limit)
	case p.caller == cancels, p.caller == cancelsHalfWay, p.caller == cancelsAtOnce:
		ctx, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	if p.caller == cancelsAtOnce {
		cancel()
	}
	req, err := s.request(ctx, p)
	if err != nil {
		s.problem(p, "%v", err)
		return
	}
	s.use(p, state, req, report, cancel)
	if p.again && ctx.Err() == nil {
		s.refill(p, req)
		s.use(p, state, req, report, cancel)
	}
}

func (s *soak) request(ctx context.Context, p *soakPlan) (*http.Request, error) {
	url := s.scenes[p.scene].url + p.endpoint.path
	req, err := retry.NewRequest(ctx, p.endpoint.method, url, p.payload())
	if err != nil {
		return nil, err
	}
	if p.body != sharedBody {
		s.refill(p, req)
	}
	req.Header.Set("X-Soak-Id", strconv.FormatUint(p.id, 10))
	if p.endpoint.inspected {
		req.Header.Set("Content-Type", "application/json")
	}
	if p.gzip == zipped {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	if p.keyed {
		req.Header.Set("Idempotency-Key", "soak")
	}
	if p.sdkRetry {
		req.Header.Set("X-Stainless-Retry-Count", "1")
	}
	return req, nil
}

// refill gives a request its body, for the first time or again.
func (s *soak) refill(p *soakPlan, req *http.Request) {
	payload := p.payload()
	if payload == nil {
		return
	}
	length := int64(len(payload))
	switch p.body {
	case sharedBody:
		req.Body, _ = req.GetBody()
		return
	case knownBody:
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(payload)), length
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
		return
	case unsizedBody, failingBody:
		length = -1
	case lyingBody:
		length += 3
	default:
	}
	s.bodies.Add(1)
	req.Body, req.GetBody, req.ContentLength = &soakReader{soak: s, plan: p, rest: payload}, nil, length
}

var errSoakBody = errors.New("the caller's disk is gone")

// A soakReader is an opaque request body that must be closed once.
type soakReader struct {
	*soak

	plan   *soakPlan
	rest   []byte
	read   bool
	closed atomic.Int32
}

func (r *soakReader) Read(p []byte) (int, error) {
	if r.plan.body == slowBodySent {
		time.Sleep(time.Millisecond)
		p = p[:min(len(p), max(1, r.plan.size/4))]
	}
	if r.plan.body == failingBody && r.read {
		return 0, errSoakBody
	}
	r.read = true
	if r.plan.body == failingBody {
		p = p[:min(len(p), len(r.rest)/2)]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	if len(r.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (r *soakReader) Close() error {
	if n := r.closed.Add(1); n == 1 {
		r.bodies.Add(-1)
	} else {
		r.problem(r.plan, "the request's body was closed %d times", n)
	}
	return nil
}

// use makes one call and holds it against its plan.
func (s *soak) use(p *soakPlan, state *soakCall, req *http.Request, report *retry.Report, cancel context.CancelFunc) {
	scene := &s.scenes[p.scene]
	*report = retry.Report{}
	state.uses.Add(1)
	header, body := req.Header.Clone(), req.Body

	bound := soakMaxElapsed + soakSlack
	if p.limit > 0 {
		bound = p.limit + soakSlack
	}
	watch := time.AfterFunc(bound, func() {
		if s.stopped.Err() == nil {
			s.problem(p, "the call did not end within %v\n%s", bound, stacks())
		}
		s.stop()
	})
	defer watch.Stop()
	if p.caller == cancels {
		defer time.AfterFunc(p.after, cancel).Stop()
	}

	scene.calls.Add(1)
	client := &http.Client{Transport: scene.chain}
	if p.caller == hasClientTimeout {
		client.Timeout = p.limit
	}
	resp, err := client.Do(req)
	s.count(scene, report)
	if !maps.EqualFunc(header, req.Header, slices.Equal) || req.Body != body {
		s.problem(p, "the request was changed")
	}
	if err != nil {
		s.passed.Add(1)
		s.checkError(req.Context(), p, err)
		return
	}
	s.read(p, req, resp, report, cancel)
}

func (s *soak) count(scene *soakScene, report *retry.Report) {
	if report.Attempts > 0 {
		scene.tried.Add(1)
	}
	if report.Stopped != retry.NotRetryable {
		scene.stopped.Add(1)
	}
}

// checkError looks at an error, of a call or a body, that the caller did not
// bring about himself: how the chain ends its attempts is its own affair.
func (s *soak) checkError(ctx context.Context, p *soakPlan, err error) {
	if ctx.Err() == nil && p.caller != hasClientTimeout && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		s.problem(p, "a context's error that is not the caller's: %v", err)
	}
}

// read reads an answer in the caller's way, and holds it against the plan.
func (s *soak) read(p *soakPlan, req *http.Request, resp *http.Response, report *retry.Report, cancel context.CancelFunc) {
	attempt, err := strconv.Atoi(resp.Header.Get("X-Soak-Attempt"))
	if err != nil {
		// The chain's own, in place of a breaker's error.
		content, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if !bytes.Contains(content, []byte("Not sent")) || p.scene != 6 {
			s.problem(p, "an answer that the provider did not send: %d %s", resp.StatusCode, content)
		}
		return
	}
	want := p.sent(attempt)
	got, err := readAs(p, resp.Body, len(want), cancel)
	if err != nil {
		s.ended.Add(1)
		if p.caller != closesWhileRead {
			s.checkError(req.Context(), p, err)
		}
	}
	if p.fault(attempt).error == endlessError {
		got = bytes.TrimRight(got, " ")
	}
	if !bytes.HasPrefix(want, got) {
		s.problem(p, "attempt %d: %d bytes are not the %d that were sent", attempt, len(got), len(want))
		return
	}
	switch {
	case resp.StatusCode != http.StatusOK || p.caller == closesUnread || p.caller == closesHalfWay:
		return
	case err != nil:
		s.checkBroken(req.Context(), p, got, attempt, report)
		return
	}
	meant, _ := p.answer(attempt)
	if p.gzip == zipped {
		meant = compressed(meant)
	}
	if p.whole(got, attempt) {
		s.whole.Add(1)
		if !bytes.Equal(got, meant) {
			s.problem(p, "attempt %d: taken for whole with %d bytes of %d", attempt, len(got), len(meant))
		}
		return
	}
	s.ended.Add(1)
	if p.caller == readsExactly && req.Context().Err() != nil {
		return // before he was told how it ends
	}
	s.checkHalf(p, got, attempt, report)
}

// readAs reads a body. A nil error means that the caller was told its end, or
// closed it.
func readAs(p *soakPlan, body io.ReadCloser, length int, cancel context.CancelFunc) (got []byte, err error) {
	some := func(n int) error {
		part := make([]byte, n)
		n, err := io.ReadFull(body, part)
		got = append(got, part[:n]...)
		return err
	}
	all := func() error {
		rest, err := io.ReadAll(body)
		got = append(got, rest...)
		return err
	}
	half := int(p.part * float64(length))
	switch p.caller {
	case neverCloses:
		err = all()
		return got, err
	case closesUnread:
	case closesHalfWay:
		_ = some(half)
	case readsExactly:
		err = some(length)
	case readsBySmallSteps:
		err = some(0)
		for step := make([]byte, 97); err == nil; {
			var n int
			n, err = body.Read(step)
			got = append(got, step[:n]...)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
	case closesWhileRead:
		closed := make(chan struct{})
		timer := time.AfterFunc(p.after, func() {
			_ = body.Close()
			close(closed)
		})
		err = all()
		if !timer.Stop() {
			<-closed
		}
	case cancelsHalfWay:
		_ = some(half)
		cancel()
		err = all()
	default:
		err = all()
	}
	_ = body.Close()
	return got, err
}

// checkBroken looks at an answer whose reader got an error. Of what is held to
// its end none may be delivered, unless there was no other attempt to be had.
func (s *soak) checkBroken(ctx context.Context, p *soakPlan, got []byte, attempt int, report *retry.Report) {
	mode := s.scenes[p.scene].config.Delivery
	held := !p.opaque() && (p.stream && mode == openai.Whole || !p.stream && mode != openai.Immediate)
	own := ctx.Err() != nil || p.caller == closesWhileRead || p.caller == hasClientTimeout
	if held && !own && !finished(got) && report.Stopped == retry.NotRetryable {
		s.problem(p, "attempt %d: an answer that broke off after %d bytes was not retried", attempt, len(got))
	}
}

// finished reports whether there is enough of a stream for the chain to call it
// complete: what fails after that is the caller's to see.
func finished(got []byte) bool {
	return bytes.Contains(got, []byte(`"finish_reason":"stop"`)) || bytes.Contains(got, []byte("response.completed"))
}

// checkHalf looks at an answer that ended without an error, and is none.
func (s *soak) checkHalf(p *soakPlan, got []byte, attempt int, report *retry.Report) {
	mode := s.scenes[p.scene].config.Delivery
	switch {
	case !p.stream:
		if mode != openai.Immediate && report.Stopped == retry.NotRetryable {
			s.problem(p, "attempt %d: an answer of %d bytes that is none was not retried", attempt, len(got))
		}
		return
	case finished(got):
		return
	}
	_, ends := p.answer(attempt)
	broken := bytes.Contains(got, []byte(errorMark)) || bytes.Contains(got, []byte(corruptMark))
	if !broken && len(got) >= ends[0] {
		s.problem(p, "attempt %d: %d bytes of a stream were passed off as all of it", attempt, len(got))
	}
	useful := bytes.Contains(got, []byte(`"content":"`+strconv.FormatUint(p.id, 10))) || bytes.Contains(got, []byte(`"delta":"`+strconv.FormatUint(p.id, 10)))
	if (mode == openai.Whole || mode == openai.FromFirstEvent && !useful) && report.Stopped == retry.NotRetryable {
		s.problem(p, "attempt %d: %d bytes of a stream that came to nothing were not retried", attempt, len(got))
	}
}

// stacks returns those of the goroutines that are about the chain.
func stacks() string {
	all := make([]byte, 8<<20)
	all = all[:runtime.Stack(all, true)]
	var about []string
	for one := range strings.SplitSeq(string(all), "\n\n") {
		if strings.Contains(one, "/retry.") || strings.Contains(one, "/openai.") || strings.Contains(one, "held.") || strings.Contains(one, "net/http.") {
			about = append(about, one)
		}
	}
	return strings.Join(about, "\n\n")
}

// settle waits until nothing is left of the calls, and balances the books.
func (s *soak) settle() {
	s.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(soakSlack); ; <-poll.C {
		// A connection may become idle at any time until then.
		for n := range s.scenes {
			s.scenes[n].chain.CloseIdleConnections()
		}
		open, bodies := s.provider.open.Load(), s.bodies.Load()
		forgetTimers()
		runtime.GC() // and with it the cleanups of the marks
		var pinned []*soakPlan
		s.pinned.Range(func(id, _ any) bool {
			pinned = append(pinned, s.plan(id.(uint64)))
			return len(pinned) < 10
		})
		if open == 0 && bodies == 0 && pinned == nil {
			break
		}
		if time.Now().After(deadline) {
			s.Fatalf("left behind: %d connections, %d request bodies that were not closed, calls that something holds: %v\n%s", open, bodies, pinned, stacks())
		}
	}
	for n := range s.scenes {
		s.balance(n)
	}
}

// forgetTimers has the runtime drop the stopped timers that it still holds: each
// P does so once they are too large a share of its own.
func forgetTimers() {
	var wait sync.WaitGroup
	var began atomic.Int32
	procs := int32(runtime.GOMAXPROCS(0))
	for range procs {
		wait.Go(func() {
			for began.Add(1); began.Load() < procs; {
				continue // without leaving its P to another
			}
			for range 1000 {
				time.AfterFunc(time.Hour, func() {}).Stop()
			}
			runtime.Gosched()
		})
	}
	wait.Wait()
}

// balance holds the books of one chain against what came in and went out.
func (s *soak) balance(n int) {
	s.Helper()
	scene := &s.scenes[n]
	books := collect(s, scene.reader)
	attempts := float64(scene.attempted.Load())
	tried := float64(scene.tried.Load())
	equal := func(what string, got, want float64) {
		s.Helper()
		if got != want {
			s.Errorf("scene %d: %s: %v, want %v", n, what, got, want)
		}
	}
	equal("operations", float64(books.count(operationDuration)), float64(scene.calls.Load()))
	equal("attempts", float64(books.count(attemptDuration)), attempts)
	equal("calls that were tried", float64(books.count("retrip.retry.attempts")), tried)
	equal("attempts of all calls", books.sum("retrip.retry.attempts"), attempts)
	equal("calls that were tried + retries", tried+books.sum("retrip.retries"), attempts)
	equal("exhaustions", books.sum("retrip.retry.exhaustions"), float64(scene.stopped.Load()))
	equal("stream outcomes", books.sum("retrip.client.stream.outcomes"), float64(scene.streams.Load()))
	if waited, all := books.sum("retrip.retry.delay"), books.sum(operationDuration); waited > all {
		s.Errorf("scene %d: waited %v s in operations of %v s", n, waited, all)
	}
	if scene.config.DisableBreaker {
		return
	}
	var permits float64
	for _, outcome := range []string{"success", "failure", "ignored", "stale"} {
		permits += books.sum("retrip.breaker.calls", "retrip.breaker.outcome", outcome)
	}
	equal("permits settled", permits, attempts)
	var settled uint64
	for _, b := range scene.chain.Snapshot() {
		settled += b.Totals.Success + b.Totals.Failure + b.Totals.Ignored + b.Totals.Stale
		if b.Probes != 0 {
			s.Errorf("scene %d: %d probes of %s are still under way", n, b.Probes, b.Key)
		}
		equal("states of "+b.Key, books.sum("retrip.breaker.state", "retrip.breaker.name", b.Key), 1)
	}
	equal("permits settled, by the snapshot", float64(settled), attempts)
}

// summarise shows what the soak has seen, and that it was worth it.
func (s *soak) summarise() {
	var hits []string
	for kind := range s.provider.hits {
		n := s.provider.hits[kind].Load()
		hits = append(hits, strconv.FormatInt(n, 10))
		if n == 0 && s.next.Load() > 5000 {
			s.Errorf("fault %d never came", kind)
		}
	}
	whole, ended, passed := s.whole.Load(), s.ended.Load(), s.passed.Load()
	s.Logf("%d calls: %d answers taken for whole, %d not, %d errors; attempts by fault: %s; %d connections", s.next.Load(), whole, ended, passed, strings.Join(hits, " "), s.provider.accepted.Load())
	for n := range s.scenes {
		scene := &s.scenes[n]
		books := collect(s, scene.reader)
		s.Logf("scene %d: %d calls, %d attempts, retries %v, stopped %d, rejected %v, paused %v, transitions %v", n, scene.calls.Load(), scene.attempted.Load(),
			books.sum("retrip.retries"), scene.stopped.Load(), books.sum("retrip.breaker.calls", "retrip.breaker.outcome", "rejected"),
			books.sum("retrip.breaker.calls", "retrip.breaker.outcome", "paused"), books.sum("retrip.breaker.transitions"))
	}
	if whole < ended/4 || whole == 0 {
		s.Errorf("too few answers were whole to say much: %d beside %d others", whole, ended)
	}
}
