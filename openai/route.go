package openai

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// longestHold is how long a call waits for a rate limit while another target could
// answer instead. A wait up to that keeps the call at the target that it prefers.
// After a longer one another target would have answered sooner.
const longestHold = 2500 * time.Millisecond

// maxVisits bounds how often one call is sent to one target. The second visit is for
// a fault that passes. A third one would only add load to a target that is in
// trouble, while the caller waits.
const maxVisits = 2

// failoverKey and sessionKey are the context keys of this file. Their types are
// unexported, so that no other package can collide with them.
type failoverKey struct{}

// WithoutFailover returns a context whose calls go to one target only: the first of
// their order that accepts them. It is for a call whose answer is of use from that
// target alone, such as a comparison of models. The call is still repeated at that
// target, as far as the [Config] allows. Without [Config.Targets] the context changes
// nothing.
func WithoutFailover(ctx context.Context) context.Context {
	return context.WithValue(ctx, failoverKey{}, true)
}

type sessionKey struct{}

// WithSession returns a context whose calls prefer one target of each tier. All calls
// with the same key prefer the same one, in every process whose targets have the same
// names and weights. That keeps a conversation near its prompt cache, which a
// provider does not share with another. The preference is no promise: a call goes
// elsewhere when its target fails or refuses it. An empty key changes nothing.
func WithSession(ctx context.Context, key string) context.Context {
	if key == "" {
		return ctx
	}
	return context.WithValue(ctx, sessionKey{}, key)
}

// A router is the layer that gives each attempt its target. It stands between the
// retry layer and the breaker, so that all targets share one budget, one deadline and
// one report, while each target has breakers of its own. It is safe for concurrent
// use: what belongs to one call is in its routing.
type router struct {
	base    http.RoundTripper
	targets []*destination
	orderer *orderer
	rests   rests
	breaker *breaker.Transport // below; nil if there is none
	calls   atomic.Uint64      // numbers calls that were refused, to tell them apart
	seen    *failoverRecorder

	attemptTimeout, firstEvent time.Duration // the Config's, for a target that has none of its own
}

// A destination is a Target with what is derived from it once, and what all calls
// have learned about it. Its lately and health change, and both are safe for
// concurrent use. All else is fixed when the Transport is made.
type destination struct {
	Target

	name     string
	index    int
	place    targetPlace // of one with a BaseURL
	deployed bool        // the BaseURL names a deployment
	header   targetHeader
	own      bool // Header or Authorize is set: the caller's credentials stay behind, unless Forward names them
	lately   failureShare
	health   targetHealth
}

// newRouter returns the layer without its base and its breaker: those are made later,
// and the Transport sets them. attemptTimeout applies to a target that has none of its
// own. It is a parameter because the one in cfg.Retry may be a target's by now: retry
// needs some timeout there to set its timer at all.
func newRouter(cfg *Config, attemptTimeout time.Duration) *router {
	r := &router{
		orderer:        newOrderer(cfg.Targets),
		attemptTimeout: attemptTimeout,
		firstEvent:     cfg.FirstEventTimeout,
		seen:           newFailoverRecorder(cfg),
	}
	for i, t := range cfg.Targets {
		d := &destination{Target: t, name: t.name(), index: i, header: newTargetHeader(&t), own: t.Header != nil || t.Authorize != nil}
		if t.BaseURL != "" {
			d.place, _ = placeOf(t.BaseURL) // Validate has parsed it
			d.deployed = deploymentOf(d.place.path) != ""
		}
		r.targets = append(r.targets, d)
	}
	return r
}

// home returns the target that stands for the URL of the request, or nil if the first
// target has a BaseURL. Only such a target can lend its name and its time limits to a
// request that is sent where it says.
func (r *router) home() *destination {
	if d := r.targets[0]; d.BaseURL == "" {
		return d
	}
	return nil
}

