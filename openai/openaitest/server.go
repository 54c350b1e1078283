package openaitest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"
)

// A Server is a fake provider on a loopback port. Its methods may be called
// concurrently, also while it serves.
type Server struct {
	// URL is the base URL for an SDK, with "/v1" at the end. The server
	// answers below any other prefix too.
	URL string

	server *httptest.Server
	done   chan struct{} // closed by Close

	handlers sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	scripts     map[string][]Answer
	always      map[string]Answer
	runs        runs
	requests    []Request
	counts      map[string]int
	connections int
	abandoned   int
	changed     chan struct{} // closed and replaced when the log changes
}

// NewServer starts a server for HTTP/1.1 without TLS. The caller calls Close
// when finished. Like httptest.NewServer it panics if no port can be had.
func NewServer() *Server {
	s := newServer()
	s.server.Start()
	s.URL = s.server.URL + "/v1"
	return s
}

// NewTLSServer is NewServer with TLS, and with HTTP/2 for clients that speak
// it. Client trusts its certificate.
func NewTLSServer() *Server {
	s := newServer()
	s.server.EnableHTTP2 = true
	s.server.StartTLS()
	s.URL = s.server.URL + "/v1"
	return s
}

func newServer() *Server {
	s := &Server{
		done:    make(chan struct{}),
		scripts: make(map[string][]Answer),
		always:  make(map[string]Answer),
		counts:  make(map[string]int),
		changed: make(chan struct{}),
	}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.note(func() { s.connections++ })
		}
	}
	return s
}

// Client returns a plain client with a transport of its own, which trusts the
// certificate of a TLS server. Close closes its idle connections.
func (s *Server) Client() *http.Client { return s.server.Client() }

// Trust makes a base trust the certificates of TLS servers, and no others: for tests
// with several, each a target of its own. It is called before the base's first use.
func Trust(base *http.Transport, servers ...*Server) {
	if base.TLSClientConfig == nil {
		base.TLSClientConfig = new(tls.Config)
	}
	base.TLSClientConfig.RootCAs = x509.NewCertPool()
	for _, s := range servers {
		if certificate := s.server.Certificate(); certificate != nil {
			base.TLSClientConfig.RootCAs.AddCert(certificate)
		}
	}
}

// Close ends all answers, closes all connections, and returns when no handler
// is left. Further calls do nothing. Like httptest.Server.Close it closes the
// idle connections of http.DefaultTransport.
func (s *Server) Close() {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if !closed {
		close(s.done)
		// No new connection may come between closing those that are active,
		// which httptest's Close would wait for, and that Close.
		_ = s.server.Listener.Close()
		s.server.CloseClientConnections()
		s.server.Close()
	}
	s.handlers.Wait()
}

// Script sets the script of an endpoint: Chat, Responses, … or Other. Each request
// of the endpoint takes one answer. What is left of an earlier script is dropped, so
// that no test gets the answers of the one before; without answers Script drops it
// and no more.
func (s *Server) Script(endpoint string, answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[endpoint] = slices.Clone(answers)
}

// Always sets the answer that an endpoint gives when its script is empty, in place
// of the healthy one, until Reset or Heal. It is how a test makes an outage.
func (s *Server) Always(endpoint string, answer Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always[endpoint] = answer
}

// Reset makes an endpoint healthy again: its script and what it always
// answered are dropped. Answers under way go on. The log stays.
func (s *Server) Reset(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.scripts, endpoint)
	delete(s.always, endpoint)
}

// Heal resets all endpoints, see [Server.Reset].
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.scripts)
	clear(s.always)
}

// enter reports whether a handler may begin: one that begins after Close
// would not be waited for.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.handlers.Add(1)
	}
	return !s.closed
}

// serve answers one request. It reads the whole of it first, so that the log has it when
// the answer begins.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler) //nolint:forbidigo // this is how net/http is told
	}
	defer s.handlers.Done()
	now := time.Now()
	body, err := io.ReadAll(r.Body)
	req := Request{
		Endpoint: endpointOf(r.URL.Path, r.Header), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
		Header: r.Header.Clone(), Body: body, Err: err, Time: now, RemoteAddr: r.RemoteAddr, Proto: r.Proto,
	}
	answer := s.keep(s.take(&req), &req)
	if err == nil {
		p := player{w: w, out: w, control: http.NewResponseController(w), gone: r.Context().Done(), done: s.done}
		err = p.play(answer, &req)
	} else {
		err = errGone
	}
	if errors.Is(err, errGone) {
		s.leave()
	}
	if err != nil {
		// Ends the connection, or the HTTP/2 stream, without the end of the answer.
		panic(http.ErrAbortHandler) //nolint:forbidigo // this is how net/http is told
	}
}

// leave notes that the client went away, unless the server did.
func (s *Server) leave() {
	select {
	case <-s.done:
	default:
		s.note(func() { s.abandoned++ })
	}
}
