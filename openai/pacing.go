package openai

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/internal/throttle"
	"github.com/retrip-go/retrip/retry"
)

// A Pacing says what a [Transport] does about the rate limit of an account once the
// provider has refused a call for it. The zero value is [AfterRefusal].
type Pacing int

const (
	// AfterRefusal is the default. It does nothing before the first 429. From then
	// on it lets the calls of the account go one after the other, at the rate that
	// the limit has shown to allow, until nobody has had to wait for a minute. An
	// account is the credential that a request carries, at one host and for one
	// model. A 503 without a hint counts as a refusal, too, as long as most calls get
	// one and yet some are let through: that is what proxies answer that limit a rate.
	//
	// Calls wait in the order in which they came, and those that were refused go
	// before new ones. A call fails at once with a [*LimitError] if the provider
	// asks for a longer wait than Config.Retry.MaxRetryAfter, or if its turn would
	// come after its deadline or after Config.Retry.MaxElapsed. An early error is
	// worth more to the caller than a late one.
	AfterRefusal Pacing = iota

	// Off leaves each call to itself. The retry layer waits as long as the 429 of
	// the call says, and knows nothing of other calls.
	Off
)

// String returns the name of p in the form of a metric's attribute.
func (p Pacing) String() string {
	switch p {
	case AfterRefusal:
		return "after_refusal"
	case Off:
		return "off"
	}
	return "invalid"
}

// A LimitError says that a request was not sent, because its account's rate limit is
// exhausted and the wait for it would be too long. Nothing reached the provider, so
// the call may be made again after RetryAfter.
type LimitError struct {
	// Key names the server and the model or deployment. It never holds a credential.
	Key string
	// RetryAfter is how long the call would have had to wait, counted from the time at
	// which the error was returned.
	RetryAfter time.Duration
}

// Error names the account and what to do.
func (e *LimitError) Error() string {
	return fmt.Sprintf("openai: the rate limit of %q is exhausted: come back in %s, or with fewer calls", e.Key, e.RetryAfter.Round(time.Millisecond))
}

// ErrorType returns the value of the error.type attribute, "rate_limited".
func (e *LimitError) ErrorType() string { return fault.RateLimited }

// Is says to the layers above that nothing was sent, so that the provider is not held
// to have failed.
func (e *LimitError) Is(target error) bool { return target == fault.ErrRejected }

// A PacingSnapshot is the state of an account whose rate limit is felt, at one
// moment: calls wait for it, or have waited within the last minute.
type PacingSnapshot struct {
	// Key is that of a [LimitError]. Accounts that differ in their credential alone
	// share it, because no credential is shown.
	Key string `json:"key"`
	// Target is the name of the target, "" without Config.Targets.
	Target string `json:"target,omitempty"`
	// Rate is how many calls may go in a second. It is 0 if only PausedUntil holds
	// them back.
	Rate float64 `json:"rate,omitempty"`
	// Waiting is how many calls wait.
	Waiting int `json:"waiting"`
	// PausedUntil is when the provider's last pause ends or ended. It is the zero
	// Time if there was none.
	PausedUntil time.Time `json:"paused_until"`
}

// A pacer is the layer that keeps to the rate limits of accounts. It only counts
// what an account sends until the provider has refused something, because a limit
// that nobody has felt is no reason to delay a call.
type pacer struct {
	base http.RoundTripper
	// The breaker is the layer below. It is asked whether it would refuse a call
	// anyway. It is nil if it is disabled.
	breaker  *breaker.Transport
	accounts accounts
	clock    call.Clock
	// start is the origin of all times in the throttles, which know no clock.
	start      time.Time
	maxWait    time.Duration
	maxElapsed time.Duration
	metrics    *pacingRecorder
}

// newPacer returns the layer above base. It takes the retry layer's limits, so that
// both agree on which wait is too long.
func newPacer(base http.RoundTripper, watched *breaker.Transport, cfg *Config) *pacer {
	p := &pacer{
		base: base, breaker: watched,
		maxWait: cfg.Retry.MaxRetryAfter, maxElapsed: cfg.Retry.MaxElapsed,
	}
	if p.maxWait == 0 {
		p.maxWait = retry.DefaultMaxRetryAfter
	}
	if p.maxElapsed == 0 {
		p.maxElapsed = retry.DefaultMaxElapsed
	}
	p.clock.Start()
	p.start = p.clock.Now()
	p.accounts.max, p.accounts.make = cfg.Breaker.MaxKeys, p.newAccount
	p.metrics = newPacingRecorder(cfg, p)
	return p
}

// A ticket is what the latest attempt of a call was let go with. The attempts of a
// call use it one after the other.
type ticket struct {
	// The account is nil if no attempt has asked yet.
	account *account
	sent    throttle.Sent
	// refusals counts those of the call's attempts. A call that was refused often
	// waits longer.
	refusals int
	// again is when the provider wants the next attempt.
	again time.Duration
}

// refused tells the account that the attempt was refused for its rate limit. A nil
// ticket belongs to no call, so nothing happens.
func (t *ticket) refused(r throttle.Refusal) {
	if t != nil && t.account != nil {
		r.Before = t.refusals
		t.refusals++
		t.again = t.account.refused(t.sent, r)
	}
}

// shed tells the account that the attempt was shed, and reports whether that was for
// its rate limit.
func (t *ticket) shed(r throttle.Refusal) bool {
	r.Before = t.refusals
	again, limited := t.account.shed(t.sent, r)
	if limited {
		t.refusals++
		t.again = again
	}
	return limited
}

// ticketOf returns the ticket of a call's latest attempt. If c is nil or no
// operation listens to it, the ticket is an empty one, so that no caller has to ask.
func ticketOf(c *call.Call) *ticket {
	if c != nil {
		if o, ok := c.Listener.(*operation); ok {
			return &o.ticket
		}
	}
	return new(ticket)
}

