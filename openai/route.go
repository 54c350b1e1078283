package openai

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/payload"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// longestHold is how long a call waits for a rate limit while there is another
// target.
const longestHold = 2500 * time.Millisecond

// meetings is how often a call goes to one target at most.
const meetings = 2

type failoverKey struct{}

// WithoutFailover returns a context whose calls go to the first target of their
// order only.
func WithoutFailover(ctx context.Context) context.Context {
	return context.WithValue(ctx, failoverKey{}, true)
}

type sessionKey struct{}

// WithSession returns a context whose calls go to the same target of a tier as all
// calls with that key, in every process, as long as it takes them: the prompt
// caches of providers are worth that. An empty key changes nothing.
func WithSession(ctx context.Context, key string) context.Context {
	if key == "" {
		return ctx
	}
	return context.WithValue(ctx, sessionKey{}, key)
}

// A router is the layer that gives each attempt its target.
type router struct {
	base    http.RoundTripper
	targets []*destination
	orderer *orderer
	rests   rests
	breaker *breaker.Transport // below; nil if there is none
	calls   atomic.Uint64      // that were refused somewhere, to tell them apart
	seen    *failoverRecorder

	attemptTimeout, firstEvent time.Duration // of a target that has none of its own
}

// A destination is a Target that is ready for use.
type destination struct {
	Target

	name     string
	index    int
	place    targetPlace // of one with a BaseURL
	deployed bool        // the BaseURL names a deployment
	header   targetHeader
	own      bool // it has credentials of its own
	lately   failureShare
	health   targetHealth
}

// newRouter returns the layer over nothing yet. attemptTimeout is that of a target
// that has none of its own.
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

// home is where requests go that go nowhere else; nil if that is no target.
func (r *router) home() *destination {
	if d := r.targets[0]; d.BaseURL == "" {
		return d
	}
	return nil
}

// join gives an operation its way through the targets, if it may have one: a POST
// that stores nothing, whose payload is understood. Of the others home is told.
func (r *router) join(o *operation, once bool) {
	if home := r.home(); home != nil {
		o.call.Target = home.name
	}
	if o.request.Method != http.MethodPost || !o.kind.repeat || !o.kind.inspect {
		return
	}
	session, _ := o.call.Value(sessionKey{}).(string)
	g := &routing{router: r, o: o, order: r.orderer.draw(session, chance), at: -1, next: -1, first: -1, once: once}
	if alone, _ := o.call.Value(failoverKey{}).(bool); alone {
		g.order = g.order[:1]
	}
	o.routing, o.call.Router = g, g
}

// RoundTrip sends a request to the target whose turn it is, or to the next one that
// does not refuse it before anything is sent.
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

// CloseIdleConnections closes those of the base and of the targets' own.
func (r *router) CloseIdleConnections() { roundtrip.CloseIdleConnections(r.base) }

// limitAsIs sets the time limits of an attempt that goes where its request says.
func (r *router) limitAsIs(o *operation, req *http.Request) {
	d := r.home()
	if d == nil {
		d = new(destination)
	}
	r.limit(o, call.AttemptFrom(req.Context()), d)
}

// limit sets the time limits of an attempt at a target.
func (r *router) limit(o *operation, attempt *call.Attempt, d *destination) {
	attempt.Relimit(limitOf(d.AttemptTimeout, r.attemptTimeout))
	o.patience = limitOf(d.FirstEventTimeout, r.firstEvent)
	if d.FirstEventTimeout != 0 {
		o.firstEvent = max(d.FirstEventTimeout, 0)
	} else {
		o.firstEvent = firstEventLimit(o.call.Context, r.firstEvent)
	}
}

// limitOf returns a target's limit, or the Config's where it has none.
func limitOf(own, configured time.Duration) time.Duration {
	if own != 0 {
		return max(own, 0)
	}
	return configured
}

