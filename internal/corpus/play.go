package corpus

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A Server plays the provider's side of one exchange, on connections in memory.
// It is safe for concurrent use. In a bubble of testing/synctest its pauses
// take no time.
type Server struct {
	exchange *Exchange
	handlers sync.WaitGroup

	mu       sync.Mutex
	requests []Seen
}

// A Seen is a request as the server saw it.
type Seen struct {
	At      time.Time // when its payload was complete
	Header  http.Header
	Payload []byte
}

// NewServer returns a server for x.
func NewServer(x *Exchange) *Server { return &Server{exchange: x} }

// Transport returns a plain transport whose connections all go to the server.
// Whoever has closed its connections calls Wait.
func (s *Server) Transport() *http.Transport {
	return &http.Transport{DialContext: s.dial, DisableCompression: true}
}

// Wait returns when all connections are closed.
func (s *Server) Wait() { s.handlers.Wait() }

// Requests returns what the server has seen so far.
func (s *Server) Requests() []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clip(s.requests)
}

// Restart makes the next request the first one.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) dial(context.Context, string, string) (net.Conn, error) {
	client, server := pipe()
	s.handlers.Go(func() {
		defer func() { _ = server.Close() }()
		in := bufio.NewReader(server)
		for s.serve(in, server) {
		}
	})
	return client, nil
}

// serve answers one request, and reports whether there may be another.
func (s *Server) serve(in *bufio.Reader, c *conn) bool {
	req, err := http.ReadRequest(in)
	if err != nil {
		return false
	}
	payload, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	s.mu.Lock()
	s.requests = append(s.requests, Seen{time.Now(), req.Header, payload})
	answer := s.exchange.AnswerTo(len(s.requests))
	s.mu.Unlock()
	return answer.play(c)
}

// play sends the answer, and reports whether the connection can be used again.
func (a *Answer) play(c *conn) bool {
	time.Sleep(a.Silence)
	chunked := a.chunked()
	out := a.head(chunked)
	for _, s := range a.steps {
		if s.pause > 0 {
			if _, err := c.Write(out); err != nil {
				return false
			}
			out = nil
			time.Sleep(s.pause)
		}
		out = append(out, framed(s.bytes, chunked)...)
	}
	if chunked && a.End == Clean {
		out = append(out, "0\r\n\r\n"...)
	}
	if _, err := c.Write(out); err != nil {
		return false
	}
	switch a.End {
	case Clean:
		return a.Header.Get("Connection") != "close"
	case Reset:
		c.reset()
	case Open:
		_, _ = io.Copy(io.Discard, c)
	case Cut:
	}
	return false
}

func framed(p []byte, chunked bool) []byte {
	if !chunked || len(p) == 0 {
		return p
	}
	return fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p)
}

// chunked reports whether the body has the chunked coding: where the answer
// says so, and where it says nothing if it is a stream, or never ends.
func (a *Answer) chunked() bool {
	if a.bodyless() || a.Header.Get("Connection") == "close" || a.Header.Get("Content-Length") != "" {
		return false
	}
	media, _, _ := bytes.Cut([]byte(a.Header.Get("Content-Type")), []byte(";"))
	return a.Header.Get("Transfer-Encoding") == "chunked" || string(media) == "text/event-stream" || a.End == Open
}

func (a *Answer) bodyless() bool {
	return a.Status < 200 || a.Status == http.StatusNoContent || a.Status == http.StatusNotModified
}

// missing is what a body lacks of its announced length when it is cut.
const missing = 100

// head returns the status line and the headers.
func (a *Answer) head(chunked bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", a.Status, http.StatusText(a.Status))
	_ = a.Header.Write(&b)
	switch {
	case a.Header.Get("Transfer-Encoding") != "":
	case chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case a.bodyless(), a.Header.Get("Content-Length") != "", a.Header.Get("Connection") == "close":
	case a.End == Clean:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(a.Body()))
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(a.Body())+missing)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}
