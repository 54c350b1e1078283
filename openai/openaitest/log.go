package openaitest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Request is one HTTP request as the server saw it.
type Request struct {
	Endpoint   string // Chat, Responses, … or Other
	Number     int    // within the endpoint, the first is 1
	Method     string
	Path       string // without the query
	Query      string
	Header     http.Header // Authorization is kept: this is a test server
	Body       []byte
	Err        error // why the body could not be read, nil if it was
	Time       time.Time
	RemoteAddr string // differs from one connection to another
	Proto      string // "HTTP/1.1", "HTTP/2.0"
}

// Requests returns the requests seen so far, in the order in which their
// bodies were complete; the log keeps all of them. Header and Body are shared
// with it: they are not to be changed.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Saw reports whether a request held a text in its path, query or headers, whatever
// its case: a credential that was meant for another server, for example.
func (s *Server) Saw(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(s.Requests(), func(r Request) bool {
		var shown strings.Builder
		shown.WriteString(r.Path + "?" + r.Query + "\n")
		_ = r.Header.Write(&shown)
		return strings.Contains(strings.ToLower(shown.String()), text)
	})
}

// Count returns the number of requests the endpoint has seen.
func (s *Server) Count(endpoint string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[endpoint]
}

// Connections returns the number of TCP connections accepted.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

// Abandoned returns the number of requests whose client went away before the
// answer was over.
func (s *Server) Abandoned() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.abandoned
}

// Wait returns nil once cond is true, or the cause of ctx once that is over. It
// calls cond at first, and whenever the server has seen a request, a new
// connection, or that a client went away:
//
//	err := srv.Wait(ctx, func() bool { return srv.Abandoned() == 1 })
func (s *Server) Wait(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// note changes the log and wakes those who wait for it.
func (s *Server) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// take logs a request and returns the answer it gets, in one step: the first
// in the log has the first of the script.
func (s *Server) take(req *Request) Answer {
	var a Answer
	s.note(func() {
		s.counts[req.Endpoint]++
		req.Number = s.counts[req.Endpoint]
		s.requests = append(s.requests, *req)
		if req.Err != nil {
			return
		}
		if script := s.scripts[req.Endpoint]; len(script) > 0 {
			a, s.scripts[req.Endpoint] = script[0], script[1:]
			return
		}
		a = s.always[req.Endpoint]
	})
	return a
}
