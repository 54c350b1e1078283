package openai_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// sse returns a stream that ends in an error, or in io.EOF if end is nil.
func sse(body string, end error) stub.Func {
	if end == nil {
		end = io.EOF
	}
	return func(*http.Request) (*http.Response, error) {
		resp := stub.Response(200, "", "Content-Type", "text/event-stream")
		resp.Body, resp.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(body), errReader{end})), -1
		return resp, nil
	}
}

const wholeStream = tokenEvent + endEvent + doneEvent

// anyFailures are what a target may do that must not cost a call another target's answer.
// Those of the second list are streams that break after they have begun, which Whole mends.
var (
	anyFailures = []stub.Func{
		busy, internal, truncated, inBand, lostConn, speechless, reply(529, ""), reply(204, ""), reply(200, ""),
		apiError(408, ""), apiError(429, "rate_limit_exceeded"), rateLimitedFor("1"), rateLimitedFor("30"),
		apiError(429, "insufficient_quota"), apiError(402, ""), apiError(401, "invalid_api_key"), apiError(404, "model_not_found"),
		reply(307, "", "Location", "https://evil.example/"), reply(503, "", "X-Should-Retry", "false"), reply(503, "", "Retry-After", "20"),
		reply(200, "<html>x</html>", "Content-Type", "text/html"),
		inBandError(false, `{"code":401,"type":"authentication_error"}`), inBandError(false, `{"code":"rate_limit_exceeded"}`),
	}
	brokenStreams = []stub.Func{
		sse(tokenEvent, nil), sse(tokenEvent, io.ErrUnexpectedEOF), sse(tokenEvent+endEvent, io.ErrUnexpectedEOF), sse("", nil),
		sse("data: {\"choices\":[{]\n\n", nil), sse(tokenEvent+"data: {\"error\":{\"code\":\"server_error\"}}\n\n", nil),
		timed(part{0, tokenEvent}, part{time.Hour, ""}), timed(slices.Repeat([]part{{time.Second, ": ping\n\n"}}, 600)...),
		inBandError(true, `{"code":"insufficient_quota"}`),
	}
)

// anyConfig draws a Config with three targets that have credentials of their own. All but
// the one that is well may have an Authorize that fails or hangs.
func anyConfig(r *rand.Rand, well int, stream bool) openai.Config {
	cfg := openai.Config{FirstEventTimeout: 20 * time.Second, IdleTimeout: 5 * time.Second, DisableBreaker: r.IntN(3) == 0}
	if stream || r.IntN(2) == 0 {
		cfg.Delivery = openai.Whole
	}
	if r.IntN(3) == 0 {
		cfg.Breaker.FailureThreshold = 1
	}
	if r.IntN(3) == 0 {
		cfg.Pacing = openai.Off
	}
	if r.IntN(2) == 0 {
		cfg.Retry.Budget = retry.NewBudget(float64(r.IntN(12)), 0)
	}
	if r.IntN(2) == 0 {
		cfg.Retry.MaxAttempts = 2 + r.IntN(2)
	}
	cfg.Retry.AttemptTimeout = time.Duration(r.IntN(2)) * 10 * time.Second
	for i, host := range []string{atHome, atEU, atUS} {
		target := openai.Target{Name: strings.Split(host, ".")[0], BaseURL: "https://" + host + "/v1", Header: bearer(host), Tier: r.IntN(3)}
		hangs := cfg.Retry.AttemptTimeout > 0 && r.IntN(2) == 0
		if i != well && r.IntN(6) == 0 {
			target.Authorize = func(req *http.Request) error {
				if hangs {
					<-req.Context().Done()
				}
				return io.ErrNoProgress
			}
		}
		if r.IntN(4) == 0 {
			target.Models = map[string]string{"*": "other"}
		}
		cfg.Targets = append(cfg.Targets, target)
	}
	return cfg
}

// Whatever two targets do, the third answers: in time, and no target is met more often
// than a call may meet it.
func TestACallIsAnsweredWhileOneOfItsTargetsIsWell(t *testing.T) {
	t.Parallel()
	for seed := range uint64(800) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1)) // to repeat itself
			well, stream := r.IntN(3), r.IntN(2) == 0
			failures, payload, answer := anyFailures, `{"model":"gpt-4o","messages":[]}`, reply(200, fine)
			if stream {
				failures, answer = slices.Concat(anyFailures, brokenStreams), sse(wholeStream, nil)
				payload = `{"model":"gpt-4o","messages":[],"stream":true}`
			}
			w := newWorld()
			for i, host := range []string{atHome, atEU, atUS} {
				w.at(host, failures[r.IntN(len(failures))], failures[r.IntN(len(failures))], answer, failures[r.IntN(len(failures))])
				if i == well {
					w.at(host, answer)
				}
			}
			tr := newChain(t, w, anyConfig(r, well, stream))
			for range 6 {
				w.visits = nil
				began, most := time.Now(), 2
				req := request(t, t.Context(), http.MethodPost, chatURL, payload)
				if r.IntN(4) == 0 {
					req.Header.Set("X-Stainless-Retry-Count", "1")
					most = 1
				}
				got := do(t, tr, req)
				redirected := got.status == 307 // by the caller's own origin, for the caller to follow
				if !redirected && (got.status != 200 || got.err != nil || got.body != fine && got.body != wholeStream) {
					t.Errorf("seed %d: got %d, %v, went %q", seed, got.status, got.err, w.way())
				}
				if took := time.Since(began); took > 90*time.Second {
					t.Errorf("seed %d: it took %v", seed, took)
				}
				for _, target := range []string{"home", "eu", "us"} {
					if n := strings.Count(w.way(), target); n > most {
						t.Errorf("seed %d: it went %q", seed, w.way())
					}
				}
				time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
			}
		})
	}
}
