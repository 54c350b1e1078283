package openai

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/hint"
	"github.com/retrip-go/retrip/retry"
)

// ask sends requests until one brings a stream of what is still to come, and returns
// why there is none. It runs within Read, so no goroutine outlives a reader who has
// gone.
func (b *resumedBody) ask() error {
	for {
		wait, ok := b.schedule.next()
		if wait = max(wait, b.wait); !ok || !b.mayWait(wait) {
			return b.give(outcomeExhausted, "was resumed in vain")
		}
		if err := b.sleep(wait); err != nil {
			return err
		}
		response, err := b.request()
		switch {
		case b.ended() != nil:
			closeBody(response)
			return b.ended()
		case err != nil && b.isSilentAgain(err):
			return b.give(outcomeExhausted, "stayed silent")
		case err != nil:
			b.code, b.wait = 0, waitAfter(err)
		case b.goOn(response):
			return nil
		case isFinal(response):
			return b.give(outcomeRefused, "could not be resumed")
		}
	}
}

// request asks once. It returns an error if there is no response. The request passes
// breaker, pacing and retry as any other does, because a provider in trouble must
// not get more requests than these allow. Its context ends with the body, so that
// Close ends a request under way.
func (b *resumedBody) request() (*http.Response, error) {
	b.mu.Lock()
	if b.cancel == nil {
		b.ctx, b.cancel = context.WithCancel(&b.operation.call)
	}
	if b.closed {
		b.cancel() // Close came before there was anything to cancel
	}
	b.mu.Unlock()
	o, e := b.operation, &b.events
	o.call.Resuming = true
	return b.transport.retry.RoundTrip(o.reader.resume.request(b.ctx, b.sent, o.request.Header, e.id, e.last))
}

// goOn reports whether a response is a stream, and makes it the source. Any other
// response is closed. If Close has come meanwhile, it has closed the source before,
// so the new one is closed here.
func (b *resumedBody) goOn(response *http.Response) bool {
	b.code, b.wait = response.StatusCode, 0
	a, ok := b.operation.call.Answer.(*answer)
	if response.StatusCode != http.StatusOK || !ok || a.format == nil || a.isOpaque() {
		if wait, asked := hint.FromHeader(response.Header, time.Now()); asked {
			b.wait = spread(wait)
		}
		closeBody(response)
		return false
	}
	b.events.begin()
	b.known = false
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = b.summary()
	b.src, b.answer = response.Body, a
	if b.closed {
		closeBody(response)
	}
	return true
}

// isFinal reports whether a response that is no stream says that there will be none.
// The statuses that pass are those that a later request may find changed. A 404 or
// another 4xx means that the provider has no events for us any more.
func isFinal(response *http.Response) bool {
	switch code := response.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		return adviceOf(response.Header) == stopAdvised
	}
	return true
}

// waitAfter returns how long an error that refused a request asks to wait. The
// breaker and the pacer know when a request has a chance. For any other error the
// schedule's own wait is enough.
func waitAfter(err error) time.Duration {
	var open *breaker.OpenError
	var limited *LimitError
	switch {
	case errors.As(err, &open):
		return spread(open.RetryAfter)
	case errors.As(err, &limited):
		return limited.RetryAfter
	}
	return 0
}

// maxResumeSpread bounds the random share of a wait, so that a long wait is not
// stretched by minutes.
const maxResumeSpread = 10 * time.Second

// spread adds a random share to a wait that was asked for. Streams that broke off
// together were asked to come back together, and would be refused together.
func spread(wait time.Duration) time.Duration {
	return wait + rand.N(min(wait/4, maxResumeSpread)+1)
}

// mayWait reports whether a wait is neither too long nor past the deadline of the
// call. The bound leaves room for what spread adds, because the provider did not ask
// for that share.
func (b *resumedBody) mayWait(wait time.Duration) bool {
	longest := cmp.Or(b.transport.cfg.Retry.MaxRetryAfter, retry.DefaultMaxRetryAfter)
	deadline, ok := b.operation.call.Deadline()
	return wait <= max(longest+maxResumeSpread, longestResumeWait) && (!ok || time.Now().Add(wait).Before(deadline))
}

// sleep waits, unless the body is closed or the call ends, and returns the reason of
// that end. A Close must not wait for the timer.
func (b *resumedBody) sleep(wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.closing:
	case <-b.operation.call.Done():
	case <-b.operation.request.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
	}
	return b.ended()
}
