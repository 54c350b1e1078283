package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A mark is in the context of a call: whatever holds on to the call holds it.
type mark struct {
	plan      *plan
	notBefore time.Time // no attempt before it; of the call's goroutine
}

type markKey struct{}

func markOf(ctx context.Context) *mark { return ctx.Value(markKey{}).(*mark) }

// call uses one request, once or twice.
func (s *soak) call(p *plan) {
	state := &callState{plan: p}
	s.provider.calls.Store(p.id, state)
	defer s.provider.calls.Delete(p.id)

	mark := &mark{plan: p}
	s.pinned.Store(p.id, true)
	runtime.AddCleanup(mark, func(id uint64) { s.pinned.Delete(id) }, p.id)
	report := new(retry.Report)
	ctx := retry.WithReport(context.WithValue(s.stopped, markKey{}, mark), report)
	// Where the caller has no need to, he doesn't cancel: nothing may wait for that.
	cancel := context.CancelFunc(func() {})
	switch {
	case p.caller == hasClientTimeout:
	case p.limit > 0 && !p.abrupt:
		ctx, cancel = context.WithTimeout(ctx, p.limit)
	case p.abrupt, p.caller == cancels, p.caller == cancelsHalfWay, p.caller == cancelsAtOnce, p.caller == abandons:
		ctx, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	if p.abrupt {
		defer time.AfterFunc(p.limit, cancel).Stop()
	}
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

func (s *soak) request(ctx context.Context, p *plan) (*http.Request, error) {
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
func (s *soak) refill(p *plan, req *http.Request) {
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
	req.Body, req.GetBody, req.ContentLength = &upload{soak: s, plan: p, rest: payload}, nil, length
}

var errBody = errors.New("the caller's disk is gone")

// An upload is an opaque request body that must be closed once.
type upload struct {
	*soak

	plan   *plan
	rest   []byte
	read   bool
	closed atomic.Int32
}

func (r *upload) Read(p []byte) (int, error) {
	if r.plan.body == slowBodySent {
		time.Sleep(time.Millisecond)
		p = p[:min(len(p), max(1, r.plan.size/4))]
	}
	if r.plan.body == failingBody && r.read {
		return 0, errBody
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

func (r *upload) Close() error {
	if n := r.closed.Add(1); n == 1 {
		r.bodies.Add(-1)
	} else {
		r.problem(r.plan, "the request's body was closed %d times", n)
	}
	return nil
}

// use makes one call and holds it against its plan.
func (s *soak) use(p *plan, state *callState, req *http.Request, report *retry.Report, cancel context.CancelFunc) {
	scene := &s.scenes[p.scene]
	*report = retry.Report{}
	markOf(req.Context()).notBefore = time.Time{}
	state.uses.Add(1)
	header, body := req.Header.Clone(), req.Body

	bound := maxElapsed + slack
	if p.limit > 0 {
		bound = p.limit + slack
	}
	watch := time.AfterFunc(bound, func() {
		if s.stopped.Err() == nil {
			s.problem(p, "the call did not end within %v\n%s", bound, stacks())
			// Nothing is told of a test that hangs.
			fmt.Fprintf(os.Stderr, "the call did not end within %v: %v\n", bound, p)
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
	s.count(scene, p, report)
	if !maps.EqualFunc(header, req.Header, slices.Equal) || req.Body != body {
		s.problem(p, "the request was changed")
	}
	if err != nil {
		n, _ := s.errors.LoadOrStore(fault.Type(err), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		s.checkError(req.Context(), p, err)
		return
	}
	s.read(p, req, resp, report, cancel)
}

// longPause is the longest pause that a 429 asks for: more than most chains wait.
const (
	longPause     = 20 * time.Second
	longPauseHint = "20"
)

// attemptOf returns which attempt a response answers; 0 if the provider did
// not send it.
func attemptOf(resp *http.Response) int {
	attempt, _ := strconv.Atoi(resp.Header.Get("X-Soak-Attempt"))
	return attempt
}

func (s *soak) count(scene *scene, p *plan, report *retry.Report) {
	most := scene.attempts
	if p.sdkRetry {
		most = 1
	}
	if report.Attempts > most {
		s.problem(p, "%d attempts", report.Attempts)
	}
	scene.budget(p.model).count(report)
	if report.Attempts > 0 {
		scene.tried.Add(1)
	}
	if report.Stopped != retry.NotRetryable {
		scene.stopped.Add(1)
	}
}

// checkError looks at an error, of a call or a body, that the caller did not
// bring about himself: how the chain ends its attempts is its own affair.
func (s *soak) checkError(ctx context.Context, p *plan, err error) {
	if ctx.Err() == nil && p.caller != hasClientTimeout && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		s.problem(p, "a context's error that is not the caller's: %v (%T, cause %v)", err, err, context.Cause(ctx))
	}
}

// read reads an answer in the caller's way, and holds it against the plan.
func (s *soak) read(p *plan, req *http.Request, resp *http.Response, report *retry.Report, cancel context.CancelFunc) {
	attempt := attemptOf(resp)
	if attempt == 0 {
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
	if p.caller == abandons {
		s.scenes[p.scene].abandoned.Add(1)
	}
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
	if resp.StatusCode != http.StatusOK && err == nil && p.readsToTheEnd() && len(got) != len(want) && p.fault(attempt).error != endlessError {
		s.problem(p, "attempt %d: %d bytes of an error's %d were passed off as all of it", attempt, len(got), len(want))
	}
	switch {
	case resp.StatusCode != http.StatusOK || p.caller == closesUnread || p.caller == closesHalfWay || p.caller == abandons:
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
		// A Close beside the last Read may end the operation before it.
		if !p.opaque() && (!p.stream || p.endpoint.stateful) && p.caller != closesWhileRead {
			s.scenes[p.scene].used.Add(1)
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
func readAs(p *plan, body io.ReadCloser, length int, cancel context.CancelFunc) (got []byte, err error) {
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
	case abandons:
		_ = some(half)
		cancel()
		return got, nil
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

// readsToTheEnd reports whether the caller was told the end of a body that he
// got no error of.
func (p *plan) readsToTheEnd() bool {
	switch p.caller {
	case readsExactly, closesUnread, closesHalfWay, closesWhileRead, abandons:
		return false
	default:
		return true
	}
}

// checkBroken looks at an answer whose reader got an error. Of what is held to
// its end none may be delivered, unless there was no other attempt to be had.
func (s *soak) checkBroken(ctx context.Context, p *plan, got []byte, attempt int, report *retry.Report) {
	scene := &s.scenes[p.scene]
	held := p.held(scene) && (!p.stream || scene.config.Delivery == openai.Whole)
	own := ctx.Err() != nil || p.caller == closesWhileRead || p.caller == hasClientTimeout
	if held && !own && !finished(got) && passedUp(report) {
		s.problem(p, "attempt %d: an answer that broke off after %d bytes was not retried: %v", attempt, len(got), report.Err)
	}
}

// passedUp reports whether a call ended without another attempt, though the chain
// knew nothing that speaks against one. It is asked of what the chain knew, since
// not every caller reads as far as an error. FirstEventTimeout, which a busy
// machine may run into with any answer, is not repeated.
func passedUp(report *retry.Report) bool {
	var limit *fault.TimeLimitError
	return report.Stopped == retry.NotRetryable && !errors.As(report.Err, &limit)
}

// finished reports whether there is enough of a stream for the chain to call it
// complete: what fails after that is the caller's to see.
func finished(got []byte) bool {
	for _, end := range []string{`"finish_reason":"stop"`, "response.completed", `{"type":"message_stop"}`} {
		if bytes.Contains(got, []byte(end)) {
			return true
		}
	}
	return false
}

// checkHalf looks at an answer that ended without an error, and is none.
func (s *soak) checkHalf(p *plan, got []byte, attempt int, report *retry.Report) {
	scene := &s.scenes[p.scene]
	mode := scene.config.Delivery
	switch {
	case !p.stream:
		if p.held(scene) && passedUp(report) {
			s.problem(p, "attempt %d: an answer of %d bytes that is none was not retried: %v", attempt, len(got), report.Err)
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
	if p.held(scene) && (mode == openai.Whole || !useful) && passedUp(report) {
		s.problem(p, "attempt %d: %d bytes of a stream that came to nothing were not retried: %v", attempt, len(got), report.Err)
	}
}

// stacks returns those of the goroutines that are about the chain.
func stacks() string {
	all := make([]byte, 8<<20)
	all = all[:runtime.Stack(all, true)]
	var about []string
	for one := range strings.SplitSeq(string(all), "\n\n") {
		if strings.Contains(one, "/retry.") || strings.Contains(one, "/openai.") || strings.Contains(one, "prefetch.") || strings.Contains(one, "net/http.") {
			about = append(about, one)
		}
	}
	return strings.Join(about, "\n\n")
}
