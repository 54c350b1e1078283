package openai

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/roundtrip"
	"github.com/retrip-go/retrip/retry"
)

// A step is what follows an attempt of a call that may go to several targets. It says
// what the verdict asks for. Whether that is possible is for answer to find out.
type step int

const (
	settled step = iota // the attempt ends the call: another target would not change it
	again               // the same target once more
	onward              // the next target
)

// A decided is what was decided about one attempt. It is kept, because a user's Policy may
// ask for our decision before routed does, and both must get the same one. The zero
// value ends the call.
type decided struct {
	step
	spent   bool   // the target is of no further use to this call
	rests   restOf // what was refused, and may have to rest for other calls too
	renames bool   // only a target that renames the model is of use
	reason  retry.Reason
	answer  retry.Decision
}

// A restOf says what must rest after a refusal. One refusal is not enough for that:
// it may be about the one call, so that another call must be refused as well.
type restOf int

const (
	nothingRests restOf = iota
	targetRests         // the whole target, whose own credentials were refused
	modelRests          // one model of the target
	callerRests         // the caller's credential at this target: other callers' may be fine
)

// contextCodes say that the payload is too long for the model. Another model may have
// room for it, which is why this 400 is worth a move.
var contextCodes = map[string]bool{
	"context_length_exceeded": true, "exceed_context_size_error": true, "context_window_exceeded": true,
}

// modelCodes say that there is no such model, at least for these credentials. They are
// in lower case, since providers differ in that. A 404 without such a code may mean
// something else, for example a wrong path.
var modelCodes = map[string]bool{
	"model_not_found": true, "deploymentnotfound": true, "model_decommissioned": true,
}

// hasCode reports whether one of the codes is in the set. All three places are read,
// because providers do not agree on which of them holds the code.
func (e apiError) hasCode(set map[string]bool) bool {
	return set[strings.ToLower(e.inner)] || set[strings.ToLower(e.code)] || set[strings.ToLower(e.kind)]
}

// A reply is all that a failed response is judged by. It is apart from the routing, so
// that judge depends on nothing else.
type reply struct {
	verdict
	status int
	codes  apiError
	first  bool   // from the target that the call began with
	own    bool   // from a target with credentials of its own
	home   bool   // from a target that is sent the caller's credentials
	moved  bool   // the call has come here because its context was too long elsewhere
	format string // the name of the endpoint, whose error codes these are
}

// judge decides what follows a failed response. The order of the cases matters: a 429
// of a quota is an account's trouble before it is a rate limit, and a 500 may be an
// accident before it is an outage. accident is a function, because it locks a
// breaker and only a 500 needs it.
// What the first target refuses for the payload's sake ends the call, since another
// target would refuse it as well. A later target may just lack a tool or a parameter,
// so that its 4xx only spends it.
func (r *reply) judge(accident func() bool, hint time.Duration, hinted, waited bool) decided {
	switch {
	case r.quota, r.status == http.StatusPaymentRequired:
		return r.refusesAccount(callerRests)
	case r.limited:
		if hinted && hint <= longestHold && !waited {
			return decided{step: again}
		}
		return decided{step: onward}
	case r.status == http.StatusInternalServerError && accident():
		return decided{step: again}
	case r.reason != retry.NotRetryable:
		return decided{step: onward}
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		return r.refusesCredential()
	case r.status == http.StatusNotFound && r.own && r.lacksModel():
		return decided{step: onward, spent: true, rests: modelRests}
	case r.status == http.StatusBadRequest && r.first && r.codes.hasCode(contextCodes):
		return decided{step: onward, spent: true, renames: true}
	case r.first, r.moved && r.codes.hasCode(contextCodes):
		return decided{step: settled}
	}
	return decided{step: onward, spent: true}
}

// lacksModel reports whether a 404 is about the model. Anthropic's format has no code
// for that, only the type not_found_error.
func (r *reply) lacksModel() bool {
	return r.codes.hasCode(modelCodes) || r.format == "messages" && strings.EqualFold(r.codes.kind, "not_found_error")
}

// refusesCredential judges a 401 and a 403. A refusal of the caller's own credentials
// never moves the call on: another target's credentials would answer for a caller
// who was not let in. A 403 without an API error in its body comes from a proxy, and
// says nothing about the account.
func (r *reply) refusesCredential() decided {
	switch {
	case r.own && (r.status == http.StatusUnauthorized || r.codes != apiError{}):
		return r.refusesAccount(nothingRests)
	case r.home, r.first:
		return decided{step: settled}
	}
	return decided{step: onward, spent: true}
}

// refusesAccount judges a refusal of the account that pays for the call. The target
// rests if the account is its own. Otherwise only what callers says rests, because
// other callers bring other accounts.
func (r *reply) refusesAccount(callers restOf) decided {
	d := decided{step: onward, spent: true, rests: targetRests}
	if !r.own {
		d.rests = callers
	}
	return d
}

