package soak

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/retrip-go/retrip/openai"
)

// A plan is one call of the soak: what is asked, how the caller behaves,
// and what goes wrong with each attempt. It follows from the seed and the
// call's number alone, so that caller and provider need not tell each other.
type plan struct {
	id    uint64
	scene int

	endpoint  *endpoint
	model     string
	stream    bool
	choices   int
	words     int
	lineEnd   string
	comments  bool
	framing   framing
	gzip      compression
	slow      time.Duration // between the pieces of the answer
	goAway    bool          // the provider asks for another connection
	stateless bool          // store:false
	keyed     bool          // an Idempotency-Key
	sdkRetry  bool          // an X-Stainless-Retry-Count

	size   int // of the payload's filler
	body   bodyKind
	caller behavior
	after  time.Duration // until the caller cancels, closes or times out
	part   float64       // of the answer, after which it does
	limit  time.Duration // the caller's deadline; 0 = none
	abrupt bool          // that is no deadline, but a cancel without notice
	again  bool          // the request is used a second time

	faults []failure // of the first attempts; later ones go well
}

type endpoint struct {
	method, path string
	name         string // as the chain has it
	streams      bool
	inspected    bool // the payload is JSON, and read by the chain
	opaque       bool // the chain cannot tell half an answer from a whole one
	stateful     bool
}

var endpoints = []struct {
	weight int
	endpoint
}{
	{40, endpoint{method: http.MethodPost, path: "/v1/chat/completions", name: "chat", streams: true, inspected: true}},
	{8, endpoint{method: http.MethodPost, path: "/v1/completions", name: "completions", streams: true, inspected: true}},
	{15, endpoint{method: http.MethodPost, path: "/v1/embeddings", name: "embeddings", inspected: true}},
	{20, endpoint{method: http.MethodPost, path: "/v1/responses", name: "responses", streams: true, inspected: true, stateful: true}},
	{5, endpoint{method: http.MethodPost, path: "/v1/audio/speech", name: "audio", inspected: true, opaque: true}},
	{5, endpoint{method: http.MethodPost, path: "/v1/files", name: "files", opaque: true, stateful: true}},
	{7, endpoint{method: http.MethodGet, path: "/v1/models", name: "models", opaque: true}},
}

type framing int

const (
	byLength framing = iota
	chunked
	byClose // HTTP/1.1 only: a cut looks like the end
)

type compression int

const (
	notZipped compression = iota
	unzipped              // by net/http, unasked
	zipped                // the caller asked for it and gets it so
)

type bodyKind int

const (
	sharedBody  bodyKind = iota // of retry.NewRequest
	knownBody                   // of http.NewRequest, with GetBody
	opaqueBody                  // of known length, without GetBody
	unsizedBody                 // of unknown length
	slowBodySent
	failingBody // breaks off half-way
	lyingBody   // shorter than its ContentLength
)

type behavior int

const (
	readsAll behavior = iota
	readsBySmallSteps
	readsExactly     // up to the last byte, without waiting for io.EOF
	neverCloses      // once it was told the end
	closesUnread     //
	closesHalfWay    //
	closesWhileRead  // from another goroutine
	cancels          //
	cancelsHalfWay   //
	cancelsAtOnce    // before the call
	abandons         // half-way: cancels, and closes nothing
	hasDeadline      //
	hasClientTimeout // http.Client.Timeout
)

// A failure is what goes wrong with one attempt.
type failure struct {
	kind   failureKind
	at     float64 // where, as a share of the answer
	status int
	header [2]string
	error  errorBody
}

type failureKind int

const (
	noFault failureKind = iota
	faultStatus
	faultEarlyStatus   // before the payload was read
	faultKill          // TCP reset before the headers
	faultEarlyKill     // before the payload was read
	faultAbort         // end of the connection or HTTP/2 stream before the headers
	faultSilence       // no headers
	faultCut           // end of the connection or HTTP/2 stream after some bytes
	faultReset         // TCP reset after some bytes
	faultStall         // silence after some bytes
	faultEnd           // an orderly end after some bytes
	faultErrorInAnswer // an event, or the answer is an error
	faultCorrupt       // an event, or half the answer, is no JSON
	failureKinds
)

type errorBody int

