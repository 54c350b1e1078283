package soak

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A siteIndex is one of the origins that calls may go to.
type siteIndex int

const (
	home siteIndex = iota
	europe
	sour    // refuses credentials and models
	harbour // well, as far as the model "safe" goes
	siteCount
)

// Whose credentials are whose. The dot at the end keeps one from being the beginning
// of another.
const (
	callerSecret = "secret-caller-"
	secondSecret = "secret-second."
)

var (
	siteNames   = [siteCount]string{"home", "europe", "sour", "harbour"}
	siteSecrets = [siteCount]string{callerSecret, "secret-europe.", "secret-sour.", "secret-harbour."}
	siteBases   = [siteCount]string{"/v1", "/openai/v1", "/sour%2Fpath/v1", "/v1?tenant=soak"}
	allSecrets  = [...]string{callerSecret, secondSecret, "secret-europe.", "secret-sour.", "secret-harbour."}
)

// A site serves one origin.
type site struct {
	host

	soak     *routedSoak
	index    siteIndex
	address  *address
	served   atomic.Int64
	troubles [troubleCount]atomic.Int64
}

func (v *site) counts() (all []int64) {
	for n := range v.troubles {
		all = append(all, v.troubles[n].Load())
	}
	return all
}

// A routedState is what the sites remember of a call under way.
type routedState struct {
	plan     *routedPlan
	attempts atomic.Int32
}

// A trouble is what goes wrong with an attempt.
type trouble int

const (
	noTrouble trouble = iota
	dies              // the connection is reset, before or amid the answer
	freezes           // nothing comes, or no more
	sheds             // 503 at once
	limits            // 429
	lies              // a 200 that is no answer
	refuses           // the credentials, the model
	troubleCount
)

// trouble returns what a site has for an attempt: there is weather, by site and
// model, which lasts for some calls, and there is bad luck.
func (p *routedPlan) trouble(at siteIndex, attempt int) (trouble, *rand.Rand) {
	r := rand.New(rand.NewPCG(p.seed^uint64(at+1)<<32, p.id<<8|uint64(attempt&0xff)))
	if p.well || at == harbour && p.model == "safe" {
		return noTrouble, r
	}
	period := p.id / 300
	weather := rand.New(rand.NewPCG(p.seed^uint64(at+1), period<<1|uint64(len(p.model)&1)))
	kind := trouble(weather.IntN(int(2 * troubleCount)))
	switch {
	case kind < troubleCount && chance(r, 0.9):
	case chance(r, 0.05):
		kind = trouble(1 + r.IntN(int(troubleCount)-1))
	default:
		kind = noTrouble
	}
	if kind == freezes && at == harbour {
		kind = dies // it has no time limit
	}
	if kind == refuses && at != sour && (at != home || p.key != poor) {
		kind = sheds
	}
	return kind, r
}

func (v *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.Header.Get("X-Soak-Id"), 10, 64)
	if err != nil {
		v.soak.problem(nil, "a request without its id at %s: %v", siteNames[v.index], r.Header)
		return
	}
	call, ok := v.soak.under.Load(id)
	if !ok {
		return // its caller has gone, while it was on its way
	}
	state := call.(*routedState)
	p := state.plan
	v.served.Add(1)
	attempt := int(state.attempts.Add(1))
	v.checkSecrets(p, r)
	a := &routedAnswer{ResponseWriter: w, site: v, plan: p, attempt: attempt, request: r}
	a.trouble, a.luck = p.trouble(v.index, attempt)
	v.troubles[a.trouble].Add(1)
	w.Header().Set("X-Soak-Site", strconv.Itoa(int(v.index)))
	w.Header().Set("X-Soak-Attempt", strconv.Itoa(attempt))
	w.Header().Set("Set-Cookie", "session=of-"+siteNames[v.index])
	if r.Method == http.MethodPost && !v.receive(p, r) {
		a.abort()
	}
	a.send()
}

// checkSecrets holds that a request has the credentials of its way and no others.
func (v *site) checkSecrets(p *routedPlan, r *http.Request) {
	var seen strings.Builder
	_ = r.Header.Write(&seen)
	seen.WriteString(r.RequestURI + " " + r.Host)
	own := siteSecrets[v.index]
	switch {
	case v.index == home && strings.Contains(r.Header.Get("Authorization"), secondSecret):
		own = secondSecret
	case v.index == home:
		own = p.secret()
	}
	if got := r.Header.Get("Authorization"); got != "Bearer "+own {
		v.soak.problem(p, "%s was shown %q", siteNames[v.index], got)
	}
	left := strings.ReplaceAll(seen.String(), own, "")
	for _, secret := range allSecrets {
		if strings.Contains(left, secret) {
			v.soak.problem(p, "%s was shown a credential that is not its own:\n%s", siteNames[v.index], seen.String())
		}
	}
	if v.index != home && !p.api.routed {
		v.soak.problem(p, "%s was sent a call that belongs home", siteNames[v.index])
	}
	if want := siteBases[v.index]; v.index != home && !strings.HasPrefix(r.RequestURI, strings.TrimSuffix(want, "?tenant=soak")+"/") {
		v.soak.problem(p, "%s was asked for %s", siteNames[v.index], r.RequestURI)
	}
}

// receive reports whether the payload came; what came must be what was sent, with
// the model's name there.
func (v *site) receive(p *routedPlan, r *http.Request) bool {
	model := p.model
	if v.index == harbour {
		model += "-there"
	}
	got, err := io.ReadAll(r.Body)
	want := p.payload(model)
	if err != nil && !bytes.HasPrefix(want, got) || err == nil && !bytes.Equal(want, got) {
		v.soak.problem(p, "the payload at %s is wrong: %d bytes, not %d", siteNames[v.index], len(got), len(want))
	}
	return err == nil
}

