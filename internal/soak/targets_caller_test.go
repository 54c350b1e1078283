package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// call makes one call, and holds its end against its plan.
func (s *routedSoak) call(p *routedPlan) {
	s.under.Store(p.id, &routedState{plan: p})
	defer s.under.Delete(p.id)
	// Whatever holds on to the call's context holds the mark.
	type markKey struct{}
	mark := &struct{ plan *routedPlan }{p} // with a pointer, so that it is allocated on its own
	s.pinned.Store(p.id, true)
	runtime.AddCleanup(mark, func(id uint64) { s.pinned.Delete(id) }, p.id)

	report := new(retry.Report)
	ctx := openai.WithSession(retry.WithReport(context.WithValue(s.stopped, markKey{}, mark), report), p.session)
	if p.alone {
		ctx = openai.WithoutFailover(ctx)
	}
	if p.once {
		ctx = retry.WithMaxAttempts(ctx, 1)
	}
	cancel := context.CancelFunc(func() {})
	switch p.caller {
	case hasDeadline:
		ctx, cancel = context.WithTimeout(ctx, p.limit)
	case cancels, cancelsHalfWay, abandons:
		ctx, cancel = context.WithCancel(ctx)
	default:
	}
	defer cancel()
	if p.caller == cancels {
		defer time.AfterFunc(p.after, cancel).Stop()
	}
	req, err := s.request(ctx, p)
	if err != nil {
		s.problem(p, "%v", err)
		return
	}
	// A stream is resumed for as long as it makes progress.
	watch := time.AfterFunc(4*maxElapsed+slack, func() {
		s.problem(p, "the call did not end\n%s", stacks())
		s.stop()
	})
	defer watch.Stop()
	s.use(p, req, report, cancel)
}

func (s *routedSoak) request(ctx context.Context, p *routedPlan) (*http.Request, error) {
	url := s.sites[home].address.url() + p.api.path
	if p.api.kind == chatAPI {
		url += "?key=" + p.secret()
	}
	payload := p.payload(p.model)
	req, err := retry.NewRequest(ctx, p.api.method, url, payload)
	if err != nil {
		return nil, err
	}
	if payload != nil {
		s.fill(p, req, payload)
	}
	req.Header = keys(p.secret())
	req.Header.Set("X-Soak-Id", strconv.FormatUint(p.id, 10))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", "login="+p.secret())
	req.Header.Set("X-Internal-Token", p.secret())
	if p.api.kind == messagesAPI {
		req.Header.Set("Anthropic-Version", "2023-06-01")
	}
	if p.sdkRetry {
		req.Header.Set("X-Stainless-Retry-Count", "1")
	}
	return req, nil
}

// fill gives a request its body.
func (s *routedSoak) fill(p *routedPlan, req *http.Request, payload []byte) {
	open := func() io.ReadCloser {
		u := &routedUpload{Reader: bytes.NewReader(payload), soak: s}
		s.bodies.Store(u, fmt.Sprintf("%+v", p))
		return u
	}
	switch p.body {
	case sharedBody:
	case knownBody:
		req.Body = open()
		req.GetBody = func() (io.ReadCloser, error) {
			if isForNetHTTP() {
				return io.NopCloser(bytes.NewReader(payload)), nil
			}
			return open(), nil
		}
	case opaqueBody:
		req.Body, req.GetBody = open(), nil
	default:
		req.Body, req.GetBody, req.ContentLength = open(), nil, -1
	}
}

// isForNetHTTP reports whether net/http has called the function that calls it. It
// does not close every body that it asks for: http.Client opens one for a redirect
// that is refused then, and its HTTP/2 one for a connection that it does not get.
func isForNetHTTP() bool {
	pc, _, _, ok := runtime.Caller(2)
	return ok && strings.HasPrefix(runtime.FuncForPC(pc).Name(), "net/http.")
}

// A routedUpload must be closed once at least.
type routedUpload struct {
	*bytes.Reader

	soak *routedSoak
}

func (u *routedUpload) Close() error {
	u.soak.bodies.Delete(u)
	return nil
}