const (
	plainError errorBody = iota
	quotaError
	emptyError
	longError    // longer than what is drained
	stalledError // half of it, then silence
	slowError    // half of it, then the rest, after longer than anybody peeks
	endlessError
	errorBodies
)

const (
	errorMark   = `"error":{"message":"soak"`
	corruptMark = `{"broken`
)

// models have their own breakers and budgets, and their own weather.
var models = []struct {
	name   string
	faulty float64 // share of attempts that go wrong
	limits float64 // share of those that are a 429
}{
	{"calm", 0.08, 0},
	{"rough", 0.3, 0},
	{"rough-too", 0.4, 0},
	{"broken", 0.75, 0},
	{"limited", 0.3, 0.8},
}

// limitedPeriod is after how many calls another model is limited, since a 429
// may pause one for longPause.
const (
	limitedPeriod = 1500
	limitedModels = 8
)

// Ids from here on are those of calls with which all goes well.
const wellFrom = 1 << 63

// Within each period of calls some meet a provider that is out.
const (
	outagePeriod = 1500
	outageLength = 100
)

func newPlan(seed, id uint64, scenes []scene) *plan {
	r := rand.New(rand.NewPCG(seed, id))
	p := &plan{id: id, scene: r.IntN(len(scenes)), choices: 1, lineEnd: "\n"}
	if id >= wellFrom {
		return p.well(len(scenes))
	}
	scene := &scenes[p.scene]
	pick := r.IntN(100)
	for i := range endpoints {
		if pick -= endpoints[i].weight; pick < 0 {
			p.endpoint = &endpoints[i].endpoint
			break
		}
	}
	model := models[[]int{0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4}[r.IntN(12)]]
	p.model = model.name
	if p.model == "limited" {
		p.model += strconv.FormatUint(id/limitedPeriod%limitedModels, 10)
	}
	p.stream = p.endpoint.streams && chance(r, 0.55)
	if chance(r, 0.1) {
		p.choices = 2 + r.IntN(2)
	}
	p.words = 1 + r.IntN(20)
	if chance(r, 0.02) {
		p.words = 1500 // more than the buffers on the way hold
	}
	if chance(r, 0.2) {
		p.lineEnd = "\r\n"
	}
	p.comments = chance(r, 0.2)
	p.stateless, p.keyed, p.sdkRetry = chance(r, 0.3), chance(r, 0.1), chance(r, 0.05)
	// With a key net/http replays a request itself, and on HTTP/2 that races with
	// its own goroutine which still writes the first one.
	p.keyed = p.keyed && !scene.http2
	p.gzip = []compression{notZipped, notZipped, notZipped, notZipped, notZipped, unzipped, zipped}[r.IntN(7)]
	p.framing = framing(r.IntN(2))
	if !p.opaque() && !scene.http2 && chance(r, 0.1) {
		p.framing = byClose
	}
	if chance(r, 0.1) {
		p.slow = time.Duration(1+r.IntN(10)) * time.Millisecond
	}
	p.goAway = chance(r, 0.01)
	p.askBy(r)
	p.behave(r, scene)
	for attempt := range scene.attempts {
		switch {
		case (id+outagePeriod/2)%outagePeriod < outageLength && model.name != "calm":
			p.faults = append(p.faults, failure{kind: faultStatus, status: 503})
		case chance(r, model.faulty):
			p.faults = append(p.faults, p.newFault(r, model.limits, scene.patient && scene.config.DisableBreaker))
		case attempt == 0 || chance(r, 0.5):
			p.faults = append(p.faults, failure{})
		}
	}
	// Only the caller's patience ends what no limit of the chain is for.
	if p.limit == 0 && (scene.patient || slices.ContainsFunc(p.faults, p.endless)) {
		p.limit = time.Duration(200+r.IntN(3800)) * time.Millisecond
		p.abrupt = chance(r, 0.5)
	}
	return p
}

// wells is how many endpoints have breakers of their own for each model: the
// first ones, whose payload names it.
const wells = 5

// well fills in a plan of a call that nothing happens to. The scene, the model
// and the endpoint follow from its number.
func (p *plan) well(scenes int) *plan {
	n := int(p.id - wellFrom)
	p.scene, p.model = n%scenes, models[n/scenes%len(models)].name
	p.endpoint = &endpoints[n/scenes/len(models)%wells].endpoint
	p.words, p.framing, p.limit = 3, chunked, maxElapsed
	return p
}