// decide returns what follows an attempt. It judges each attempt once and keeps the
// result: learning twice from one failure would make two of it.
func (g *routing) decide(a *retry.Attempt) retry.Decision {
	if g.judged == a.Number {
		return g.decided.answer
	}
	g.judged, g.next, g.fresh = a.Number, -1, false
	d := g.consider(a)
	g.learn(a, &d)
	d.answer = g.answer(a, &d)
	g.decided = d
	return d.answer
}

// consider judges an attempt. A target whose first event did not come in time is
// spent, since asking it again would multiply the wait. The X-Should-Retry header of
// the server goes before the table, but is about that server alone: it sends no call on
// to another target.
func (g *routing) consider(a *retry.Attempt) decided {
	switch {
	case a.Response == nil:
		return g.considerError(a)
	case a.Err == nil && a.Response.StatusCode < http.StatusBadRequest:
		return decided{step: settled}
	case isFirstEventTimeout(a.Err):
		return decided{step: onward, spent: true, reason: retry.ReasonTimeout}
	}
	d := g.router.targets[max(g.at, 0)]
	r := reply{
		verdict: verdictOf(a), status: a.Response.StatusCode, codes: codesOf(a),
		first: g.at == g.first, own: d.own, home: !d.own && g.isOrigin(d), moved: g.moved, format: g.o.kind.name,
	}
	if said := r.codes.status(); r.status < http.StatusBadRequest && said < http.StatusInternalServerError {
		r.status = said // an error inside a 2xx is worth its status, but for a 500, which goes on at once
	}
	hint, hinted := waitOf(a.Response.Header, time.Now())
	made := r.judge(g.isAccident, hint, hinted, g.waited.has(g.at))
	made.reason = r.reason
	switch adviceOf(a.Response.Header) {
	case stopAdvised:
		made.spent = true
		if made.step == again {
			made.step = onward
		}
	case retryAdvised:
		// It is about this server. What may not move on without it may not with it.
		if made.step == settled && (g.isSolo() || g.admitsAgain()) {
			made.step, made.reason = again, retry.ReasonServerSaysYes
		}
	}
	return made
}

// considerError judges an attempt without a response. Nothing follows one that the
// caller has ended, or whose request no server would understand. An error that the
// default policy would not repeat spends the target, as a timeout does: repeating it
// there multiplies the wait and may be billed twice. Another target is still worth
// an attempt.
func (g *routing) considerError(a *retry.Attempt) decided {
	plain := retry.DefaultPolicy(a)
	stops := plain == retry.Stop(retry.NotRetryable)
	switch {
	case g.o.call.Err() != nil, isCanceled(a.Request), roundtrip.IsMalformed(a.Request):
		return decided{step: settled}
	case fault.IsTimeout(a.Err) && stops:
		return decided{step: onward, spent: true, reason: retry.ReasonTimeout}
	case stops, isUnexpected(a.Err):
		return decided{step: onward, spent: true, reason: retry.ReasonConnection}
	}
	return decided{step: onward, reason: retry.ReasonConnection}
}

// isUnexpected reports whether a target has answered with a redirect, or with another
// status that is of no use. It would do so again, and so is spent.
func isUnexpected(err error) bool {
	var unexpected *unexpectedStatusError
	return errors.As(err, &unexpected)
}

// isFirstEventTimeout reports whether the first event of an answer did not come in
// time. A stall has the same type of error, but comes after the first event.
func isFirstEventTimeout(err error) bool {
	var limit *fault.TimeLimitError
	return err != nil && errors.As(err, &limit) && !errors.Is(err, ErrStalled)
}

// codesOf returns the error codes that an attempt has failed with. They may be in a
// broken answer, or in the body of an error response. The response must be the
// attempt's own, since the call may still keep the error of an earlier attempt.
func codesOf(a *retry.Attempt) apiError {
	var broken *AnswerError
	if errors.As(a.Err, &broken) {
		return apiError{code: broken.Code, kind: broken.Type}
	}
	if c := call.From(a.Request.Context()); c != nil {
		if e, ok := c.Answer.(*errorAnswer); ok && e.response == a.Response {
			e.verdict()
			return e.said
		}
	}
	return apiError{}
}

// isAccident reports whether a 500 may be an accident of this one call: its target was
// visited once, and no other call has failed there in the same row. An accident is
// worth a second visit. Otherwise the target is in trouble and the call moves on.
func (g *routing) isAccident() bool {
	gate := g.o.call.Gate
	return g.admitsAgain() && (gate == nil || gate.FailsAlone(&g.o.call))
}

// admitsAgain reports whether the call may go to the same target once more. It may not
// after maxVisits, nor if an SDK repeats it, nor if its own failure has just opened
// the breaker: it would wait for an attempt that is certain to be refused.
func (g *routing) admitsAgain() bool {
	gate := g.o.call.Gate
	return g.visits[g.at] < maxVisits && !g.once && (gate == nil || gate.RefusesFor() == 0)
}

