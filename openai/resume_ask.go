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

// ask asks for what is still to come until there is a stream of it, and returns
// why there is none.
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

// request asks once. It returns an error if there is no response.
func (b *resumedBody) request() (*http.Response, error) {
	b.mu.Lock()
	if b.cancel == nil {
		b.ctx, b.cancel = context.WithCancel(&b.operation.call)
	}
	if b.closed {
		b.cancel()
	}
	b.mu.Unlock()
	o, e := b.operation, &b.events
	o.call.Resuming = true
	return b.transport.retry.RoundTrip(o.reader.resume.request(b.ctx, b.sent, o.request.Header, e.id, e.last))
}

// goOn reports whether a response is a stream, which it goes on with. Else it is
// closed.
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

// isFinal reports whether a response that is no stream says that there will be
// none.
func isFinal(response *http.Response) bool {
	switch code := response.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		return adviceOf(response.Header) == stopAdvised
	}
	return true
}

// waitAfter returns how long an error that refused a request asks to wait.
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

const maxResumeSpread = 10 * time.Second

// spread adds a random share to a wait that was asked for: others were asked, too.
func spread(wait time.Duration) time.Duration {
	return wait + rand.N(min(wait/4, maxResumeSpread)+1)
}

// mayWait reports whether a wait is neither too long nor past the end of the call.
func (b *resumedBody) mayWait(wait time.Duration) bool {
	longest := cmp.Or(b.transport.cfg.Retry.MaxRetryAfter, retry.DefaultMaxRetryAfter)
	deadline, ok := b.operation.call.Deadline()
	return wait <= max(longest+maxResumeSpread, longestResumeWait) && (!ok || time.Now().Add(wait).Before(deadline))
}

// sleep waits, unless the body is closed or the call ends.
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