func (s *routedSoak) use(p *routedPlan, req *http.Request, report *retry.Report, cancel context.CancelFunc) {
	scene := &s.scenes[p.scene]
	header := req.Header.Clone()
	client := &http.Client{Transport: scene.chain, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if p.caller == hasClientTimeout {
		client.Timeout = p.limit
	}
	scene.calls.Add(1)
	resp, err := client.Do(req)
	s.count(scene, report)
	if !maps.EqualFunc(header, req.Header, slices.Equal) {
		s.problem(p, "the request was changed")
	}
	sheltered := p.isSheltered() && !p.well
	if sheltered {
		s.sheltered.Add(1)
		if wasSlow(report) {
			s.excused.Add(1)
			sheltered = false
		}
	}
	if err != nil {
		s.failed.Add(1)
		if sheltered {
			s.problem(p, "the call failed, though a target is well: %v; tried %+v", err, report.Tried)
		}
		s.checkError(req.Context(), p, err)
		return
	}
	if sheltered && resp.StatusCode != http.StatusOK {
		s.problem(p, "the call got a %d, though a target is well; tried %+v", resp.StatusCode, report.Tried)
	}
	s.read(p, req, resp, report, cancel, sheltered)
	// The body is at its end, or nobody will read it.
	scene.resumes.Add(int64(report.Resumes))
}

func (s *routedSoak) count(scene *routedScene, report *retry.Report) {
	if report.Attempts > 0 {
		scene.tried.Add(1)
	}
	if report.Stopped != retry.NotRetryable {
		scene.stopped.Add(1)
	}
	for n := range len(report.Tried) - 1 {
		if report.Tried[n].Target != report.Tried[n+1].Target {
			scene.moved.Add(1)
		}
	}
}

// checkError looks at an error that the caller did not bring about himself. The
// timeout of a dial looks like a deadline: it is the base's.
func (s *routedSoak) checkError(ctx context.Context, p *routedPlan, err error) {
	var dial *net.OpError
	if ctx.Err() != nil || p.caller == hasClientTimeout || errors.As(err, &dial) && dial.Op == "dial" {
		return
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		s.problem(p, "a context's error that is not the caller's: %v (%T)", err, err)
	}
}

// read reads an answer in the caller's way, and holds it against what the target
// that it came from meant.
func (s *routedSoak) read(p *routedPlan, req *http.Request, resp *http.Response, report *retry.Report, cancel context.CancelFunc, sheltered bool) {
	number, err := strconv.Atoi(resp.Header.Get("X-Soak-Site"))
	attempt, other := strconv.Atoi(resp.Header.Get("X-Soak-Attempt"))
	if err != nil || other != nil {
		s.problem(p, "an answer that no site sent: %d %v", resp.StatusCode, resp.Header)
		_ = resp.Body.Close()
		return
	}
	at := siteIndex(number)
	p.answeredBy.Store(int32(at) + 1)
	if at != home && resp.Header.Get("Set-Cookie") != "" {
		s.problem(p, "%s sets a cookie at the caller's", siteNames[at])
	}
	if at != home && resp.StatusCode/100 == 3 {
		s.problem(p, "a redirect of %s was handed up", siteNames[at])
	}
	meant, _ := p.answer(at, attempt)
	got, err := readAs(&plan{caller: p.caller, part: p.part, after: p.after}, resp.Body, len(meant), cancel)
	if p.caller == abandons {
		s.scenes[p.scene].abandoned.Add(1)
	}
	if resp.StatusCode != http.StatusOK {
		s.failed.Add(1)
		return
	}
	if err != nil {
		s.broken.Add(1)
		s.checkError(req.Context(), p, err)
		if sheltered && p.isHeld(s.scenes[p.scene].config.Delivery) && p.caller != closesHalfWay && !finished(got) {
			s.problem(p, "the answer broke off, though a target is well: %v; tried %+v", err, report.Tried)
		}
	}
	s.compare(p, got, err, at, meant)
	s.countResumed(p, report, err)
}

// compare holds the bytes of a 200 against what the target meant. A lie may be
// anything, as long as nobody takes it for an answer.
func (s *routedSoak) compare(p *routedPlan, got []byte, err error, at siteIndex, meant []byte) {
	if !bytes.HasPrefix(meant, got) && !p.isLie(got, meant) {
		s.problem(p, "%d bytes are not the %d that %s sent: %q", len(got), len(meant), siteNames[at], got)
	}
	ended := err == nil && p.readsToTheEnd()
	switch {
	case err == nil && bytes.Equal(got, meant):
		s.whole.Add(1)
	case ended && p.mustEndInError(&s.scenes[p.scene], got):
		s.problem(p, "%d bytes of %d of %s were passed off as all of it: %q", len(got), len(meant), siteNames[at], got)
	case ended:
		s.broken.Add(1)
	}
}

// readsToTheEnd reports whether a caller who got no error was told the end.
func (p *routedPlan) readsToTheEnd() bool {
	switch p.caller {
	case readsAll, readsBySmallSteps, hasDeadline, hasClientTimeout, cancels:
		return true
	default:
		return false
	}
}

// isLie reports whether the bytes are the beginning of what a site sends in the place
// of an answer.
func (p *routedPlan) isLie(got, meant []byte) bool {
	same := 0
	for same < len(got) && same < len(meant) && got[same] == meant[same] {
		same++
	}
	// What is corrupt begins as the answer does, and by chance goes on so for a while.
	for at := same; at >= max(0, same-len(corruptMark)); at-- {
		if bytes.HasPrefix([]byte(corruptMark), got[at:]) {
			return true
		}
	}
	return bytes.HasPrefix([]byte(pageOfAProxy), got) || bytes.HasPrefix(errorOf(p, "server_error"), got)
}

// mustEndInError reports whether nobody may be told that these bytes are all. A stream
// says itself that it has failed, or that it is complete but for what nobody needs.
func (p *routedPlan) mustEndInError(scene *routedScene, got []byte) bool {
	switch p.api.kind {
	case chatAPI, messagesAPI, embeddingsAPI, backgroundAPI:
	default:
		return false
	}
	says := p.stream && (bytes.Contains(got, []byte(errorMark)) || finished(got))
	return scene.config.InBandErrors != openai.PassThrough && !says
}

// countResumed counts what became of streams that were resumed.
func (s *routedSoak) countResumed(p *routedPlan, report *retry.Report, err error) {
	if p.api.kind != backgroundAPI || report.Resumes == 0 {
		return
	}
	var refused *openai.ResumeError
	switch {
	case errors.As(err, &refused):
		s.refused.Add(1)
	case err == nil && p.readsToTheEnd():
		s.resumed.Add(1)
	}
}