// isPaced reports whether the pacer waits for the rate limit of a call. The retry
// layer must not wait, too, or the call would wait twice.
func isPaced(c *call.Call) bool { return ticketOf(c).account != nil }

// RoundTrip sends a request when its account's rate limit allows it, or returns a
// [*LimitError]. A request without an operation passes unpaced, since nobody else
// could say what it costs.
func (p *pacer) RoundTrip(req *http.Request) (*http.Response, error) {
	c := call.From(req.Context())
	o, ok := c.Listener.(*operation)
	if !ok || req.URL == nil {
		return p.base.RoundTrip(req)
	}
	a := p.accounts.get(req, c)
	sent, err := p.admit(req, c, o, a)
	if err != nil {
		roundtrip.CloseBody(req)
		return nil, err
	}
	o.ticket.account, o.ticket.sent = a, sent
	response, err := p.send(req, a, sent)
	o.ticket.learn(c, response, err)
	return response, err
}

// send sends a request that was let go. It is under way until then, also if the base
// panics: calls after it would take it for one beside them for ever.
func (p *pacer) send(req *http.Request, a *account, sent throttle.Sent) (*http.Response, error) {
	defer a.returned(sent)
	return p.base.RoundTrip(req)
}

// admit waits until the request may go and returns what it was let go with.
//
// Its cost estimates the tokens of the call before they are known: the bytes of the
// payload stand for its input, and four bytes for each token of output that it may
// ask for.
func (p *pacer) admit(req *http.Request, c *call.Call, o *operation, a *account) (throttle.Sent, error) {
	cost := max(req.ContentLength, 0) + 4*c.MaxTokens
	if !a.active.Load() {
		at := c.Start.Sub(p.start) // reading a clock would cost as much as all else here
		if o.ticket.account != nil {
			at = p.now()
		}
		return a.count(at, cost), nil
	}
	// The breaker will refuse it, so a place in the queue would only delay that
	// answer.
	if p.breaker != nil && p.breaker.RefusesFor(req) > 0 {
		return throttle.Sent{}, nil
	}
	w := &throttle.Waiter{
		Cost: cost, Retry: o.ticket.account != nil, Latest: p.latest(c, call.AttemptFrom(req.Context())),
		Ready: make(chan struct{}),
	}
	// The time was set by the account that refused the call. Another target has
	// asked for nothing.
	if o.ticket.account == a {
		w.NotBefore = o.ticket.again
	}
	return a.wait(req, c, w)
}

// latest returns the time after which an attempt is of no use. Zero means never. The
// call's deadline and MaxElapsed end its use. So does a short wait if another target
// stands ready, because that target answers sooner.
func (p *pacer) latest(c *call.Call, attempt *call.Attempt) (latest time.Duration) {
	if p.maxElapsed > 0 {
		latest = c.Start.Sub(p.start) + p.maxElapsed
	}
	if deadline, ok := c.Deadline(); ok {
		if d := deadline.Sub(p.start); latest == 0 || d < latest {
			latest = max(d, 1)
		}
	}
	if attempt != nil && attempt.HasStandIn {
		// A gate opens up to a tenth late, so that callers don't return together.
		if d := p.now() + longestHold + longestHold/8; latest == 0 || d < latest {
			latest = d
		}
	}
	return latest
}

func (p *pacer) now() time.Duration { return p.clock.Now().Sub(p.start) }

// learn tells the account what came of an attempt that was let go. An answer that is
// no error shows that the limit admits calls again. Other failures say nothing about
// the limit.
func (t *ticket) learn(c *call.Call, response *http.Response, err error) {
	if err != nil || response == nil {
		if fault.IsRejection(err) {
			t.account.unsent(t.sent)
		}
		return
	}
	switch e, failed := c.Answer.(*errorAnswer); {
	case failed && e.response == response:
		t.failed(e)
	case response.StatusCode < http.StatusBadRequest:
		t.account.answered(t.sent)
		// The provider says that its window is used up, so waiting is cheaper than
		// the 429 that would follow.
		if wait, ok := windowOf(response.Header); ok {
			t.account.pause(wait)
		}
	}
}

// failed tells the account what an error status says of its limit. A proxy that sheds
// calls answers 503, as nginx's limit_req does unless it is told otherwise, and says no
// more: whether that is for the rate, the account alone can see. If it is, the retry
// layer leaves the wait to the pacer. To the breaker it remains a failure, which ends
// when the rate does it good and opens the breaker when it does not.
func (t *ticket) failed(e *errorAnswer) {
	v := e.verdict()
	r := refusalOf(e.response.Header, v, time.Now())
	switch {
	case v.limited:
		t.refused(r)
	case e.response.StatusCode == http.StatusServiceUnavailable && !r.Known:
		e.worth.limited = t.shed(r)
	}
}

// interrupted waits for ready, and reports whether the call ended before, by its
// context or by Request.Cancel.
func interrupted(ctx context.Context, req *http.Request, ready <-chan struct{}) bool {
	select {
	case <-ready:
		return false
	case <-ctx.Done():
	case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
	}
	return true
}

// snapshot returns the accounts whose limit is felt, ordered by key, so that two
// snapshots can be compared.
func (p *pacer) snapshot() []PacingSnapshot {
	list := []PacingSnapshot{}
	for _, a := range p.accounts.list() {
		if s, ok := a.snapshot(); ok {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b PacingSnapshot) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// CloseIdleConnections closes those of the base, if it has any.
func (p *pacer) CloseIdleConnections() { roundtrip.CloseIdleConnections(p.base) }