// join gives an operation its routing, if it may be routed at all. It must be a POST
// of an endpoint that may be repeated and whose payload is understood, because
// anything else may depend on what one provider has stored. Other operations get the
// name of home, so that their metrics still name a target.
// once says that an SDK above repeats the call already: it then gets one visit to each
// target, since two layers that repeat would multiply the load.
func (r *router) join(o *operation, once bool) {
	if home := r.home(); home != nil {
		o.call.Target = home.name
	}
	if !r.routes(o.request.Method, o.kind) {
		return
	}
	session, _ := o.call.Value(sessionKey{}).(string)
	alone, _ := o.call.Value(failoverKey{}).(bool)
	g := &routing{router: r, o: o, order: r.orderer.draw(session, chance), at: -1, next: -1, first: -1, once: once, alone: alone}
	o.routing, o.call.Router = g, g
}

// routes reports whether requests of a kind may go to several targets. A nil router has
// none.
func (r *router) routes(method string, kind *endpoint) bool {
	return r != nil && method == http.MethodPost && kind.repeat && kind.inspect
}

// RoundTrip sends a request to the target whose turn it is. A target that refuses the
// attempt before anything is sent is passed over inside the same attempt. A request
// without an operation is not one of ours, and goes where it says.
func (r *router) RoundTrip(req *http.Request) (*http.Response, error) {
	o, ok := call.From(req.Context()).Listener.(*operation)
	if !ok || req.URL == nil {
		return r.base.RoundTrip(req)
	}
	if o.routing == nil {
		r.limitAsIs(o, req)
		return r.base.RoundTrip(req)
	}
	return o.routing.roundTrip(req)
}

// CloseIdleConnections closes the idle connections of the base. That base includes
// the targets' own, which the dispatcher closes.
func (r *router) CloseIdleConnections() { roundtrip.CloseIdleConnections(r.base) }

// limitAsIs sets the time limits of an attempt that goes where its request says. It
// uses those of home, because the caller has set them for that place. Without a home
// the Config's apply.
func (r *router) limitAsIs(o *operation, req *http.Request) {
	d := r.home()
	if d == nil {
		d = new(destination)
	}
	r.limit(o, call.AttemptFrom(req.Context()), d)
}

// limit sets the time limits of an attempt at a target. They belong to the attempt,
// not to the call: a slow target may need more time than the one before it.
// patience bounds how long the answer is held, and so counts only a limit that
// somebody has set. firstEvent may also be the default of a call without a deadline.
func (r *router) limit(o *operation, attempt *call.Attempt, d *destination) {
	attempt.Relimit(limitOf(d.AttemptTimeout, r.attemptTimeout))
	o.patience = limitOf(d.FirstEventTimeout, r.firstEvent)
	if d.FirstEventTimeout != 0 {
		o.firstEvent = max(d.FirstEventTimeout, 0)
	} else {
		o.firstEvent = firstEventLimit(o.call.Context, r.firstEvent)
	}
}

// limitOf returns a target's limit, or the Config's where the target's is 0. A
// negative limit of a target is none, which the result says by 0: a target must be
// able to turn off a limit that all others have.
func limitOf(own, configured time.Duration) time.Duration {
	if own != 0 {
		return max(own, 0)
	}
	return configured
}

