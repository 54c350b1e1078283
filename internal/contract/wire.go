package contract

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A wire is a hand-made HTTP/1.1 server, since no ready one closes connections
// where a rule wants it to. Its connections are in memory, so that time is
// virtual; net/http's own client speaks to it.
type wire struct {
	s     *scene
	serve func(c *wireConn)

	mu       sync.Mutex
	open     []*wireConn
	dialed   int
	requests int
	down     bool // connections are refused
}

// A wireConn is the server's end of one connection.
type wireConn struct {
	net.Conn
	wire   *wire
	number int // 1 is the first
	reader *bufio.Reader
	client *wireClient
}

// A wireClient is the client's end of a connection. One that is broken does not
// show it until something is written, as TCP's.
type wireClient struct {
	net.Conn

	mu     sync.Mutex
	broken bool
}

func (c *wireClient) Write(p []byte) (int, error) {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken {
		c.Close()
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return c.Conn.Write(p)
}

// overWire returns the wrapper under examination over net/http's transport to a
// wire, each of whose connections is served by serve.
func (s *scene) overWire(serve func(c *wireConn), change ...func(base *http.Transport)) (http.RoundTripper, *wire) {
	w := &wire{s: s, serve: serve}
	base := &http.Transport{DialContext: w.dial, ExpectContinueTimeout: time.Minute}
	for _, f := range change {
		f(base)
	}
	go func() {
		<-s.over
		w.stop()
	}()
	return s.wrap(base), w
}

func (w *wire) dial(context.Context, string, string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	here, there := net.Pipe()
	client := &wireClient{Conn: here}
	w.dialed++
	c := &wireConn{Conn: there, wire: w, number: w.dialed, reader: bufio.NewReader(there), client: client}
	w.open = append(w.open, c)
	go func() {
		defer there.Close()
		w.serve(c)
	}()
	return client, nil
}

// stop ends all connections, and refuses new ones until goOn.
func (w *wire) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for _, c := range w.open {
		c.Close()
	}
}

func (w *wire) goOn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

func (w *wire) seen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

// next returns the next request, or nil if there is none. Its body is still to
// be read.
func (c *wireConn) next() *http.Request {
	req, err := http.ReadRequest(c.reader)
	if err != nil {
		return nil
	}
	c.wire.mu.Lock()
	c.wire.requests++
	c.wire.mu.Unlock()
	return req
}

// read is next with the request's payload; false if there is none.
func (c *wireConn) read() (req *http.Request, payload []byte, ok bool) {
	if req = c.next(); req == nil {
		return nil, nil, false
	}
	payload, err := io.ReadAll(req.Body)
	return req, payload, err == nil
}

// reply answers with a status, a content and header fields, "Name: value".
func (c *wireConn) reply(status int, content string, header ...string) {
	head := append([]string{
		"HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status),
		"Content-Type: application/octet-stream", "Content-Length: " + strconv.Itoa(len(content)),
	}, header...)
	io.WriteString(c, strings.Join(head, "\r\n")+"\r\n\r\n"+content) //nolint:errcheck // the client notices
}

// echoes answers each request with its method and payload.
func echoes(c *wireConn) {
	for {
		req, payload, ok := c.read()
		if !ok {
			return
		}
		c.reply(http.StatusOK, req.Method+" "+string(payload))
	}
}
