package openai_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A badDay is two providers of chats at which anything may happen, and a
// response in the background whose stream breaks off.
type badDay struct {
	run      atomic.Pointer[run]
	requests atomic.Int64

	mu     sync.Mutex
	random *rand.Rand
}

func (d *badDay) RoundTrip(req *http.Request) (*http.Response, error) {
	d.requests.Add(1)
	if strings.Contains(req.URL.Path, "/responses") {
		return d.run.Load().RoundTrip(req)
	}
	const usage = `,"usage":{"prompt_tokens":9,"completion_tokens":7}}`
	events := func(texts ...string) stub.Func {
		return reply(200, strings.Join(texts, ""), "Content-Type", "text/event-stream")
	}
	d.mu.Lock()
	n := d.random.IntN(20)
	d.mu.Unlock()
	var answer stub.Func
	switch n {
	case 0:
		answer = busy
	case 1:
		answer = internal
	case 2:
		answer = lostConn
	case 3:
		answer = reply(429, `{"error":{"code":"rate_limit_exceeded"}}`, "Retry-After", "2")
	case 4:
		answer = reply(400, "your fault")
	case 5:
		answer = truncated
	case 6:
		answer = inBand
	case 7:
		answer = events(tokenEvent) // and no end
	case 8:
		answer = events(tokenEvent, `data: {"error":{"code":"server_error"}}`+"\n\n")
	case 9:
		answer = speechless
	case 10, 11, 12:
		answer = events(roleEvent, tokenEvent, endEvent, usageEvent, doneEvent)
	default:
		answer = reply(200, strings.TrimSuffix(fine, "}")+usage)
	}
	return slowly(answer)(req)
}

// chats makes calls one after the other, and returns how many ended well with
// what the provider counted.
func (d *badDay) chats(t *testing.T, chain http.RoundTripper, calls int) (counted int) {
	for range calls {
		resp, err := chain.RoundTrip(asks(t, t.Context()))
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && strings.Contains(string(body), `"usage"`) {
			counted++
		}
		time.Sleep(200 * time.Millisecond)
	}
	return counted
}

// resumed makes calls whose stream breaks off, and returns how many requests asked
// for the rest, and how many breaks there were.
func (d *badDay) resumed(t *testing.T, chain http.RoundTripper) (requests, breaks int) {
	events := background(6)
	cut := ending{after: prefix(events, 4) + 9, err: errCut}
	for _, endings := range [][]ending{{toItEnd}, {cut, toItEnd}, {cut, {after: 250, err: errCut}, toItEnd}, {cut, {instead: reply(404, "")}}} {
		d.run.Store(&run{events: events, endings: endings})
		var report retry.Report
		resp := respond(t, retry.WithReport(t.Context(), &report), chain, inBackground)
		_, _ = readBy(resp.Body, 100)
		requests += report.Resumes
		breaks += len(endings) - 1
	}
	return requests, breaks
}

// TestTheBooksBalanceOnABadDay: calls fail, are repeated, queue for a rate limit,
// are refused by breakers, move on to another target and are taken up again, all
// at the same time, and nothing is counted twice or not at all.
func TestTheBooksBalanceOnABadDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const workers, each = 10, 40
		reader, provider := newReader()
		d := &badDay{random: rand.New(rand.NewPCG(1, 2))}
		chain := newChain(t, d, openai.Config{MeterProvider: provider, Targets: homeAndEU(), FirstEventTimeout: 5 * time.Second})
		var counted, asked, breaks atomic.Int64
		var group sync.WaitGroup
		for range workers {
			group.Go(func() { counted.Add(int64(d.chats(t, chain, each))) })
		}
		group.Go(func() {
			requests, n := d.resumed(t, chain)
			asked.Add(int64(requests))
			breaks.Add(int64(n))
		})
		group.Wait()

		data := collect(t, reader)
		count := func(name string, attrs ...string) int64 { return int64(data.count(name, attrs...)) }
		sum := func(name string, attrs ...string) int64 { return int64(data.sum(name, attrs...)) }
		for _, row := range []struct {
			what      string
			got, want int64
		}{
			{"operations are calls", count(inferenceDuration), workers*each + 4},
			{"attempts are requests", count(attemptDuration), d.requests.Load()},
			{"attempts are calls that started, retries and requests to resume", count(attemptDuration), count("retrip.retry.attempts") + sum("retrip.retries") + asked.Load()},
			{"permits settled are attempts", sum("retrip.breaker.calls") - sum("retrip.breaker.calls", "retrip.breaker.outcome", "rejected"), count(attemptDuration)},
			{"attempts of calls are those that their histogram has", sum("retrip.retry.attempts") + asked.Load(), count(attemptDuration)},
			{"breaks are resumed or not", sum("retrip.client.resumes"), breaks.Load()},
			{"a breaker is in one state", sum("retrip.breaker.state"), int64(len(chain.Snapshot().Breakers))},
			{"nobody waits any more", sum("retrip.pacing.waiting"), 0},
			{"tokens are what was counted", sum(inputTokens) - 9*4, 9 * counted.Load()},
		} {
			if row.got != row.want {
				t.Errorf("%s: %d, want %d", row.what, row.got, row.want)
			}
		}
		neverStarted := count(inferenceDuration) - count("retrip.retry.attempts")
		if refused := count(inferenceDuration, "error.type", "circuit_open") + count(inferenceDuration, "error.type", "rate_limited"); neverStarted > refused {
			t.Errorf("%d calls never started, and only %d were refused", neverStarted, refused)
		}
		if waited := data.sum("retrip.pacing.waits"); waited == 0 || waited > data.sum(inferenceDuration) {
			t.Errorf("%v s in queues, of operations that took %v s", waited, data.sum(inferenceDuration))
		}
		if exhausted, failed := sum("retrip.retry.exhaustions"), count(inferenceDuration)-count(inferenceDuration, "error.type", "-"); exhausted == 0 || exhausted > failed {
			t.Errorf("%d calls given up, %d failed", exhausted, failed)
		}
		for _, name := range []string{"retrip.failovers", "retrip.client.stream.outcomes", "retrip.retries", "retrip.client.resumes"} {
			if sum(name) == 0 {
				t.Errorf("it was too good a day: no %s", name)
			}
		}
	})
}