// A routing is the way of one call through the targets. It has no lock, because only
// the goroutine of the call uses it: attempts of a call follow each other.
type routing struct {
	router *router
	o      *operation

	// order is drawn once for the call. A fixed order may be shared with other
	// calls, so it is cut shorter or dropped, but never written to.
	order []uint8
	once  bool // at most one visit to each target: an SDK above repeats the call already
	alone bool // one target only, the first of the order that accepts the call

	req    *http.Request // the present attempt's, with the bytes that it sends
	survey survey
	raw    bool // no target accepts the call: it goes where its request says, as it is
	solo   bool // no other target accepts the call, so that it is judged as without targets

	at   int // the target that the latest attempt was sent to; -1 if it was sent to none
	next int // the target of the attempt to come; -1 for the first that accepts the call

	// first is the target that the first attempt began with, even if that target
	// refused it; -1 before. The caller asked for it, so its failure is what the
	// caller gets in the end. refusal is the error by which it refused an attempt.
	first   int
	refusal error

	from  int    // the target of the request before, once begun
	why   string // the error.type for which from is left
	begun bool   // a request has been made for some target

	visits  [maxTargets]uint8 // how often an attempt was sent to each target
	spent   targets           // of no further use to this call
	refused targets           // have refused an attempt of this call before it was sent
	waited  targets           // asked again in place, which each target gets once
	moved   bool              // the call has left a model whose context was too short
	call    uint64            // tells its refusals from other calls'; 0 until number is called
	judged  int               // the number of the attempt that decided is about
	fresh   bool              // next is a target that no attempt was sent to yet
	decided decided
}

// A targets is a set of indices of targets. maxTargets fits its bits, so that a call
// needs no allocation for one. The zero value is the empty set.
type targets uint32

func (s *targets) has(i int) bool { return *s&(1<<i) != 0 }
func (s *targets) add(i int)      { *s |= 1 << i }

// roundTrip sends one attempt. As long as targets refuse it before anything is sent,
// it goes on to the next one: nobody has done any work, so this is no retry, and it
// costs neither budget nor backoff. asked keeps it from going in a circle.
func (g *routing) roundTrip(req *http.Request) (*http.Response, error) {
	g.req = req
	i := g.next
	if i < 0 {
		i = g.begin()
	}
	if g.first < 0 {
		g.first = i
	}
	var asked targets
	refusals := refusals{}
	for {
		asked.add(i)
		response, err := g.send(req, i, false)
		if !isRefused(err) {
			return g.sent(i, response, err)
		}
		g.refused.add(i)
		if i == g.first && g.refusal == nil {
			g.refusal = err
		}
		refusals.add(i, err)
		g.why = fault.Type(err)
		if req.Context().Err() != nil {
			// Its Authorize has used up the time. If that was the attempt's, the others
			// get an attempt of their own. If it was the call's, they are sent nothing.
			if g.o.call.Err() == nil {
				g.spent.add(i)
			} else {
				refusals.err = err
			}
			break
		}
		next, ok := g.elsewhere(req, asked)
		if !ok {
			break
		}
		i = next
	}
	return g.allRefused(req, &refusals)
}

// sent notes where an attempt went. Refusals are no visits: a target whose breaker
// was open a moment ago may still be worth two.
func (g *routing) sent(i int, response *http.Response, err error) (*http.Response, error) {
	g.at, g.next = i, -1
	g.visits[i]++
	return response, err
}

// isRefused reports whether an attempt ended before anything was sent. Only then may
// another target get the request within the same attempt.
func isRefused(err error) bool { return fault.IsRejection(err) }

// allRefused ends an attempt that every target has refused. If one of them did so for
// a rate limit, the attempt now waits for the limit that ends soonest, if waiting is all
// that is left. An open breaker is never bypassed. The error is the one whose
// cause ends soonest, so that its RetryAfter tells the caller when a call can succeed.
func (g *routing) allRefused(req *http.Request, r *refusals) (*http.Response, error) {
	if r.limited != nil && req.Context().Err() == nil && !g.canGoBack() && g.reopen(req) {
		response, err := g.send(req, r.soonest, true)
		if !isRefused(err) {
			return g.sent(r.soonest, response, err)
		}
		r.err = err
	}
	g.at, g.next = -1, -1
	return nil, r.err
}

// A refusals collects how the targets refused one attempt. It keeps only what ends
// soonest, which is all that allRefused needs. The zero value has no refusal.
type refusals struct {
	err     error // of the one that ends soonest
	after   time.Duration
	limited *LimitError // the rate limit that ends soonest
	soonest int         // its target
}

