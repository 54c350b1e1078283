package soak

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A host is what the addresses of one provider have in common.
type host struct {
	handler http.Handler
	problem func(p *plan, format string, args ...any)
	seed    uint64
	done    chan struct{}

	accepted atomic.Int64 // connections
	open     atomic.Int64 // of them those that are not closed
	cut      atomic.Int64 // of them those that were reset at some byte
}

// An address is where the provider listens. Its listener closes now and
// then, and its servers go, but there is always a next one.
type address struct {
	*host

	random  *rand.Rand
	tls     *tls.Config // nil: HTTP/1.1 without TLS
	steady  bool        // nothing happens to it
	address string
	servers sync.Map // those that are not closed: *http.Server

	unheard, goneAway, crashed atomic.Int64 // how often the listener was closed, and the server left or was ended
}

// startProvider starts the servers of v: HTTP/1.1 on plain, HTTP/2 on
// secure.
func startProvider(t *testing.T, v *provider) {
	var secure *tls.Config
	secure, v.roots = certified()
	v.plain, v.secure = v.start(t, 0, nil, false), v.start(t, 1, secure, false)
}

// certified returns what a server on the loopback interface needs for TLS, and what
// its clients must trust.
func certified() (*tls.Config, *x509.CertPool) {
	server := httptest.NewUnstartedServer(nil)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	return &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}, server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
}

// start opens an address until the test is over.
func (h *host) start(t *testing.T, n uint64, config *tls.Config, steady bool) *address {
	a := &address{host: h, random: rand.New(rand.NewPCG(h.seed, n)), tls: config, steady: steady}
	listener := a.listen("127.0.0.1:0")
	if listener == nil {
		t.Fatal("the provider has no address")
	}
	a.address = listener.Addr().String()
	var wait sync.WaitGroup
	wait.Go(func() { a.stayOpen(&wait, listener) })
	t.Cleanup(wait.Wait)
	return a
}

func (a *address) url() string {
	if a.tls == nil {
		return "http://" + a.address
	}
	return "https://" + a.address
}

// stayOpen serves until the provider is done.
func (a *address) stayOpen(wait *sync.WaitGroup, listener net.Listener) {
	srv := a.serve(wait, listener)
	defer func() {
		a.servers.Range(func(srv, _ any) bool {
			_ = srv.(*http.Server).Close()
			return true
		})
	}()
	for a.lasts(100 + a.random.IntN(900)) {
		if a.steady {
			continue
		}
		next := srv
		switch a.random.IntN(5) {
		case 0:
			a.crashed.Add(1)
			_ = srv.Close()
			a.servers.Delete(srv)
			next = nil
		case 1, 2:
			// Those who are served stay, the others are sent away: HTTP/2 by a GOAWAY.
			a.goneAway.Add(1)
			leaving := srv
			wait.Go(func() { a.dismiss(leaving) })
			next = nil
		default:
		}
		_ = listener.Close()
		if a.random.IntN(2) == 0 {
			a.unheard.Add(1)
			a.lasts(1 + a.random.IntN(50))
		}
		if listener = a.listen(a.address); listener == nil {
			a.problem(nil, "%s cannot be listened to again", a.address)
			return
		}
		if next != nil {
			a.accept(wait, srv, listener)
		} else {
			srv = a.serve(wait, listener)
		}
	}
	_ = listener.Close()
}

// dismiss ends a server when nobody is left who is served.
func (a *address) dismiss(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), slack)
	defer cancel()
	if srv.Shutdown(ctx) == nil {
		a.servers.Delete(srv)
	}
}

// lasts waits, and reports whether the provider goes on.
func (a *address) lasts(ms int) bool {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.done:
		return false
	}
}

// listen opens the address; the system may need a moment to let go of it.
func (a *address) listen(address string) net.Listener {
	for deadline := time.Now().Add(slack); ; {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
		if err == nil {
			return &faultyListener{listener, a}
		}
		if time.Now().After(deadline) || !a.lasts(1) {
			return nil
		}
	}
}

// serve starts a server.
func (a *address) serve(wait *sync.WaitGroup, listener net.Listener) *http.Server {
	srv := &http.Server{
		Handler:           a.handler,
		TLSConfig:         a.tls.Clone(),
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: slack,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				a.open.Add(1)
			case http.StateClosed, http.StateHijacked:
				a.open.Add(-1)
			default:
			}
		},
	}
	a.servers.Store(srv, true)
	a.accept(wait, srv, listener)
	return srv
}

func (a *address) accept(wait *sync.WaitGroup, srv *http.Server, listener net.Listener) {
	wait.Go(func() {
		if a.tls != nil {
			_ = srv.ServeTLS(listener, "", "")
		} else {
			_ = srv.Serve(listener)
		}
	})
}

// A faultyListener accepts connections of which some are reset at some byte.
type faultyListener struct {
	net.Listener

	address *address
}

func (l *faultyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(l.address.seed, uint64(l.address.accepted.Add(1))))
	conn := &faultyConn{Conn: c, host: l.address.host, left: -1}
	if r.IntN(10) == 0 && !l.address.steady {
		conn.left = r.IntN(1 << r.IntN(18)) // in the handshake, the headers, the body, or between two of them
	}
	return conn, nil
}

// A faultyConn is reset once the server has written so many bytes.
type faultyConn struct {
	net.Conn

	host *host
	mu   sync.Mutex
	left int // negative: never
}

func (c *faultyConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left < 0 {
		return c.Conn.Write(p)
	}
	part := p[:min(len(p), c.left)]
	n, err := c.Conn.Write(part)
	c.left -= n
	if err == nil && n < len(p) {
		c.host.cut.Add(1)
		reset(c)
		err = net.ErrClosed
	}
	return n, err
}

// reset ends a connection, and with HTTP/2 all streams in it.
func reset(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if soaked, ok := c.(*faultyConn); ok {
		c = soaked.Conn
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