func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

// askBy chooses the request's body.
func (p *plan) askBy(r *rand.Rand) {
	switch n := r.IntN(100); {
	case p.endpoint.method == http.MethodGet:
		return
	case n < 90:
		p.size = r.IntN(2 << 10)
	case n < 98:
		p.size = 32<<10 + r.IntN(96<<10)
	default:
		p.size = maxReplay + r.IntN(512<<10) // streamed through, but for a shared one
	}
	p.body = []bodyKind{sharedBody, sharedBody, sharedBody, knownBody, knownBody, knownBody, opaqueBody, opaqueBody, unsizedBody, slowBodySent}[r.IntN(10)]
	if chance(r, 0.01) {
		p.body = failingBody
	}
	if chance(r, 0.01) {
		p.body = lyingBody
	}
}

// behave chooses what the caller does.
func (p *plan) behave(r *rand.Rand, scene *scene) {
	p.after = time.Duration(float64(time.Millisecond) * math.Exp2(11*r.Float64()))
	p.part = r.Float64()
	p.again = chance(r, 0.1)
	switch n := r.IntN(100); {
	case n < 55:
		p.caller = readsAll
	case n < 60:
		p.caller = readsBySmallSteps
	case n < 64:
		p.caller = readsExactly
	case n < 68:
		p.caller = neverCloses
	case n < 71:
		p.caller = closesUnread
	case n < 77:
		p.caller = closesHalfWay
	case n < 80:
		p.caller = closesWhileRead
	case n < 86:
		p.caller = cancels
	case n < 90:
		p.caller = cancelsHalfWay
	case n < 91:
		p.caller = cancelsAtOnce
	case n < 93 && scene.abandoned != nil:
		p.caller = abandons
	case n < 96:
		p.caller, p.limit = hasDeadline, p.after+time.Millisecond
	default:
		p.caller, p.limit = hasClientTimeout, p.after+time.Millisecond
	}
}

func (p *plan) newFault(r *rand.Rand, limited float64, patient bool) failure {
	f := failure{at: r.Float64(), status: 200}
	if chance(r, 0.1) {
		f.at = 1 // all of it, and yet no end
	}
	if chance(r, limited) {
		f.kind, f.status = faultStatus, http.StatusTooManyRequests
		f.header = [...][2]string{
			{"Retry-After-Ms", strconv.Itoa(1 + r.IntN(40))},
			{"Retry-After", "0.01"},
			{"X-Ratelimit-Reset-Requests", "20ms"},
			{"Retry-After", longPauseHint},
			{"Retry-After", longPauseHint},
			{},
		}[r.IntN(6)]
		return f
	}
	f.kind = failureKind(1 + r.IntN(int(failureKinds)-1))
	if chance(r, 0.3) {
		// What shows only in the answer is the hardest to see.
		f.kind = []failureKind{faultCut, faultEnd, faultEnd, faultErrorInAnswer, faultCorrupt}[r.IntN(5)]
	}
	switch f.kind {
	case faultStatus, faultEarlyStatus:
		f.status = [...]int{400, 401, 404, 408, 409, 413, 500, 500, 502, 503, 503, 504, 521, 529}[r.IntN(14)]
		f.header = [...][2]string{
			{},
			{},
			{"Retry-After-Ms", strconv.Itoa(50 * r.IntN(6))}, // longer than any backoff
			{"Retry-After", "0"},
			{"Retry-After", "NaN"},
			{"X-Should-Retry", "true"},
			{"X-Should-Retry", "false"},
		}[r.IntN(7)]
		if patient && chance(r, 0.2) {
			f.header = [2]string{"Retry-After", "600"}
		}
		if f.kind == faultStatus && chance(r, 0.5) {
			f.error = errorBody(r.IntN(int(errorBodies)))
			if chance(r, 0.3) {
				f.error = slowError
			}
		}
	case faultCorrupt, faultEnd:
		if p.opaque() {
			// Nobody could tell that from the answer that was meant.
			f.kind = faultCut
		}
	case faultErrorInAnswer:
		if p.opaque() {
			f.kind = faultAbort
		}
	default:
	}
	return f
}