// learn notes what an attempt says of its target, for this call and for others. It
// notes nothing if the attempt reached no target, or went as it was to where its
// request says. A failure that ends the call is
// the caller's own and nobody's else, so that it does not count against the target's
// health.
func (g *routing) learn(a *retry.Attempt, d *decided) {
	if g.raw || g.at < 0 {
		return
	}
	t := g.router.targets[g.at]
	g.why = failureOf(a)
	if d.spent {
		g.spent.add(g.at)
	}
	if d.step != settled {
		t.health.failedWith(g.why, g.router.now())
	}
	if a.Response == nil {
		if d.step != settled {
			t.lately.failed()
		}
		return
	}
	if a.Err == nil && a.Response.StatusCode < http.StatusBadRequest {
		g.succeeded(t)
		return
	}
	if verdictOf(a).outcome == breaker.Failure {
		t.lately.failed()
	}
	if key, ok := g.restKey(t, d.rests); ok {
		g.router.rests.refused(key, g.number(), refusalsToRest, g.router.now())
	}
}

// failureOf returns the error.type of an attempt, "" if it has not failed. An error
// goes before the status, because a broken answer may come with a 200.
func failureOf(a *retry.Attempt) string {
	if a.Err != nil {
		return fault.Type(a.Err)
	}
	return fault.StatusType(a.Response.StatusCode)
}

// succeeded notes that a target has answered. It ends all rests that the call could
// have been refused for. The count is looked at first, so that calls compute no keys
// while nothing rests.
func (g *routing) succeeded(t *destination) {
	t.lately.succeeded()
	t.health.succeeded(g.o.call.Start, g.router.now)
	if g.router.rests.count.Load() > 0 {
		g.router.rests.succeeded(g.restKeys(t)...)
	}
	g.router.seen.answered(g.o, t, g.router.targets[g.order[0]].Tier)
}

// answer turns a verdict into a decision, and plans where the next attempt goes. A call
// that only one target accepts is decided as without targets. A first visit needs no
// backoff, since nothing is known against that target; a second round has one, since
// every target has failed by then. A redirect is never repeated.
func (g *routing) answer(a *retry.Attempt, d *decided) retry.Decision {
	if g.raw || g.at < 0 || d.step != settled && g.isSolo() {
		g.next = max(g.at, 0)
		switch {
		case isUnexpected(a.Err):
			return retry.Stop(retry.NotRetryable)
		case g.hasOneAttempt() && d.reason != retry.NotRetryable:
			return retry.Stop(retry.StopAttempts)
		}
		return plainDecision(a)
	}
	reason := d.reason
	if reason == retry.NotRetryable {
		reason = retry.ReasonServerSaysYes // a refusal that others need not share is a reason to ask them
	}
	switch d.step {
	case settled:
		return stopOf(a)
	case again:
		if g.admitsAgain() {
			g.next = g.at
			g.waited.add(g.at)
			return decisionFor(a, verdictOf(a), reason)
		}
	case onward:
	}
	if next, ok := g.unmet(d.renames); ok && (!d.renames || !g.moved) {
		g.next, g.fresh = next, true
		g.moved = g.moved || d.renames
		return retry.After(0, reason)
	}
	if next, ok := g.again(); ok && !d.renames {
		g.next = next
		if next == g.at && a.Response != nil {
			return decisionFor(a, verdictOf(a), reason)
		}
		return retry.AfterBackoff(reason)
	}
	if d.reason == retry.NotRetryable {
		return stopOf(a)
	}
	return retry.Stop(retry.StopAttempts)
}

// isSolo reports whether no other target accepts the call: it is then repeated by the
// rules of calls without targets. Only a positive answer is kept, since the target that
// the call is at may change as long as there are others.
func (g *routing) isSolo() bool {
	if g.solo {
		return true
	}
	for _, i := range g.order {
		if int(i) == g.at {
			continue
		}
		if _, ok := g.takes(g.router.targets[i]); ok {
			return false
		}
	}
	g.solo = true
	return true
}

// hasOneAttempt reports whether the call has had its only attempt: an SDK repeats it
// already, and there is no other target that it could meet. A nil routing has more.
func (g *routing) hasOneAttempt() bool {
	return g != nil && g.once && (g.raw || g.at >= 0 && g.isSolo())
}

// stopOf returns the decision about an attempt that ends its call. An empty quota is
// reported as the server's word, so that metrics tell it from a failure that no retry
// would change.
func stopOf(a *retry.Attempt) retry.Decision {
	if a.Response != nil && verdictOf(a).quota {
		return retry.Stop(retry.StopServerSaysNo)
	}
	return retry.Stop(retry.NotRetryable)
}

// routed wraps a user's Policy for a Transport with targets. The routing must judge
// every attempt even if the user's Policy never asks it, because that is how it
// learns and plans. The decision is still the user's.
func routed(policy retry.Policy) retry.Policy {
	return func(a *retry.Attempt) retry.Decision {
		d := policy(a)
		if g := routingOf(a.Request.Context()); g != nil {
			g.decide(a)
		}
		return d
	}
}

// isCanceled reports whether Request.Cancel ended the request. Without a channel it is
// false: a receive from nil never proceeds, and the default is chosen.
func isCanceled(req *http.Request) bool {
	select {
	case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
		return true
	default:
		return false
	}
}