// A routing is the way of one call through the targets. Only the goroutine of the
// call uses it.
type routing struct {
	router *router
	o      *operation
	order  []uint8
	once   bool // it meets each target once: an SDK repeats it already

	req    *http.Request // the present attempt's, with the bytes that it sends
	survey survey
	raw    bool // it goes where it says, as it is
	solo   bool // no other target takes the call

	at      int // where the latest attempt was sent; -1 before
	next    int // where the attempt to come goes; -1: to the first that takes it
	first   int // the target met first, be it that it refused; -1 before
	refusal error
	to      int // where the present request goes, for those below
	from    int // where the one before went, if there was one
	why     string
	begun   bool

	met     [maxTargets]uint8 // how often
	spent   targets           // not again in this call
	refused targets           // they have refused an attempt of this call
	waited  targets           // their rate limit was waited out
	moved   bool              // the call has moved on for its context's length
	call    uint64            // its number, once it was refused
	judged  int               // the attempt that was judged last
	fresh   bool              // next was not met yet
	decided decided
}

// Targets are a set of targets.
type targets uint32

func (s *targets) has(i int) bool { return *s&(1<<i) != 0 }
func (s *targets) add(i int)      { *s |= 1 << i }

// roundTrip sends one attempt.
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
		next, ok := g.elsewhere(req, asked)
		if !ok {
			break
		}
		g.why = fault.Type(err)
		i = next
	}
	return g.allRefused(req, &refusals)
}

// sent notes where an attempt went.
func (g *routing) sent(i int, response *http.Response, err error) (*http.Response, error) {
	g.at, g.next = i, -1
	g.met[i]++
	return response, err
}

// isRefused reports whether an attempt ended before anything was sent.
func isRefused(err error) bool { return fault.IsRejection(err) }

// allRefused waits for the rate limit that ends soonest, or returns the refusal
// of which the least time will end.
func (g *routing) allRefused(req *http.Request, r *refusals) (*http.Response, error) {
	if r.limited != nil && req.Context().Err() == nil && g.reopen(req) {
		response, err := g.send(req, r.soonest, true)
		if !isRefused(err) {
			return g.sent(r.soonest, response, err)
		}
		r.err = err
	}
	g.at, g.next = -1, -1
	return nil, r.err
}

// Refusals are what all targets said that an attempt asked.
type refusals struct {
	err     error // of the one that ends soonest
	after   time.Duration
	limited *LimitError // the one that ends soonest
	soonest int         // its target
}

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

// send sends a request to one target. patient waits for a rate limit as long as
// the call may.
func (g *routing) send(req *http.Request, i int, patient bool) (*http.Response, error) {
	d := g.router.targets[i]
	attempt := call.AttemptFrom(req.Context())
	g.to = i
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

// leave tells of an attempt that goes to another target than the one before.
func (g *routing) leave(ctx context.Context, to int) {
	if g.begun && g.from != to {
		g.router.seen.failover(ctx, g.o, g.router.targets[g.from], g.router.targets[to], g.why)
	}
	g.from, g.begun = to, true
}

// receive takes what a target's answer must not do to the caller out of it.
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
	g.router.seen.redirected(g.o, d, response.StatusCode)
	return nil, &redirectError{d.name, response.StatusCode}
}

// isOrigin reports whether a target is of the origin that the caller has named.
func (g *routing) isOrigin(d *destination) bool {
	return d.BaseURL == "" || isOrigin(g.o.url, d.place.scheme, d.place.host)
}

// First implements call.Router.
func (g *routing) First() (latest bool, refusal error) {
	return g.at >= 0 && g.at == g.first, g.refusal
}

// Detour implements call.Router.
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

// sameAgain is the detour of a call that goes to one target only.
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

// refusedFor returns for how long a target's breaker is certain to refuse.
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

// subjectAt is what an attempt at a target is about: the model by its name there.
func (g *routing) subjectAt(d *destination) call.Subject {
	s := g.o.call.Subject
	s.Target = d.name
	if d.Models != nil {
		if name, ok := d.nameOf(s.Model, false); ok {
			s.Model = shortened(name)
		}
	}
	return s
}

// reopen makes the body of a request ready to be sent again, after one that was
// refused has closed it.
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

// A redirectError says that a target has answered with a redirect, which nobody
// may follow with the caller's credentials.
type redirectError struct {
	target string
	status int
}

func (e *redirectError) Error() string {
	return "openai: the target " + e.target + " answered " + http.StatusText(e.status) + ", which is not followed: its BaseURL must be where it serves"
}

// ErrorType returns the value of the error.type attribute.
func (e *redirectError) ErrorType() string { return fault.Other }
