package soak

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A routedPlan is one call through a chain with targets. As a plan it follows from
// the seed and its number alone.
type routedPlan struct {
	seed, id uint64
	scene    int

	api    *api
	model  string
	stream bool
	words  int
	size   int // of the payload's filler
	body   bodyKind
	key    int // whose of the callers' credentials

	caller behavior
	after  time.Duration
	part   float64
	limit  time.Duration

	session  string
	alone    bool // WithoutFailover
	once     bool // WithMaxAttempts(1)
	sdkRetry bool
	well     bool // nothing happens to it

	answeredBy atomic.Int32 // the site, and one
}

// An api is a kind of call.
type api struct {
	weight       int
	method, path string
	kind         apiKind
	streams      bool
	routed       bool // it may go to another target than home
}

type apiKind int

const (
	chatAPI apiKind = iota
	messagesAPI
	embeddingsAPI
	responsesAPI  // stateful: home only, once
	backgroundAPI // resumed
	filesAPI
	modelsAPI
)

var apis = []api{
	{40, http.MethodPost, "/v1/chat/completions", chatAPI, true, true},
	{25, http.MethodPost, "/v1/messages", messagesAPI, true, true},
	{10, http.MethodPost, "/v1/embeddings", embeddingsAPI, false, true},
	{5, http.MethodPost, "/v1/responses", responsesAPI, false, false},
	{14, http.MethodPost, "/v1/responses", backgroundAPI, true, false},
	{3, http.MethodPost, "/v1/files", filesAPI, false, false},
	{3, http.MethodGet, "/v1/models", modelsAPI, false, false},
}

// poor is the caller whose account has nothing left at home.
const (
	callersKeys = 40
	poor        = 7
)

func (p *routedPlan) secret() string { return callerSecret + strconv.Itoa(p.key) + "." }

func newRoutedPlan(seed, id uint64, scenes int) *routedPlan {
	r := rand.New(rand.NewPCG(seed, id))
	p := &routedPlan{seed: seed, id: id, scene: r.IntN(scenes), model: "safe", words: 1 + r.IntN(12), key: r.IntN(callersKeys)}
	pick := r.IntN(100)
	for i := range apis {
		if pick -= apis[i].weight; pick < 0 {
			p.api = &apis[i]
			break
		}
	}
	if chance(r, 0.4) {
		p.model = "rough"
	}
	p.stream = p.api.streams && (p.api.kind == backgroundAPI || chance(r, 0.5))
	switch n := r.IntN(100); {
	case n < 85:
		p.size = r.IntN(6 << 10) // around the size up to which a renamed payload is copied
	case n < 97:
		p.size = 16<<10 + r.IntN(64<<10)
	default:
		p.size = maxReplay + r.IntN(128<<10) // streamed through, but for a shared one
	}
	p.body = []bodyKind{sharedBody, sharedBody, knownBody, knownBody, opaqueBody, unsizedBody}[r.IntN(6)]
	p.after = time.Duration(float64(time.Millisecond) * math.Exp2(11*r.Float64()))
	p.part = r.Float64()
	switch n := r.IntN(100); {
	case n < 65:
		p.caller = readsAll
	case n < 70:
		p.caller = readsBySmallSteps
	case n < 74:
		p.caller = closesHalfWay
	case n < 79:
		p.caller = cancels
	case n < 83:
		p.caller = cancelsHalfWay
	case n < 86:
		p.caller = abandons
	case n < 93:
		p.caller, p.limit = hasDeadline, p.after+time.Millisecond
	default:
		p.caller, p.limit = hasClientTimeout, p.after+time.Millisecond
	}
	if p.api.kind == backgroundAPI && p.limit == 0 {
		p.caller, p.limit = hasDeadline, 4*time.Second // it may be resumed for much longer
	}
	if chance(r, 0.3) {
		p.session = strconv.Itoa(r.IntN(30))
	}
	p.alone, p.once, p.sdkRetry = chance(r, 0.04), chance(r, 0.04), chance(r, 0.05)
	return p
}

// wellRoutedPlan is a call of a scene that nothing happens to.
func wellRoutedPlan(scene int) *routedPlan {
	return &routedPlan{id: wellFrom + wellIDs.Add(1), scene: scene, api: &apis[0], model: "safe", words: 2, well: true}
}

var wellIDs atomic.Uint64

// isSheltered reports whether a call must not fail, as TestSoakOfTargets has it.
func (p *routedPlan) isSheltered() bool {
	patient := p.caller == readsAll || p.caller == readsBySmallSteps || p.caller == closesHalfWay
	kept := p.size < maxReplay/2 || p.body == sharedBody
	return p.model == "safe" && p.api.routed && patient && kept && !p.alone && !p.once
}

