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

// A Pacing says what is done about the rate limit of an account once the
// provider has refused a call for it.
type Pacing int

const (
	// AfterRefusal is the default. It lets the calls of an account go one after the
	// other, at the rate that its limit has shown to allow, from the first 429 on
	// until nobody has had to wait for a minute. An account is the credential
	// that a request carries, at one host and for one model. Calls wait in the
	// order in which they came, those that were refused before the others. One
	// that would have to wait for longer than Config.Retry.MaxRetryAfter for
	// what the provider asked for, or beyond its deadline or
	// Config.Retry.MaxElapsed, fails at once with a *LimitError.
	AfterRefusal Pacing = iota

	// Off leaves each call to itself: the retry layer waits as the 429 that it
	// got says.
	Off
)

// String returns the name of p.
func (p Pacing) String() string {
	switch p {
	case AfterRefusal:
		return "after_refusal"
	case Off:
		return "off"
	}
	return "invalid"
}

// A LimitError says that a request was not sent because its account's rate
// limit is exhausted, and that to wait for it would take too long.
type LimitError struct {
	Key        string        // the server and the model or deployment; never a credential
	RetryAfter time.Duration // when to come back
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("openai: the rate limit of %q is exhausted: come back in %s, or with fewer calls", e.Key, e.RetryAfter.Round(time.Millisecond))
}

// ErrorType returns the value of the error.type attribute, "rate_limited".
func (e *LimitError) ErrorType() string { return fault.RateLimited }

// Is says to the layers above that nothing was sent.
func (e *LimitError) Is(target error) bool { return target == fault.ErrRejected }

// A PacingSnapshot is an account whose rate limit is felt, at one moment.
type PacingSnapshot struct {
	Key         string    `json:"key"`              // as in a LimitError; accounts that differ in their credential share it
	Target      string    `json:"target,omitempty"` // its name; "" if there is only one place
	Rate        float64   `json:"rate,omitempty"`   // calls a second that may go; 0 if only PausedUntil holds them back
	Waiting     int       `json:"waiting"`          // calls
	PausedUntil time.Time `json:"paused_until"`     // when the time ends for which the provider wanted nothing, or ended; zero for never
}

// A pacer is the layer that keeps to the rate limits of accounts. As long as an
// account had none, it counts what is sent, and no more.
type pacer struct {
	base       http.RoundTripper
	breaker    *breaker.Transport // below; nil if there is none
	accounts   accounts
	clock      call.Clock
	start      time.Time // what the throttles count from
	maxWait    time.Duration
	maxElapsed time.Duration
	metrics    *pacingRecorder
}

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

// A ticket is what the latest attempt of a call was let go with.
type ticket struct {
	account  *account // nil: it was not asked about
	sent     throttle.Sent
	refusals int           // of the call's attempts
	again    time.Duration // when the provider wants the next one
}

// refused says that the attempt was refused for a rate limit. A nil ticket is
// nobody's.
func (t *ticket) refused(r throttle.Refusal) {
	if t != nil && t.account != nil {
		r.Before = t.refusals
		t.refusals++
		t.again = t.account.refused(t.sent, r)
	}
}

// ticketOf returns that of a call's latest attempt; c may be nil.
func ticketOf(c *call.Call) *ticket {
	if c != nil {
		if o, ok := c.Listener.(*operation); ok {
			return &o.ticket
		}
	}
	return new(ticket)
}

// isPaced reports whether somebody else than the retry layer waits for the rate
// limit of a call.
func isPaced(c *call.Call) bool { return ticketOf(c).account != nil }

// RoundTrip sends a request when its account's rate limit allows it, or returns a
// *LimitError.
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
	response, err := p.base.RoundTrip(req)
	a.returned(sent)
	o.ticket.learn(c, response, err)
	return response, err
}

// admit returns what the request is let go with, as soon as it may.
func (p *pacer) admit(req *http.Request, c *call.Call, o *operation, a *account) (throttle.Sent, error) {
	cost := max(req.ContentLength, 0) + 4*c.MaxTokens
	if !a.active.Load() {
		at := c.Start.Sub(p.start) // reading a clock would cost as much as all else here
		if o.ticket.account != nil {
			at = p.now()
		}
		return a.count(at, cost), nil
	}
	if p.breaker != nil && p.breaker.RefusesFor(req) > 0 {
		return throttle.Sent{}, nil // it will not be sent, so it need not queue for that
	}
	w := &throttle.Waiter{
		Cost: cost, Retry: o.ticket.account != nil, Latest: p.latest(c, call.AttemptFrom(req.Context())),
		Ready: make(chan struct{}),
	}
	if o.ticket.account == a { // another target has asked for nothing
		w.NotBefore = o.ticket.again
	}
	return a.wait(req, c, w)
}

// latest returns when a call is of no use any more, or better goes to another
// target; 0 for never.
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

// learn looks at what came of an attempt that was let go.
func (t *ticket) learn(c *call.Call, response *http.Response, err error) {
	if err != nil || response == nil {
		if fault.IsRejection(err) {
			t.account.unsent(t.sent)
		}
		return
	}
	switch e, failed := c.Answer.(*errorAnswer); {
	case failed && e.response == response:
		if v := e.verdict(); v.limited {
			t.refused(refusalOf(response.Header, v, time.Now()))
		}
	case response.StatusCode < http.StatusBadRequest:
		t.account.answered(t.sent)
		if wait, ok := windowOf(response.Header); ok {
			t.account.pause(wait)
		}
	}
}

// interrupted reports whether a call that waits has ended, by its context or by
// Request.Cancel.
func interrupted(ctx context.Context, req *http.Request, ready <-chan struct{}) bool {
	select {
	case <-ready:
		return false
	case <-ctx.Done():
	case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
	}
	return true
}

// snapshot returns the accounts whose limit is felt, ordered by key.
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
