package openai_test

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
)

// short has the attributes that have one word in wantInstruments.
var short = map[string][]string{
	"B":    {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port"},
	"E":    {"retrip.backend", "retrip.endpoint", "gen_ai.request.model", "server.address"},
	"name": {"retrip.breaker.name", "gen_ai.request.model"},
}

// wantInstruments are all there are, each with its package, unit, kind or bounds,
// and all labels that a series of it may have.
const wantInstruments = `
breaker: retrip.breaker.calls {call} counter: name retrip.breaker.outcome
breaker: retrip.breaker.consecutive_failures {failure} gauge: name
breaker: retrip.breaker.state {breaker} updowncounter: name retrip.breaker.state
breaker: retrip.breaker.transitions {transition} counter: name retrip.breaker.from retrip.breaker.to
openai: gen_ai.client.inference.duration s seconds: B error.type gen_ai.response.model retrip.target
openai: gen_ai.client.inference.operation.input_tokens {token} tokens: B gen_ai.response.model retrip.target
openai: gen_ai.client.inference.operation.output_tokens {token} tokens: B gen_ai.response.model retrip.target
openai: gen_ai.client.inference.time_to_first_chunk s seconds: B gen_ai.response.model retrip.target
openai: gen_ai.client.inference.usage.cache_read.input_tokens {token} counter: B gen_ai.response.model retrip.target
openai: gen_ai.client.inference.usage.cache_write.input_tokens {token} counter: B gen_ai.response.model retrip.target
openai: gen_ai.client.inference.usage.input_tokens {token} counter: B gen_ai.response.model retrip.target
openai: gen_ai.client.inference.usage.output_tokens {token} counter: B gen_ai.response.model retrip.target
openai: gen_ai.client.inference.usage.reasoning.output_tokens {token} counter: B gen_ai.response.model retrip.target
openai: gen_ai.client.operation.duration s seconds: B error.type gen_ai.response.model retrip.target
openai: retrip.client.attempt.duration s seconds: B error.type http.response.status_code retrip.target
openai: retrip.client.resumes {resume} counter: B retrip.resume.outcome
openai: retrip.client.stream.outcomes {stream} counter: B retrip.stream.outcome retrip.target
openai: retrip.failovers {failover} counter: E error.type retrip.target.from retrip.target.to
openai: retrip.pacing.rate {request}/s gauge: gen_ai.request.model retrip.target server.address
openai: retrip.pacing.waiting {call} updowncounter: gen_ai.request.model retrip.target server.address
openai: retrip.pacing.waits s delays: E retrip.pacing.outcome retrip.target
retry: retrip.retries {retry} counter: E error.type retrip.retry.delay_source retrip.retry.reason retrip.target
retry: retrip.retry.attempts {attempt} attempts: E error.type
retry: retrip.retry.delay s delays: E retrip.retry.delay_source
retry: retrip.retry.exhaustions {call} counter: E error.type retrip.retry.stop_reason
`

// instruments renders what was recorded as wantInstruments is.
func instruments(t *testing.T, reader *sdk.ManualReader) string {
	t.Helper()
	keys := map[string]map[string]bool{}
	for _, s := range collect(t, reader) {
		if keys[s.name] == nil {
			keys[s.name] = map[string]bool{}
		}
		for key := range s.attrs {
			keys[s.name][key] = true
		}
	}
	lines := map[string]bool{}
	for line := range strings.Lines(golden(t, reader)) {
		head := strings.Fields(line)[:4]
		lines[strings.Join(head, " ")+":"+shortened(keys[head[1]])] = true
	}
	return "\n" + strings.Join(slices.Sorted(maps.Keys(lines)), "\n") + "\n"
}

func shortened(keys map[string]bool) string {
	rest := maps.Clone(keys)
	var words []string
	for _, name := range slices.Sorted(maps.Keys(short)) {
		if !slices.ContainsFunc(short[name], func(key string) bool { return !rest[key] }) {
			words = append(words, name)
			maps.DeleteFunc(rest, func(key string, _ bool) bool { return slices.Contains(short[name], key) })
		}
	}
	words = append(words, slices.Sorted(maps.Keys(rest))...)
	return " " + strings.Join(words, " ")
}

// TestInstruments: no name, unit, bound or label changes unseen.
func TestInstruments(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		d := &badDay{random: rand.New(rand.NewPCG(1, 2))}
		const details = `{"model":"m-1","usage":{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}`
		base := stub.Func(func(req *http.Request) (*http.Response, error) {
			switch {
			case req.URL.RawQuery == "fails":
				return reply(400, "your fault")(req)
			case strings.HasSuffix(req.URL.Path, "/embeddings"):
				return answers(reply(200, details)).RoundTrip(req)
			case strings.HasSuffix(req.URL.Path, "/completions") && !strings.Contains(req.URL.Path, "chat"):
				return answers(reply(200, `{"object":"text_completion","choices":[{"text":"x","finish_reason":"stop"}],`+details[1:])).RoundTrip(req)
			}
			return d.RoundTrip(req)
		})
		chain := newChain(t, base, openai.Config{MeterProvider: provider, Targets: homeAndEU(), FirstEventTimeout: 5 * time.Second})
		d.chats(t, chain, 200)
		d.resumed(t, chain)
		for _, path := range []string{"/v1/embeddings", "/v1/completions"} {
			do(t, chain, request(t, t.Context(), http.MethodPost, origin+path, `{"model":"m","input":"hi","prompt":"hi"}`))
			do(t, chain, request(t, t.Context(), http.MethodPost, origin+path+"?fails", `{"model":"m","input":"hi","prompt":"hi"}`))
		}
		got := instruments(t, reader)
		for line := range strings.Lines(wantInstruments) {
			if !strings.Contains(got, line) {
				t.Errorf("missing  %s", line)
			}
		}
		for line := range strings.Lines(got) {
			if !strings.Contains(wantInstruments, line) {
				t.Errorf("recorded %s", line)
			}
		}
	})
}
