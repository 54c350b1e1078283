package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

// A load is calls to a fake provider, and what they meet there.
type load struct {
	provider  *openaitest.Server
	second    *openaitest.Server // that stands in for it, for one model
	transport *retrip.Transport
	cycle     time.Duration // in which the provider goes through the schedule
	times     atomic.Pointer[times]
	made      atomic.Int64
}

// newLoad returns a load that is to be closed.
func newLoad(meters metric.MeterProvider, cycle time.Duration) *load {
	// What a provider does to a service in an hour happens here in a minute.
	// Production leaves these times unset.
	var cfg retrip.Config
	cfg.MeterProvider = meters
	cfg.IdleTimeout = 300 * time.Millisecond
	cfg.Breaker.OpenDuration = cycle / 15
	cfg.Retry.Backoff = func() backoff.BackOff {
		return backoff.NewExponentialBackOff(backoff.WithInitialInterval(50 * time.Millisecond))
	}
	l := &load{provider: openaitest.NewServer(), second: openaitest.NewServer(), cycle: cycle}
	l.second.Always(openaitest.Chat, healthy)
	cfg.Targets = []retrip.Target{
		{}, // home
		{Name: "second", BaseURL: l.second.URL, Header: http.Header{"Authorization": {"Bearer none"}}, Models: map[string]string{standsIn: "llama-3.3-70b"}, Tier: 1},
	}
	l.transport = retrip.NewTransport(nil, cfg)
	return l
}

// standsIn is the model that the second target has, too.
const standsIn = "gpt-5.4-mini"

// close ends the providers and the gauges of the breakers.
func (l *load) close() {
	l.transport.CloseIdleConnections()
	_ = l.transport.Close()
	l.provider.Close()
	l.second.Close()
}

// run makes calls until ctx is over.
func (l *load) run(ctx context.Context) {
	l.times.Store(&schedule[0])
	var group sync.WaitGroup
	group.Go(func() { l.follow(ctx) })
	for _, k := range kinds {
		made := new(atomic.Int64)
		for range k.workers {
			group.Go(func() { l.repeat(ctx, k, made) })
		}
	}
	group.Wait()
}

// A times is how a provider is for a while.
type times struct {
	always map[string]openaitest.Answer   // by endpoint
	faults map[string][]openaitest.Answer // met in turn, by every fourth call
}

// healthy is an answer that takes its time as a model does.
var healthy = openaitest.Answer{Delay: 30 * time.Millisecond, Pace: 15 * time.Millisecond}

var (
	throttled = openaitest.Status(http.StatusTooManyRequests).With("Retry-After-Ms", "700")
	spent     = openaitest.Error(http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota", "You exceeded your quota")
	down      = openaitest.Status(http.StatusServiceUnavailable)
)

// schedule is a cycle: usual times, a rate limit, an outage, a recovery.
var schedule = []times{
	{
		faults: map[string][]openaitest.Answer{
			openaitest.Chat: {
				down,
				healthy.CutAfter(4),
				openaitest.ResetBeforeHeaders(),
				healthy.StallAfter(4),
				openaitest.Status(http.StatusInternalServerError),
				healthy.ErrorAfter(4, "server_error", "", "The server had an error"),
				openaitest.Status(http.StatusBadRequest), // the caller's mistake
				healthy.EndAfter(4),
			},
			openaitest.Messages:  {healthy.StallAfter(4)},
			openaitest.Responses: {throttled, down, healthy.CutAfter(6)}, // a cut is resumed, of those in the background; else nothing is repeated: responses are stateful
		},
	},
	{
		faults: map[string][]openaitest.Answer{openaitest.Embeddings: {throttled, throttled, throttled, spent}},
	},
	{
		always: map[string]openaitest.Answer{openaitest.Chat: down},
	},
	{},
}

// follow goes through the schedule, again and again.
func (l *load) follow(ctx context.Context) {
	for {
		for i := range schedule {
			now := &schedule[i]
			l.provider.Heal()
			for _, endpoint := range []string{openaitest.Chat, openaitest.Embeddings, openaitest.Messages, openaitest.Responses} {
				l.provider.Always(endpoint, healthy)
			}
			for endpoint, answer := range now.always {
				l.provider.Always(endpoint, answer)
			}
			l.times.Store(now)
			if !pause(ctx, l.cycle/time.Duration(len(schedule))) {
				return
			}
		}
	}
}

// A kind is a call that is made again and again.
type kind struct {
	workers               int
	endpoint, path, model string
	input                 string // the field that holds it
	stream, background    bool
}

var kinds = []kind{
	{4, openaitest.Chat, "/chat/completions", standsIn, "messages", false, false},
	{4, openaitest.Chat, "/chat/completions", "gpt-5.4", "messages", true, false},
	{2, openaitest.Embeddings, "/embeddings", "text-embedding-3-small", "input", false, false},
	{1, openaitest.Messages, "/messages", "claude-opus-4-6", "messages", true, false},
	{2, openaitest.Responses, "/responses", "gpt-5.4-pro", "input", true, false},
	{2, openaitest.Responses, "/responses", "gpt-5.4-deep", "input", true, true},
}

// repeat makes calls of a kind until ctx is over; made counts them, with those
// of other workers.
func (l *load) repeat(ctx context.Context, k kind, made *atomic.Int64) {
	for {
		n := int(made.Add(1))
		if faults := l.times.Load().faults[k.endpoint]; n%4 == 0 && len(faults) > 0 {
			l.provider.Script(k.endpoint, faults[n/4%len(faults)])
		}
		l.once(ctx, k, n)
		if !pause(ctx, 60*time.Millisecond) {
			return
		}
	}
}

// once makes a call, the n-th of its kind. What becomes of it is in the metrics.
func (l *load) once(ctx context.Context, k kind, n int) {
	l.made.Add(1)
	if n%21 == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond) // a caller in a hurry
		defer cancel()
	}
	var input any = "Hello!"
	if k.input == "messages" {
		input = []map[string]string{{"role": "user", "content": "Hello!"}}
	}
	body := map[string]any{"model": k.model, k.input: input}
	if k.stream {
		body["stream"] = true
		if k.endpoint == openaitest.Chat {
			body["stream_options"] = map[string]bool{"include_usage": true} // else it counts no tokens
		}
	}
	if k.background {
		body["background"] = true // its stream can be taken up again
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.provider.URL+k.path, bytes.NewReader(payload))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	if k.endpoint == openaitest.Messages {
		req.Header.Set("Anthropic-Version", "2023-06-01")
	}
	client := http.Client{Transport: l.transport}
	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var answer io.Reader = resp.Body
	if n%15 == 0 {
		answer = io.LimitReader(answer, 400) // a caller who has read enough
	}
	_, _ = io.Copy(io.Discard, answer)
}

// pause waits, and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