// add notes a refusal. One that does not say when it ends counts as the latest, and
// among equals the first stays: the order of the call is also its preference.
func (r *refusals) add(i int, err error) {
	var limited *LimitError
	var open *breaker.OpenError
	after := time.Duration(1<<63 - 1)
	switch {
	case errors.As(err, &limited):
		after = limited.RetryAfter
		if r.limited == nil || after < r.limited.RetryAfter {
			r.limited, r.soonest = limited, i
		}
	case errors.As(err, &open):
		after = open.RetryAfter
	}
	if r.err == nil || after < r.after {
		r.err, r.after = err, after
	}
}

// send sends a request to one target. HasStandIn asks the layers below to refuse
// an attempt that they would hold back for long, since another target may be ready.
// patient drops that, and the attempt then waits as long as the call may.
// The time limits are set before Authorize runs, so that its time counts as the
// attempt's.
func (g *routing) send(req *http.Request, i int, patient bool) (*http.Response, error) {
	d := g.router.targets[i]
	attempt := call.AttemptFrom(req.Context())
	if g.raw {
		attempt.Subject = g.o.call.Subject
		g.router.limitAsIs(g.o, req)
		return g.router.base.RoundTrip(req)
	}
	attempt.Subject = g.subjectAt(d)
	attempt.HasStandIn = !patient && len(g.order) > 1
	g.router.limit(g.o, attempt, d)
	g.leave(req.Context(), i)
	out, err := g.requestTo(d, req)
	if err != nil {
		roundtrip.CloseBody(req)
		return nil, err
	}
	response, err := g.router.base.RoundTrip(out)
	if err != nil || response == nil {
		return response, err
	}
	return g.receive(d, response)
}

// leave records that an attempt goes to another target than the one before, for
// metrics, spans and the log. It also counts moves inside one attempt, which the
// retry layer does not see.
func (g *routing) leave(ctx context.Context, to int) {
	if g.begun && g.from != to {
		g.router.seen.failover(ctx, g.o, g.router.targets[g.from], g.router.targets[to], g.why)
	}
	g.from, g.begun = to, true
}

// receive removes what a target's answer could do to the caller's own origin. A
// redirect is not handed up, because http.Client would follow it with the caller's
// credentials. The first target may redirect if it has the caller's own origin, as
// without targets. A 101 is not handed up either: no request that asks for another
// protocol is routed, so that nobody waits for one.
func (g *routing) receive(d *destination, response *http.Response) (*http.Response, error) {
	another := !g.isOrigin(d)
	if another {
		removeOriginsOwn(response)
	}
	if response.StatusCode >= http.StatusBadRequest || response.StatusCode >= 200 && response.StatusCode < 300 ||
		d.index == 0 && !another {
		return response, nil
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		g.router.seen.redirected(g.o, d, response.StatusCode)
	}
	return nil, &unexpectedStatusError{d.name, response.StatusCode}
}

// isOrigin reports whether a target has the origin that the caller has named. Only
// such a target may get the caller's credentials.
func (g *routing) isOrigin(d *destination) bool {
	return d.BaseURL == "" || isOrigin(g.o.url, d.place.scheme, d.place.host)
}

// First implements call.Router. The retry layer keeps the first target's response or
// error for the case that all fail: it answers what the caller asked.
func (g *routing) First() (latest bool, refusal error) {
	return g.at >= 0 && g.at == g.first, g.refusal
}

// Detour implements call.Router. It is asked before the next attempt is made, because
// limits, budget and breaker depend on where that goes. A first visit is free unless
// the target has lately failed most calls: otherwise an outage of one target would
// turn all of its load into free attempts at another that is failing too.
func (g *routing) Detour() call.Detour {
	if g.solo || g.raw {
		return g.sameAgain()
	}
	i := g.next
	if i < 0 { // a Policy of the user's has decided alone
		i = g.anyNext()
	}
	d := g.router.targets[i]
	to := call.Detour{Fresh: g.fresh, Subject: g.subjectAt(d)}
	to.Free = g.fresh && !d.lately.isHigh()
	if !to.Fresh {
		to.RefusedFor = g.refusedFor(d)
	}
	return to
}

