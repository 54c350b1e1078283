package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
)

// A pairing is what a service has under its calls.
type pairing struct {
	name  string
	chain bool // retrip
	sdk   bool // the SDK's own retries
}

var pairings = []pairing{
	{"net/http", false, false},
	{"SDK's retries", false, true},
	{"retrip", true, false},
	{"retrip and SDK's retries", true, true},
}

// A caller makes calls to one address.
type caller struct {
	pairing

	url     string
	client  *http.Client
	sent    atomic.Int64 // requests
	refused atomic.Int64 // of these, because there were too many
	end     func()
}

// newCaller returns one with connections, breakers and budgets of its own.
func newCaller(p pairing, url string, roots *x509.CertPool, cfg retrip.Config) *caller {
	c := &caller{pairing: p, url: url + "/v1/chat/completions"}
	base := http.DefaultTransport.(*http.Transport).Clone()
	if p.chain {
		base = retrip.BaseTransport()
	}
	if base.TLSClientConfig == nil {
		base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	base.TLSClientConfig.RootCAs = roots
	var transport http.RoundTripper = counting{base, &c.sent, &c.refused}
	c.end = base.CloseIdleConnections
	if p.chain {
		chain := retrip.NewTransport(transport, cfg)
		transport = chain
		c.end = func() {
			_ = chain.Close()
			base.CloseIdleConnections()
		}
	}
	c.client = &http.Client{Transport: transport}
	return c
}

// counting counts the requests that are sent, also those that net/http repeats
// by itself.
type counting struct {
	http.RoundTripper

	sent, refused *atomic.Int64
}

func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	var written atomic.Int64
	trace := &httptrace.ClientTrace{WroteHeaders: func() { written.Add(1) }}
	resp, err := c.RoundTripper.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	c.sent.Add(max(1, written.Load()))
	if err == nil && isRefusal(resp.StatusCode) {
		c.refused.Add(1)
	}
	return resp, err
}

// An outcome is what came of a call.
type outcome struct {
	answered bool
	half     bool // it was taken for answered, and was not
	first    time.Duration
	err      error
}

// crowd makes calls, so many of them at the same time.
func (c *caller) crowd(ctx context.Context, callers, calls int, plans func(int) plan) []outcome {
	outcomes := make([]outcome, callers*calls)
	var all sync.WaitGroup
	for at := range callers {
		all.Go(func() {
			for n := range calls {
				call := n*callers + at
				outcomes[call] = c.call(ctx, plans(call))
				if outcomes[call].err != nil {
					wait(ctx, rest)
				}
			}
		})
	}
	all.Wait()
	return outcomes
}

// call makes a call as an SDK does, and reads its answer.
func (c *caller) call(ctx context.Context, p plan) outcome {
	began := time.Now()
	resp, err := c.response(ctx, p)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		_, _ = io.Copy(io.Discard, resp.Body)
		return outcome{err: errors.New(resp.Status)}
	}
	var got answer
	read := readObject
	if p.Stream {
		read = readStream
	}
	if err := read(resp.Body, &got); err != nil {
		return outcome{err: err}
	}
	o := outcome{answered: got.stopped && got.text == strings.Join(p.words(), "")}
	o.half = !o.answered
	if !got.first.IsZero() {
		o.first = got.first.Sub(began)
	}
	return o
}

// response returns the response to the last request that an SDK sends.
func (c *caller) response(ctx context.Context, p plan) (*http.Response, error) {
	payload, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	for retries := 0; ; retries++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+homeKey)
		req.Header.Set("X-Stainless-Retry-Count", strconv.Itoa(retries))
		resp, err := c.client.Do(req)
		if !c.sdk || retries == 2 || ctx.Err() != nil || !retryable(resp) {
			return resp, err
		}
		wait, obeyed := delay(resp, retries)
		if !obeyed {
			return resp, err
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// retryable reports whether openai-go sends a request again. Without a
// response it does.
func retryable(resp *http.Response) bool {
	if resp == nil {
		return true
	}
	switch resp.Header.Get("X-Should-Retry") {
	case "true":
		return true
	case "false":
		return false
	}
	code := resp.StatusCode
	return code == http.StatusRequestTimeout || code == http.StatusConflict || code == http.StatusTooManyRequests || code >= http.StatusInternalServerError
}

// delay returns how long openai-go waits, and false if it does not wait for so
// long: 0.5 s twice as long each time, up to 8 s and less up to a quarter, or
// up to 60 s if the server says so.
func delay(resp *http.Response, retries int) (time.Duration, bool) {
	if resp != nil {
		for name, unit := range map[string]time.Duration{"Retry-After-Ms": time.Millisecond, "Retry-After": time.Second} {
			if n, err := strconv.ParseFloat(resp.Header.Get(name), 64); err == nil && n >= 0 {
				wait := n * float64(unit)
				return time.Duration(wait), wait <= float64(time.Minute)
			}
		}
	}
	wait := min(500*time.Millisecond<<retries, 8*time.Second)
	return wait - rand.N(wait/4), true
}

// An answer is what an SDK makes of a body.
type answer struct {
	text    string
	stopped bool
	first   time.Time // when the first word of a stream was there
}

type choice struct {
	Message, Delta struct{ Content string }
	FinishReason   string `json:"finish_reason"`
}

func readObject(body io.Reader, got *answer) error {
	var object struct{ Choices []choice }
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, &object); err != nil {
		return err
	}
	for _, c := range object.Choices {
		got.text += c.Message.Content
		got.stopped = c.FinishReason == "stop"
	}
	return nil
}

// readStream reads events to the last one or to the end: an SDK takes both for
// the end of the answer.
func readStream(body io.Reader, got *answer) error {
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			return nil
		}
		var event struct {
			Choices []choice
			Error   any
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return err
		}
		if event.Error != nil {
			return fmt.Errorf("an error in the stream: %v", event.Error)
		}
		for _, c := range event.Choices {
			if c.Delta.Content != "" && got.first.IsZero() {
				got.first = time.Now()
			}
			got.text += c.Delta.Content
			got.stopped = c.FinishReason == "stop"
		}
	}
	return lines.Err()
}