// endless reports whether a fault may last until the caller's patience is over:
// IdleTimeout waits for a first byte, and is for good answers only.
func (p *plan) endless(f failure) bool {
	nothing := p.gzip == unzipped || f.at < 0.1 && (!p.stream || p.opaque())
	return f.kind == faultStall && nothing || f.error == stalledError || f.error == endlessError
}

// refuses reports whether the provider kept nothing of an attempt.
func (f failure) refuses() bool {
	return f.status == http.StatusTooManyRequests ||
		f.status == http.StatusServiceUnavailable && strings.HasPrefix(f.header[0], "Retry-After") && f.header[1] != "NaN"
}

// hint returns how long the error of an attempt asks to wait.
func (f failure) hint() time.Duration {
	if f.kind != faultStatus && f.kind != faultEarlyStatus {
		return 0
	}
	switch name, value := f.header[0], f.header[1]; name {
	case "Retry-After-Ms":
		ms, _ := strconv.Atoi(value)
		return time.Duration(ms) * time.Millisecond
	case "X-Ratelimit-Reset-Requests":
		hint, _ := time.ParseDuration(value)
		return hint
	case "Retry-After":
		seconds, err := strconv.ParseFloat(value, 64)
		if err == nil && seconds >= 0 { // NaN is neither
			return time.Duration(seconds * float64(time.Second))
		}
	}
	return 0
}

func (p *plan) fault(attempt int) failure {
	if attempt < 1 || attempt > len(p.faults) {
		return failure{}
	}
	return p.faults[attempt-1]
}

func (p *plan) opaque() bool { return p.endpoint.opaque || p.gzip == zipped }

// once reports whether no attempt may follow one that was sent, whatever came
// of it.
func (p *plan) once(scene *scene) bool {
	large := len(p.payload()) > maxReplay && p.body != sharedBody
	return large || p.endpoint.stateful && !scene.config.RetryStateful
}

// held reports whether the chain holds an answer until it is sure of it: only
// what may be repeated is held.
func (p *plan) held(scene *scene) bool {
	repeatable := !p.once(scene) && (!p.endpoint.stateful || p.stateless) && !p.sdkRetry
	return repeatable && !p.opaque() && scene.config.Delivery != openai.Immediate
}

// replayed reports whether net/http sends the request again by itself, as it
// would without a chain.
func (p *plan) replayed() bool { return p.keyed && (p.body == sharedBody || p.body == knownBody) }

// payload returns the request's body: its order shows, and whose it is.
func (p *plan) payload() []byte {
	if p.endpoint.method == http.MethodGet {
		return nil
	}
	filler := make([]byte, 0, p.size+24)
	for at := uint64(0); len(filler) < p.size; at++ {
		filler = strconv.AppendUint(append(filler, '.'), p.id*7919+at*104729, 36)
	}
	if !p.endpoint.inspected {
		return fmt.Appendf(filler, "%d", p.id)
	}
	return fmt.Appendf(nil, `{"soak":%d,"messages":"%s","model":%q,"stream":%v,"store":%v}`, p.id, filler, p.model, p.stream, !p.stateless)
}

// answer returns what is meant by the answer to an attempt, and where in it
// the events of a stream end. It names the call and the attempt throughout.
func (p *plan) answer(attempt int) (content []byte, ends []int) {
	name := fmt.Sprintf("%d-%d", p.id, attempt)
	if !p.stream {
		text := strings.Repeat(name+" ", p.words)
		return fmt.Appendf(nil, `{"id":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":%d}}`, name, text, p.words), nil
	}
	var b bytes.Buffer
	event := func(event, data string) {
		if p.comments {
			fmt.Fprintf(&b, ": %s%s%s", name, p.lineEnd, p.lineEnd)
		}
		if event != "" {
			fmt.Fprintf(&b, "event: %s%s", event, p.lineEnd)
		}
		fmt.Fprintf(&b, "data: %s%s%s", data, p.lineEnd, p.lineEnd)
		ends = append(ends, b.Len())
	}
	if p.endpoint.stateful {
		event("response.created", `{"type":"response.created","response":{"id":"`+name+`"}}`)
		for n := range p.words {
			event("response.output_text.delta", fmt.Sprintf(`{"type":"response.output_text.delta","delta":"%s %d"}`, name, n))
		}
		event("response.completed", `{"type":"response.completed","response":{"id":"`+name+`","usage":{"input_tokens":9,"output_tokens":1}}}`)
		return b.Bytes(), ends
	}
	chunk := func(choice int, delta, reason string) {
		event("", fmt.Sprintf(`{"id":%q,"choices":[{"index":%d,"delta":%s,"finish_reason":%s}]}`, name, choice, delta, reason))
	}
	for n := range p.choices {
		chunk(n, `{"role":"assistant","content":""}`, "null")
	}
	for n := range p.words * p.choices {
		chunk(n%p.choices, fmt.Sprintf(`{"content":"%s %d"}`, name, n), "null")
	}
	for n := range p.choices {
		chunk(n, "{}", `"stop"`)
	}
	event("", "[DONE]")
	return b.Bytes(), ends
}