// wasSlow reports whether the harbour's own answer ran into a time limit of ours.
func wasSlow(report *retry.Report) bool {
	for _, try := range report.Tried {
		if try.Target == siteNames[harbour] && try.Err != nil && fault.IsTimeout(try.Err) {
			return true
		}
	}
	return false
}

// isHeld reports whether an answer is held until all of it is there.
func (p *routedPlan) isHeld(d openai.Delivery) bool {
	return p.api.routed && (d == openai.Whole || d == openai.FromFirstEvent && !p.stream)
}

// payload returns the request's body with the model under the name that it has at
// a site.
func (p *routedPlan) payload(model string) []byte {
	if p.api.kind == modelsAPI {
		return nil
	}
	filler := make([]byte, 0, p.size+24)
	for at := uint64(0); len(filler) < p.size; at++ {
		filler = strconv.AppendUint(append(filler, '.'), p.id*7919+at*104729, 36)
	}
	if p.api.kind == filesAPI {
		return fmt.Appendf(filler, "%d", p.id)
	}
	rest := fmt.Sprintf(`"stream":%v`, p.stream)
	if p.api.kind == backgroundAPI {
		rest += `,"background":true`
	}
	return fmt.Appendf(nil, `{"soak":%d,"messages":"%s","model":%q,%s}`, p.id, filler, model, rest)
}

// answer returns what a site means to answer an attempt.
func (p *routedPlan) answer(at siteIndex, attempt int) (content []byte, ends []int) {
	name := fmt.Sprintf("%s-%d-%d", siteNames[at], p.id, attempt)
	text := strings.Repeat(name+" ", p.words)
	switch {
	case p.api.kind == backgroundAPI:
		return p.run()
	case p.api.kind == responsesAPI, p.api.kind == filesAPI, p.api.kind == modelsAPI:
		return fmt.Appendf(nil, `{"id":%q,"status":"completed","output":[]}`, text), nil
	case p.api.kind == embeddingsAPI:
		return fmt.Appendf(nil, `{"object":"list","model":%q,"data":[{"index":0,"embedding":[%d]}],"usage":{"prompt_tokens":9}}`, name, p.id%1000), nil
	case p.api.kind == messagesAPI && !p.stream:
		return fmt.Appendf(nil, `{"id":%q,"type":"message","role":"assistant","content":[{"type":"text","text":%q}],"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":3}}`, name, text), nil
	case !p.stream:
		return fmt.Appendf(nil, `{"id":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}]}`, name, text), nil
	}
	var b events
	if p.api.kind == messagesAPI {
		b.add("message_start", fmt.Sprintf(`{"type":"message_start","message":{"id":%q,"type":"message","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}`, name))
		b.add("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
		for n := range p.words {
			b.add("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s %d"}}`, name, n))
		}
		b.add("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}`)
		b.add("message_stop", `{"type":"message_stop"}`)
		return b.Bytes(), b.ends
	}
	for n := range p.words {
		b.add("", fmt.Sprintf(`{"id":%q,"choices":[{"index":0,"delta":{"content":"%s %d"},"finish_reason":null}]}`, name, name, n))
	}
	b.add("", fmt.Sprintf(`{"id":%q,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, name))
	b.add("", "[DONE]")
	return b.Bytes(), b.ends
}

// run returns the events of a response that runs in the background: they are the
// same whoever asks for them, and however often.
func (p *routedPlan) run() (content []byte, ends []int) {
	var b events
	state := func(name, status string) {
		b.add(name, fmt.Sprintf(`{"type":%q,"sequence_number":%d,"response":{"id":%q,"status":%q,"usage":{"input_tokens":9,"output_tokens":3}}}`, name, len(b.ends), p.responseID(), status))
	}
	state("response.created", "queued")
	state("response.in_progress", "in_progress")
	for range 3 * p.words {
		b.add("response.output_text.delta", fmt.Sprintf(`{"type":"response.output_text.delta","sequence_number":%d,"delta":"%d"}`, len(b.ends), p.id))
	}
	state("response.completed", "completed")
	return b.Bytes(), b.ends
}

func (p *routedPlan) responseID() string { return fmt.Sprintf("resp_%d", p.id) }

// events are those of a stream, and where each ends.
type events struct {
	bytes.Buffer

	ends []int
}

func (b *events) add(name, data string) {
	if name != "" {
		fmt.Fprintf(b, "event: %s\n", name)
	}
	fmt.Fprintf(b, "data: %s\n\n", data)
	b.ends = append(b.ends, b.Len())
}
