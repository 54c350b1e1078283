package openai_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
)

func TestWhereAStreamThatBreaksUnderWholeGoes(t *testing.T) {
	t.Parallel()
	failing := func(object string) string { return `data: {"error":` + object + "}\n\n" }
	for name, row := range map[string]struct {
		home   string
		end    error // of the stream; nil is io.EOF
		stalls bool
		dead   bool // the other target
		way    string
		err    error // that the reader gets
		within time.Duration
	}{
		"silence behind a finish_reason ends it":  {home: tokenEvent + endEvent, stalls: true, way: "home", within: 10 * time.Second},
		"silence before that is a stall":          {home: tokenEvent, stalls: true, way: "home eu", within: time.Minute},
		"the usage is missing":                    {home: tokenEvent + endEvent, way: "home"},
		"a [DONE] without its blank line":         {home: tokenEvent + endEvent + "data: [DONE]", way: "home"},
		"a reset behind [DONE]":                   {home: wholeStream, end: io.ErrUnexpectedEOF, way: "home", err: io.ErrUnexpectedEOF},
		"an end too early":                        {home: tokenEvent, way: "home eu"},
		"an end too early, the others are dead":   {home: tokenEvent, dead: true, way: "home eu home eu", err: openai.ErrTruncated, within: 3 * time.Second},
		"an error behind content":                 {home: tokenEvent + failing(`{"code":"server_error"}`), way: "home eu"},
		"a quota behind content":                  {home: tokenEvent + failing(`{"code":"insufficient_quota"}`), way: "home eu"},
		"a policy of content is the caller's own": {home: tokenEvent + failing(`{"code":"content_filter"}`) + doneEvent, way: "home"},
		"a context that is too long":              {home: failing(`{"code":400,"type":"exceed_context_size_error"}`), way: "home eu"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld().at(atHome, sse(row.home, row.end)).at(atEU, sse(wholeStream, nil))
				if row.stalls {
					w.at(atHome, timed(part{0, row.home}, part{time.Hour, ""}))
				}
				if row.dead {
					w.at(atEU, busy)
				}
				targets := homeAndEU()
				targets[1].Models = map[string]string{"m": "long"}
				tr := newChain(t, w, openai.Config{Targets: targets, Delivery: openai.Whole, Breaker: neverOpen, IdleTimeout: time.Minute})
				got := do(t, tr, request(t, t.Context(), http.MethodPost, chatURL, streamed))
				if w.way() != row.way || got.status != 200 || !errors.Is(got.err, row.err) || (got.err == nil) != (row.err == nil) {
					t.Errorf("went %q, got %d, %v, %q", w.way(), got.status, got.err, got.body)
				}
				if took := time.Since(w.start); took > row.within {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// What is lost behind a whole JSON value, such as the end of the chunks, is no part of
// the answer. Its reader sees the loss as without the chain; the provider has answered.
func TestAConnectionLostBehindAJSONValueIsNoFailureOfTheProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld().at(atHome, replyWith(200, func() io.Reader {
			return io.MultiReader(strings.NewReader(fine), errReader{io.ErrUnexpectedEOF})
		}, -1, "Content-Type", "application/json"))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		for range 8 {
			if got := do(t, tr, asks(t, t.Context())); got.body != fine || !errors.Is(got.err, io.ErrUnexpectedEOF) {
				t.Errorf("got %+v", got)
			}
			time.Sleep(time.Second)
		}
		if b := tr.Snapshot().Breakers; len(b) != 1 || b[0].State != breaker.Closed || b[0].Totals.Success != 8 {
			t.Errorf("went %q, %+v", w.way(), b)
		}
	})
}

// TestResetsOfRealConnections cuts connections of HTTP/1.1, and resets streams of HTTP/2,
// behind the last bytes of an answer and before them.
func TestResetsOfRealConnections(t *testing.T) {
	t.Parallel()
	modes := []openai.Delivery{openai.FromFirstEvent, openai.Immediate, openai.Whole}
	for name, row := range map[string]struct {
		payload, body string
		others        [3]int32 // requests to the other target, by delivery
		harmless      bool     // no connection is cut
	}{
		"behind [DONE]":          {streamed, wholeStream, [3]int32{}, false},
		"behind a finish_reason": {streamed, tokenEvent + endEvent, [3]int32{0, 0, 1}, false},
		"in the answer":          {streamed, tokenEvent, [3]int32{0, 0, 1}, false},
		"before the answer":      {streamed, comment, [3]int32{1, 0, 1}, false},
		"behind a JSON value":    {asked, fine, [3]int32{}, false},
		"in a JSON value":        {asked, fine[:20], [3]int32{1, 0, 1}, false},
		"never":                  {streamed, wholeStream, [3]int32{}, true},
	} {
		for _, http2 := range []bool{false, true} {
			for _, mode := range modes {
				t.Run(fmt.Sprintf("%s/HTTP2 %v/%v", name, http2, mode), func(t *testing.T) {
					t.Parallel()
					var home, other atomic.Int32
					url, base := serve(t, http2, func(w http.ResponseWriter, r *http.Request) {
						_, _ = io.Copy(io.Discard, r.Body)
						if strings.HasPrefix(r.URL.Path, "/other") {
							other.Add(1)
							_, _ = io.WriteString(w, wholeAnswerTo(row.payload))
							return
						}
						home.Add(1)
						_, _ = io.WriteString(w, row.body)
						_ = http.NewResponseController(w).Flush()
						if !row.harmless {
							panic(http.ErrAbortHandler)
						}
					})
					tr := newChain(t, base, openai.Config{Delivery: mode, Targets: []openai.Target{{}, {Name: "other", BaseURL: url + "/other/v1", Tier: 1}}})
					got := do(t, tr, request(t, t.Context(), http.MethodPost, url+"/v1/chat/completions", row.payload))
					whole := row.harmless || other.Load() > 0
					if got.status != 200 || home.Load() != 1 || other.Load() != row.others[mode] || (got.err == nil) != whole {
						t.Errorf("got %d, %v, %q from %d and %d requests", got.status, got.err, got.body, home.Load(), other.Load())
					}
				})
			}
		}
	}
}

// wholeAnswerTo returns a whole answer to a payload.
func wholeAnswerTo(payload string) string {
	if payload == streamed {
		return wholeStream
	}
	return fine
}