// Onward implements call.Router. An attempt that may not be made at one target, for
// want of attempts, time or budget, must not cost the call those at others. An attempt
// for a target that the call had not tried has waited for nothing, so the call may
// still go back to one that it has.
func (g *routing) Onward() (call.Detour, bool) {
	if g.solo || g.raw {
		return call.Detour{}, false
	}
	if g.fresh && g.next >= 0 {
		g.refused.add(g.next)
	}
	next, fresh := g.unmet(false)
	ok := fresh
	if !ok && g.fresh {
		next, ok = g.back()
	}
	if g.fresh = fresh; !ok {
		return call.Detour{}, false
	}
	g.next = next
	return g.Detour(), true
}

// sameAgain is the detour of a call that goes to one target only. It is never fresh or
// free, so that the limits of retries hold as they do without targets.
func (g *routing) sameAgain() call.Detour {
	g.next = max(g.at, 0)
	to := call.Detour{Subject: g.o.call.Subject}
	if !g.raw {
		to.Subject = g.subjectAt(g.router.targets[g.next])
	}
	if g.o.call.Gate != nil {
		to.RefusedFor = g.o.call.Gate.RefusesFor()
	}
	return to
}

// refusedFor returns for how long a target's breaker is certain to refuse. The request
// that it makes is never sent. The breaker only reads its URL and its subject, to
// find the key.
func (g *routing) refusedFor(d *destination) time.Duration {
	if g.router.breaker == nil {
		return 0
	}
	attempt := new(call.Attempt)
	attempt.Init(&g.o.call)
	attempt.Subject = g.subjectAt(d)
	req := g.o.request.WithContext(attempt)
	if d.BaseURL != "" {
		req.URL = &url.URL{Scheme: d.place.scheme, Host: d.place.host}
	}
	return g.router.breaker.RefusesFor(req)
}

// subjectAt returns what an attempt at a target is about. The model has its name
// there, since breakers, budgets and pacing are about what that target serves. The
// operation keeps the name that the caller used.
func (g *routing) subjectAt(d *destination) call.Subject {
	s := g.o.call.Subject
	s.Target = d.name
	if d.BaseURL == "" && d.Models == nil {
		return s // the caller's path, which may name a deployment
	}
	if name, ok := g.takes(d); ok && name != "" {
		s.Model = shortened(name)
	}
	return s
}

// reopen makes the body of a request ready for another target, after the attempt that
// was refused has closed it. It reports false if the body can't be had again: the
// attempt must then end with the refusal. A payload.Once can be used again as long as
// nothing was read of it.
func (g *routing) reopen(req *http.Request) bool {
	if req.Body == nil || req.Body == http.NoBody {
		return true
	}
	if once, ok := req.Body.(*payload.Once); ok {
		return once.Again()
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	req.Body = body
	return true
}

// An unexpectedStatusError says that a target has answered with a redirect, or with a
// status that is neither an answer nor an error. It is an error, not a response, so that
// no layer above can follow the redirect. It does not show the Location, which may hold
// a key.
type unexpectedStatusError struct {
	target string
	status int
}

func (e *unexpectedStatusError) Error() string {
	text := "openai: the target " + e.target + " answered " + strconv.Itoa(e.status)
	if e.status < http.StatusMultipleChoices {
		return text + ", which is no answer to the request"
	}
	return text + " " + http.StatusText(e.status) + ", which is not followed: its BaseURL must be where it serves"
}

// ErrorType returns the value of the error.type attribute. Such a status has none of
// its own, because it is a mistake of the configuration and no outage.
func (e *unexpectedStatusError) ErrorType() string { return fault.Other }
