package main

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
)

// replicaHeader says who calls, so that the story can tell.
const replicaHeader = "X-Replica"

const answer = `{"id":"1","object":"chat.completion","created":1,"model":"gpt-5.4-mini","choices":[
{"index":0,"message":{"role":"assistant","content":"Hello!"},"finish_reason":"stop"}]}`

// A provider is a fake one, which is down at times.
type provider struct {
	*httptest.Server

	down atomic.Bool

	mu     sync.Mutex
	counts map[string]int // of requests that failed
}

func newProvider() *provider {
	p := &provider{counts: make(map[string]int)}
	p.Server = httptest.NewServer(p)
	return p
}

// ServeHTTP implements [http.Handler].
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.down.Load() {
		p.mu.Lock()
		p.counts[r.Header.Get(replicaHeader)]++
		p.mu.Unlock()
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(answer))
}

func (p *provider) failed(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[name]
}
