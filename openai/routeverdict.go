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

// A step is what follows an attempt of a call that may go to several targets.
type step int

const (
	settled step = iota // a success, or what no other target would mend
	again               // the same target once more
	onward              // the next target
)

// A decided is what was decided about one attempt.
type decided struct {
	step
	spent   bool   // the target is not asked again in this call
	rests   restOf // what is noted of the target
	renames bool   // only a target that renames the model is of use
	reason  retry.Reason
	answer  retry.Decision
}

// A restOf is what an attempt says must rest, if another call says so as well.
type restOf int

const (
	nothingRests restOf = iota
	targetRests
	modelRests
	callerRests // the caller's credential, at this target
)

// contextCodes say that the payload is too long for the model.
var contextCodes = map[string]bool{
	"context_length_exceeded": true, "exceed_context_size_error": true, "context_window_exceeded": true,
}

// modelCodes say that there is no such model, for these credentials at least.
var modelCodes = map[string]bool{
	"model_not_found": true, "deploymentnotfound": true, "model_decommissioned": true,
}

// hasCode reports whether one of the codes is in the set.
func (e apiError) hasCode(set map[string]bool) bool {
	return set[strings.ToLower(e.inner)] || set[strings.ToLower(e.code)] || set[strings.ToLower(e.kind)]
}

// A reply is what an attempt is judged by.
type reply struct {
	verdict
	status int
	codes  apiError
	first  bool // of the target met first
	own    bool // of a target with credentials of its own
	home   bool // of a target that is sent the caller's
	moved  bool // the call has come here for its context's length
	format string
}

// judge says what a failed response is worth for the way of a call. This is the
// table of failover.md, from its top.
func (r *reply) judge(mayRepeat func() bool, hint time.Duration, hinted, waited bool) decided {
	switch {
	case r.quota, r.status == http.StatusPaymentRequired:
		return r.refusesAccount(callerRests)
	case r.limited:
		if hinted && hint <= longestHold && !waited {
			return decided{step: again}
		}
		return decided{step: onward}
	case r.status == http.StatusInternalServerError && mayRepeat():
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

func (r *reply) lacksModel() bool {
	return r.codes.hasCode(modelCodes) || r.format == "messages" && strings.EqualFold(r.codes.kind, "not_found_error")
}

// refusesCredential judges a 401 and a 403. The caller's own are never moved on:
// another target's credentials would stand in for them. Without an error of the
// API in its body a 403 is of a proxy.
func (r *reply) refusesCredential() decided {
	switch {
	case r.own && (r.status == http.StatusUnauthorized || r.codes != apiError{}):
		return r.refusesAccount(nothingRests)
	case r.home, r.first:
		return decided{step: settled}
	}
	return decided{step: onward, spent: true}
}

// refusesAccount judges what was refused for whose account it was sent.
func (r *reply) refusesAccount(callers restOf) decided {
	d := decided{step: onward, spent: true, rests: targetRests}
	if !r.own {
		d.rests = callers
	}
	return d
}

// decide returns what follows an attempt, once for each.
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

// consider judges an attempt.
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
	hint, hinted := waitOf(a.Response.Header, time.Now())
	made := r.judge(g.mayRepeatHere, hint, hinted, g.waited.has(g.at))
	made.reason = r.reason
	switch adviceOf(a.Response.Header) {
	case stopAdvised:
		made.spent = true
		if made.step == again {
			made.step = onward
		}
	case retryAdvised:
		if made.step == settled && !r.quota {
			made.step, made.reason = onward, retry.ReasonServerSaysYes
		}
	}
	return made
}

// considerError judges an attempt without a response.
func (g *routing) considerError(a *retry.Attempt) decided {
	plain := retry.DefaultPolicy(a)
	stops := plain == retry.Stop(retry.NotRetryable)
	switch {
	case g.o.call.Err() != nil, isCanceled(a.Request), roundtrip.IsMalformed(a.Request):
		return decided{step: settled}
	case fault.IsTimeout(a.Err) && stops:
		return decided{step: onward, spent: true, reason: retry.ReasonTimeout}
	case stops, isRedirect(a.Err):
		return decided{step: onward, spent: true, reason: retry.ReasonConnection}
	}
	return decided{step: onward, reason: retry.ReasonConnection}
}

func isRedirect(err error) bool {
	var redirect *redirectError
	return errors.As(err, &redirect)
}

// isFirstEventTimeout reports whether the first event of an answer did not come in
// time.
func isFirstEventTimeout(err error) bool {
	var limit *fault.TimeLimitError
	return err != nil && errors.As(err, &limit) && !errors.Is(err, ErrStalled)
}

// codesOf returns the codes of what an attempt has failed with.
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

// mayRepeatHere reports whether a 500 may be an accident: its target has not failed
// in a row with others, and was asked once.
func (g *routing) mayRepeatHere() bool {
	return g.met[g.at] < meetings && !g.once && (g.o.call.Gate == nil || g.o.call.Gate.FailuresInARow() <= 1)
}

// learn notes what an attempt says of its target, for this call and for others.
func (g *routing) learn(a *retry.Attempt, d *decided) {
	if g.raw || g.at < 0 {
		return
	}
	t := g.router.targets[g.at]
	g.why = failureOf(a)
	if d.spent {
		g.spent.add(g.at)
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

// failureOf returns the error.type of an attempt, "" if it has not failed.
func failureOf(a *retry.Attempt) string {
	if a.Err != nil {
		return fault.Type(a.Err)
	}
	return fault.StatusType(a.Response.StatusCode)
}

// succeeded notes that a target has answered.
func (g *routing) succeeded(t *destination) {
	t.lately.succeeded()
	if g.router.rests.count.Load() > 0 {
		g.router.rests.succeeded(g.restKeys(t)...)
	}
	g.router.seen.answered(g.o, t, g.router.targets[g.order[0]].Tier)
}

// answer returns the decision that follows, and plans where the next attempt goes.
func (g *routing) answer(a *retry.Attempt, d *decided) retry.Decision {
	if g.raw || g.at < 0 || d.step != settled && g.isSolo() {
		g.next = max(g.at, 0)
		if isRedirect(a.Err) {
			return retry.Stop(retry.NotRetryable)
		}
		return plainDecision(a)
	}
	reason := d.reason
	if reason == retry.NotRetryable {
		reason = retry.ReasonServerSaysYes // it has said that others must be asked
	}
	switch d.step {
	case settled:
		return stopOf(a)
	case again:
		// A failure that has opened the target's breaker leaves it no second chance.
		if g.met[g.at] < meetings && !g.once && g.refusedFor(g.router.targets[g.at]) == 0 {
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

// isSolo reports whether no other target takes the call: then it is one like those
// without targets.
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

// stopOf is the decision about an attempt that none follows.
func stopOf(a *retry.Attempt) retry.Decision {
	if a.Response != nil && verdictOf(a).quota {
		return retry.Stop(retry.StopServerSaysNo)
	}
	return retry.Stop(retry.NotRetryable)
}

// routed is the Policy of a Transport with targets, over one of the user's: the way
// is planned whatever that one says.
func routed(policy retry.Policy) retry.Policy {
	return func(a *retry.Attempt) retry.Decision {
		d := policy(a)
		if g := routingOf(a.Request.Context()); g != nil {
			g.decide(a)
		}
		return d
	}
}

// isCanceled reports whether Request.Cancel ended the request.
func isCanceled(req *http.Request) bool {
	select {
	case <-req.Cancel: //nolint:staticcheck // http.Client sets it for Client.Timeout
		return true
	default:
		return false
	}
}