// A routedAnswer is on its way to the chain.
type routedAnswer struct {
	http.ResponseWriter

	site    *site
	plan    *routedPlan
	attempt int
	trouble trouble
	luck    *rand.Rand
	request *http.Request
}

func (a *routedAnswer) send() {
	p := a.plan
	content, ends := p.answer(a.site.index, a.attempt)
	if p.api.kind == backgroundAPI && a.request.Method == http.MethodGet {
		from, ok := a.rest(ends)
		if !ok {
			return
		}
		content = content[from:]
	}
	length := len(content)
	at := a.luck.IntN(length)
	switch a.trouble {
	case dies:
		if chance(a.luck, 0.4) {
			a.kill()
		}
		a.write(content[:at], length)
		if chance(a.luck, 0.5) {
			a.kill()
		}
		a.abort()
	case freezes:
		if chance(a.luck, 0.6) {
			a.stall()
		}
		a.write(content[:at], length)
		a.stall()
	case sheds:
		a.fail(pickOf(a.luck, 503, 503, 500, 502, 504, 408, 529), "server_error", pickOf(a.luck, "", "", "0", "0.02"))
	case limits:
		a.fail(429, "rate_limit_exceeded", pickOf(a.luck, "", "0.01", "0.05", "20"))
	case refuses:
		a.refuse()
	case lies:
		a.lie(content, at)
	default:
		a.write(content, length)
	}
}

func pickOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// rest returns from where a stream goes on; false if it was refused.
func (a *routedAnswer) rest(ends []int) (from int, ok bool) {
	query := a.request.URL.Query()
	after, err := strconv.Atoi(query.Get("starting_after"))
	if err != nil || after < 0 || after >= len(ends) || query.Get("stream") != "true" || a.request.URL.Path != "/v1/responses/"+a.plan.responseID() {
		a.site.soak.problem(a.plan, "asked to resume by %s", a.request.RequestURI)
		a.abort()
	}
	if chance(a.luck, 0.03) {
		a.fail(404, "invalid_request_error", "")
		return 0, false
	}
	return ends[after], true
}

// refuse answers that the credentials, the account or the model are not good.
func (a *routedAnswer) refuse() {
	switch n := a.luck.IntN(4); {
	case a.site.index == home:
		a.fail(pickOf(a.luck, 402, 429), "insufficient_quota", "")
	case n == 0:
		a.fail(404, "model_not_found", "")
	case n == 1:
		a.Header().Set("Location", a.site.soak.sites[home].address.url()+"/v1/chat/completions")
		a.fail(pickOf(a.luck, 302, 307, 308), "moved", "")
	default:
		a.fail(pickOf(a.luck, 401, 403), "invalid_api_key", "")
	}
}

// lie answers 200 with what is no answer.
func (a *routedAnswer) lie(content []byte, at int) {
	switch a.luck.IntN(5) {
	case 0:
		a.write(nil, 0)
	case 1:
		a.Header().Set("Content-Type", "text/html")
		a.write([]byte(pageOfAProxy), len(pageOfAProxy))
	case 2:
		a.write(content[:at], at) // an orderly end
	case 3:
		broken := append(bytes.Clone(content[:at]), corruptMark...)
		a.write(broken, len(broken))
	default:
		said := errorOf(a.plan, "server_error")
		a.write(said, len(said))
	}
}

const pageOfAProxy = "<!DOCTYPE html><html><body>Bad gateway, but 200</body></html>"

func errorOf(p *routedPlan, code string) []byte {
	if p.stream {
		return fmt.Appendf(nil, "event: error\ndata: {\"type\":\"error\",%s,\"type\":%q,\"code\":%q}}\n\n", errorMark, code, code)
	}
	return fmt.Appendf(nil, `{"type":"error",%s,"type":%q,"code":%q}}`, errorMark, code, code)
}

// write sends the beginning of an answer of so many bytes, in some pieces.
func (a *routedAnswer) write(content []byte, length int) {
	h := a.Header()
	switch {
	case h.Get("Content-Type") != "":
	case a.plan.stream:
		h.Set("Content-Type", "text/event-stream")
	default:
		h.Set("Content-Type", "application/json")
	}
	if a.plan.id%3 == 0 {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	a.WriteHeader(http.StatusOK)
	pieces := 1 + int(a.plan.id%4)
	for n := range pieces {
		if _, err := a.Write(content[len(content)*n/pieces : len(content)*(n+1)/pieces]); err != nil {
			a.abort()
		}
		if len(content) < length || a.plan.stream {
			_ = http.NewResponseController(a.ResponseWriter).Flush()
		}
	}
}

func (a *routedAnswer) fail(status int, code, after string) {
	if after != "" {
		a.Header().Set("Retry-After", after)
	}
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(status)
	_, _ = a.Write(fmt.Appendf(nil, `{%s,"type":%q,"code":%q}}`, errorMark, code, code))
}

func (a *routedAnswer) abort() { panic(http.ErrAbortHandler) }

func (a *routedAnswer) kill() {
	if a.request.ProtoMajor == 1 {
		reset(a.request.Context().Value(connKey{}).(net.Conn))
	}
	a.abort()
}

// stall waits for the client to go away.
func (a *routedAnswer) stall() {
	select {
	case <-a.request.Context().Done():
	case <-a.site.done:
	case <-time.After(slack): // a connection that nobody told of
	}
	a.abort()
}
