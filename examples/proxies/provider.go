package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A plan is the payload of a call. It says what is asked of the provider and
// what goes wrong with the first attempts.
type plan struct {
	Model    string        `json:"model"`
	Stream   bool          `json:"stream"`
	Messages []message     `json:"messages"`
	Call     int           `json:"seed"`             // a parameter that gateways pass on
	Faults   []fault       `json:"faults,omitempty"` // one an attempt; "" is none
	Delay    time.Duration `json:"delay,omitempty"`  // before the headers
	Pace     time.Duration `json:"pace,omitempty"`   // before each piece of the answer
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A fault is what the provider does instead of answering an attempt.
type fault string

const (
	busy   fault = "503"
	closed fault = "close"  // the connection is closed before the headers
	cut    fault = "cut"    // it is closed after half of the answer
	frozen fault = "frozen" // nothing comes
	silent fault = "silent" // nothing comes after half of the answer
)

// provideIfAsked makes this process a provider if its environment says so, and
// does not return then. A process of its own can be killed and frozen.
func provideIfAsked() {
	address := os.Getenv(providerAddress)
	if address == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it is gone
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, provide(address, os.Getenv(providerKey)))
	os.Exit(1)
}

const (
	providerAddress = "RETRIP_PROXIES_PROVIDER"
	providerKey     = "RETRIP_PROXIES_KEY"
)

func provide(address, key string) error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	var both http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	return (&http.Server{Handler: &provider{key: key, attempts: map[int]int{}}, Protocols: &both}).Serve(listener)
}

// A provider answers chat completions, and fails as their plans say.
type provider struct {
	key string // that it wants: one that comes with another provider's does not answer

	mu       sync.Mutex
	attempts map[int]int // by call
}

// ServeHTTP implements http.Handler.
func (v *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+v.key {
		http.Error(w, "another key is needed here", http.StatusUnauthorized)
		return
	}
	var p plan
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pause(r, p.Delay)
	f := v.fault(p)
	switch f {
	case busy:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":{"message":"busy","type":"server_error","code":null}}`)
		return
	case closed:
		panic(http.ErrAbortHandler)
	case frozen:
		pause(r, time.Minute)
		return
	default:
	}
	pieces := p.answer()
	if p.Stream {
		w.Header().Set("Content-Type", "text/event-stream")
	} else {
		w.Header().Set("Content-Type", "application/json")
		if r.ProtoAtLeast(1, 1) { // HTTP/1.0 has no other end than the connection's
			w.Header().Set("Content-Length", strconv.Itoa(len(strings.Join(pieces, ""))))
		}
	}
	for i, piece := range pieces {
		if i == len(pieces)/2 && f == cut {
			panic(http.ErrAbortHandler)
		}
		if i == len(pieces)/2 && f == silent {
			pause(r, time.Minute)
			return
		}
		pause(r, p.Pace)
		_, _ = io.WriteString(w, piece)
		_ = http.NewResponseController(w).Flush()
	}
}

func (v *provider) fault(p plan) fault {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.attempts[p.Call]
	v.attempts[p.Call]++
	if n < len(p.Faults) {
		return p.Faults[n]
	}
	return ""
}

// pause waits, for as long as somebody waits for the answer.
func pause(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// words are what a call is answered.
func (p plan) words() []string {
	words := make([]string, 12)
	for i := range words {
		words[i] = fmt.Sprintf("%d-%d ", p.Call, i)
	}
	return words
}

// answer returns the bytes of the answer in the pieces that are sent: the
// events of a stream, or the halves of an object.
func (p plan) answer() []string {
	if !p.Stream {
		whole := fmt.Sprintf(`{"id":"c-%d","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":12,"total_tokens":13}}`,
			p.Call, strings.Join(p.words(), ""))
		return []string{whole[:len(whole)/2], whole[len(whole)/2:]}
	}
	chunk := func(delta, reason string) string {
		return fmt.Sprintf(`data: {"id":"c-%d","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`+"\n\n", p.Call, delta, reason)
	}
	events := []string{chunk(`{"role":"assistant","content":""}`, "null")}
	for _, word := range p.words() {
		events = append(events, chunk(fmt.Sprintf(`{"content":%q}`, word), "null"))
	}
	return append(events, chunk("{}", `"stop"`), "data: [DONE]\n\n")
}
