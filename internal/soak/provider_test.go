package soak

import (
	"bytes"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A provider answers each attempt as its plan has it, and holds what it
// receives against what the plan sends. It serves HTTP/1.1 and HTTP/2.
type provider struct {
	host

	scenes []scene

	plain, secure *address
	roots         *x509.CertPool
	calls         sync.Map // by id, those under way: *callState
	hits          [failureKinds]atomic.Int64
}

// A callState is what the provider remembers of a call, as long as that is
// under way.
type callState struct {
	plan     *plan
	uses     atomic.Int32 // of the request
	attempts atomic.Int32
}

type connKey struct{}

// An answer is on its way to the chain.
type answer struct {
	http.ResponseWriter

	*provider

	plan    *plan
	attempt int
	fault   failure
	request *http.Request
}

func (v *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.Header.Get("X-Soak-Id"), 10, 64)
	if err != nil {
		v.problem(nil, "a request without its id: %v", r.Header)
		return
	}
	call, ok := v.calls.Load(id)
	if !ok {
		return // its caller has gone, while it was on its way
	}
	p := call.(*callState).plan
	attempt := v.arrive(p, call.(*callState))
	a := &answer{w, v, p, attempt, p.fault(attempt), r}
	v.hits[a.fault.kind].Add(1)
	w.Header().Set("X-Soak-Attempt", strconv.Itoa(attempt))
	if p.goAway {
		w.Header().Set("Connection", "close") // on HTTP/2 a GOAWAY
	}
	switch a.fault.kind {
	case faultEarlyStatus:
		a.fail()
		return
	case faultEarlyKill:
		a.kill()
	default:
	}
	if !v.receive(p, r) {
		a.abort()
	}
	a.send()
}

// arrive counts an attempt, and says whether it was allowed to be made.
func (v *provider) arrive(p *plan, call *callState) int {
	attempt, uses := int(call.attempts.Add(1)), int(call.uses.Load())
	scene := &v.scenes[p.scene]
	stored := attempt - 1
	if scene.config.RetryStateful {
		stored = 0
		for n := 1; n < attempt; n++ {
			if !p.fault(n).refuses() {
				stored++
			}
		}
	}
	switch {
	case p.replayed():
	case p.once(scene) && attempt > uses:
		v.problem(p, "attempt %d of a request that can be sent once only, and was used %d times", attempt, uses)
	case p.endpoint.stateful && (!p.stateless || !p.endpoint.inspected) && stored >= uses:
		v.problem(p, "attempt %d of a stateful request that was used %d times", attempt, uses)
	}
	return attempt
}

// receive reports whether the payload came; what came must be what was sent.
func (v *provider) receive(p *plan, r *http.Request) bool {
	got, err := io.ReadAll(r.Body)
	want := p.payload()
	switch {
	case err != nil && !bytes.HasPrefix(want, got):
		v.problem(p, "the beginning of the payload is wrong: %d bytes", len(got))
	case err == nil && !bytes.Equal(want, got):
		v.problem(p, "the payload is wrong: %d bytes, not %d", len(got), len(want))
	}
	return err == nil
}

func (a *answer) send() {
	switch a.fault.kind {
	case faultStatus:
		a.fail()
		return
	case faultKill:
		a.kill()
	case faultAbort:
		a.abort()
	case faultSilence:
		a.stall()
	default:
	}
	p := a.plan
	content := p.sent(a.attempt)
	h := a.Header()
	switch {
	case p.stream:
		h.Set("Content-Type", "text/event-stream")
	case p.endpoint.opaque && p.endpoint.inspected:
		h.Set("Content-Type", "audio/mpeg")
	default:
		h.Set("Content-Type", "application/json")
	}
	if p.gzip != notZipped {
		h.Set("Content-Encoding", "gzip")
	}
	if p.gzip == unzipped {
		content = compressed(content)
	}
	n, length := len(content), len(content)
	switch a.fault.kind {
	case faultStall:
		// Never all of it: the client would send its next request behind, where
		// net/http no longer sees a connection's end.
		n = int(a.fault.at * float64(n-1))
	case faultCut, faultReset:
		n = int(a.fault.at * float64(n))
	case faultEnd:
		n = int(a.fault.at * float64(n))
		length = n
	default:
	}
	switch p.framing {
	case byLength:
		h.Set("Content-Length", strconv.Itoa(length))
	case byClose:
		h.Set("Transfer-Encoding", "identity")
	default:
	}
	a.write(content[:n], p.stream || n < length || p.slow > 0 || a.fault.kind != noFault)
	switch a.fault.kind {
	case faultCut:
		a.abort()
	case faultReset:
		a.kill()
	case faultStall:
		a.stall()
	default:
	}
}

// write sends the bytes in some pieces, which have nothing to do with events.
func (a *answer) write(content []byte, flush bool) {
	a.WriteHeader(http.StatusOK)
	pieces := 1 + int(a.plan.id%5)
	for n := range pieces {
		piece := content[len(content)*n/pieces : len(content)*(n+1)/pieces]
		if a.plan.slow > 0 {
			a.pause(a.plan.slow)
		}
		if _, err := a.Write(piece); err != nil {
			a.abort()
		}
		if flush {
			a.flush()
		}
	}
}

// fail answers with an error status.
func (a *answer) fail() {
	f := a.fault
	content := f.errorContent(a.plan.id, a.attempt)
	h := a.Header()
	h.Set("Content-Type", "application/json")
	if f.header[0] != "" {
		h.Set(f.header[0], f.header[1])
	}
	if f.header[0] == "X-Ratelimit-Reset-Requests" {
		h.Set("X-Ratelimit-Remaining-Requests", "0")
	}
	if f.error != stalledError && f.error != slowError && f.error != endlessError {
		if a.plan.framing == byLength {
			h.Set("Content-Length", strconv.Itoa(len(content)))
		}
		a.WriteHeader(f.status)
		_, _ = a.Write(content)
		return
	}
	a.WriteHeader(f.status)
	_, _ = a.Write(content[:len(content)/2])
	a.flush()
	switch f.error {
	case stalledError:
		a.stall()
	case slowError:
		a.pause(400 * time.Millisecond)
		_, _ = a.Write(content[len(content)/2:])
		return
	default:
	}
	for blank := bytes.Repeat([]byte(" "), 4<<10); ; {
		a.pause(time.Millisecond)
		if _, err := a.Write(blank); err != nil {
			a.abort()
		}
		a.flush()
	}
}

func (a *answer) flush() {
	if http.NewResponseController(a.ResponseWriter).Flush() != nil {
		a.abort()
	}
}

// abort ends the handler, and the connection or the HTTP/2 stream.
func (a *answer) abort() { panic(http.ErrAbortHandler) }

func (a *answer) kill() {
	reset(a.request.Context().Value(connKey{}).(net.Conn))
	a.abort()
}

// stall waits for the client to go away.
func (a *answer) stall() {
	select {
	case <-a.request.Context().Done():
	case <-a.done:
	}
	a.abort()
}

func (a *answer) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.request.Context().Done():
		a.abort()
	case <-a.done:
		a.abort()
	}
}