// sent returns what an attempt's answer consists of, before anything cuts it
// off, as it goes to the caller.
func (p *plan) sent(attempt int) []byte {
	f := p.fault(attempt)
	if f.kind == faultStatus || f.kind == faultEarlyStatus {
		return f.errorContent(p.id, attempt)
	}
	content, ends := p.answer(attempt)
	event := int(f.at * float64(len(ends)))
	switch {
	case f.kind == faultErrorInAnswer && p.stream:
		return append(content[:before(ends, event)], p.errorEvent()...)
	case f.kind == faultErrorInAnswer:
		content = []byte(`{` + errorMark + `,"type":"server_error","code":null}}`)
	case f.kind == faultCorrupt && p.stream:
		begin, end := before(ends, event), len(content)
		if event < len(ends) {
			end = ends[event]
		}
		return slices.Replace(content, begin, end, []byte("data: "+corruptMark+p.lineEnd+p.lineEnd)...)
	case f.kind == faultCorrupt:
		half := int(f.at * float64(len(content)-1))
		return append(content[:half], strings.Repeat("#", len(content)-half)...)
	}
	if p.gzip == zipped {
		content = compressed(content)
	}
	return content
}

// before returns where an event begins.
func before(ends []int, event int) int {
	if event == 0 {
		return 0
	}
	return ends[event-1]
}

func (p *plan) errorEvent() string {
	if p.endpoint.stateful {
		return "event: error" + p.lineEnd + `data: {"type":"error",` + errorMark + `}}` + p.lineEnd + p.lineEnd
	}
	return `data: {` + errorMark + `,"type":"server_error","code":null}}` + p.lineEnd + p.lineEnd
}

func (f failure) errorContent(id uint64, attempt int) []byte {
	text := fmt.Sprintf("%d-%d", id, attempt)
	code := "server_error"
	switch f.error {
	case emptyError:
		return nil
	case longError:
		text = strings.Repeat(text+" ", 20_000)
	case quotaError:
		code = "insufficient_quota"
	default:
	}
	return fmt.Appendf(nil, `{%s,"type":%q,"code":%q,"param":%q}}`, errorMark, code, code, text)
}

func compressed(content []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(content)
	_ = z.Close()
	return b.Bytes()
}

// whole reports whether a caller who was told the end of a 200's body takes it
// for an answer, as an SDK would. It does not look for what only the plan can
// tell.
func (p *plan) whole(body []byte, attempt int) bool {
	switch {
	case p.opaque():
		return true
	case bytes.Contains(body, []byte(errorMark)), bytes.Contains(body, []byte(corruptMark)):
		return false
	case p.stream:
		content, ends := p.answer(attempt)
		return bytes.HasSuffix(body, content[before(ends, len(ends)-1):])
	default:
		return json.Valid(body)
	}
}

func (p *plan) String() string {
	return fmt.Sprintf("call %d: %s %s, scene %d, model %s, stream %v×%d, words %d, framing %d, gzip %d, %d bytes by body %d, caller %d after %v or %.2f, limit %v (abrupt %v), again %v, keyed %v, sdk %v, faults %+v",
		p.id, p.endpoint.method, p.endpoint.path, p.scene, p.model, p.stream, p.choices, p.words, p.framing, p.gzip, p.size, p.body, p.caller, p.after, p.part, p.limit, p.abrupt, p.again, p.keyed, p.sdkRetry, p.faults)
}
