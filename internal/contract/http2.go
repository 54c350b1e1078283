package contract

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
)

// A framer is a hand-made HTTP/2 server, since none of the ready ones ends
// streams and connections where a rule wants it to. Its connections are in
// memory, so that time is virtual; net/http's own client speaks to it.
type framer struct {
	s     *scene
	turns []turn // one a request, the last one ever after

	mu       sync.Mutex
	requests []*framed
	conns    int
}

// A turn is what the framer does with a request.
type turn struct {
	early bool // at its header, not at the end of its payload
	do    func(c *framedConn, id uint32)
}

// A framed request is what arrived of it.
type framed struct {
	turn    turn
	payload []byte
	whole   bool
}

// HTTP/2 frames, as far as a framer knows them.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8

	flagAck        = 1 // of SETTINGS and PING
	flagEndStream  = 1 // of HEADERS and DATA
	flagEndHeaders = 4

	codeNone          = 0
	codeProtocolError = 1
	codeInternalError = 2
	codeRefused       = 7
	codeCancel        = 8
)

const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// overFramer returns the wrapper under examination over net/http's transport
// to a framer.
func (s *scene) overFramer(turns ...turn) (rt http.RoundTripper, f *framer, end func()) {
	f = &framer{s: s, turns: turns}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	base := &http.Transport{
		Protocols: protocols,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			f.mu.Lock()
			f.conns++
			f.mu.Unlock()
			go f.serve(there)
			return here, nil
		},
	}
	return s.wrap(base), f, base.CloseIdleConnections
}

func (f *framer) seen() []*framed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// begin notes a request and chooses its turn.
func (f *framer) begin() *framed {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &framed{turn: f.turns[min(len(f.requests), len(f.turns)-1)]}
	f.requests = append(f.requests, r)
	return r
}

// A framedConn is one connection to a framer.
type framedConn struct {
	f       *framer
	out     chan []byte   // frames to be written; nil ends the connection
	done    chan struct{} // closed when the connection has ended
	streams map[uint32]*framed
}

func (f *framer) serve(conn net.Conn) {
	c := &framedConn{f: f, out: make(chan []byte, 1000), done: make(chan struct{}), streams: map[uint32]*framed{}}
	go c.write(conn)
	defer close(c.done)
	if _, err := io.CopyN(io.Discard, conn, int64(len(clientPreface))); err != nil {
		return
	}
	c.send(frameSettings, 0, 0)
	var header [9]byte
	for {
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		payload := make([]byte, int(header[0])<<16|int(header[1])<<8|int(header[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		c.receive(header[3], header[4], binary.BigEndian.Uint32(header[5:])&^(1<<31), payload)
	}
}

// write has a goroutine of its own: a reader that writes would wait for a peer
// that does the same.
func (c *framedConn) write(conn net.Conn) {
	defer conn.Close()
	for {
		select {
		case frame := <-c.out:
			if frame == nil {
				return
			}
			conn.Write(frame) //nolint:errcheck // the reader sees that the connection has ended
		case <-c.done:
			return
		case <-c.f.s.over:
			return
		}
	}
}

func (c *framedConn) enqueue(frame []byte) {
	select {
	case c.out <- frame:
	case <-c.done:
	}
}

func (c *framedConn) send(kind, flags byte, id uint32, payload ...byte) {
	n := len(payload)
	frame := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}
	frame = binary.BigEndian.AppendUint32(frame, id)
	c.enqueue(append(frame, payload...))
}

func (c *framedConn) receive(kind, flags byte, id uint32, payload []byte) {
	switch kind {
	case frameSettings:
		if flags&flagAck == 0 {
			c.send(frameSettings, flagAck, 0)
		}
	case framePing:
		if flags&flagAck == 0 {
			c.send(framePing, flagAck, 0, payload...)
		}
	case frameHeaders:
		r := c.f.begin()
		c.streams[id] = r
		c.step(r, id, true, flags&flagEndStream != 0)
	case frameData:
		r := c.streams[id]
		if r == nil {
			return
		}
		r.payload = append(r.payload, payload...)
		c.open(0, len(payload))
		if !r.turn.early { // else the stream's window stays closed: its payload never ends
			c.open(id, len(payload))
		}
		c.step(r, id, false, flags&flagEndStream != 0)
	}
}

// step takes the turn of a request, if it is time.
func (c *framedConn) step(r *framed, id uint32, header, end bool) {
	r.whole = r.whole || end
	if r.turn.early && header || !r.turn.early && end {
		go r.turn.do(c, id) // it may take its time while frames arrive
	}
}

func (c *framedConn) open(id uint32, n int) {
	if n > 0 {
		c.send(frameWindowUpdate, 0, id, binary.BigEndian.AppendUint32(nil, uint32(n))...)
	}
}

// head sends a 200 with a content type. In HPACK, 0x88 is the static table's
// ":status: 200", and 0x0f 0x10 a literal for the name in its entry 31.
func (c *framedConn) head(id uint32, contentType string) {
	block := append([]byte{0x88, 0x0f, 0x10, byte(len(contentType))}, contentType...)
	c.send(frameHeaders, flagEndHeaders, id, block...)
}

func (c *framedConn) data(id uint32, content []byte, end bool) {
	for piece := range slices.Chunk(content, 1<<14) {
		c.send(frameData, 0, id, piece...)
	}
	if end {
		c.send(frameData, flagEndStream, id)
	}
}

func (c *framedConn) reset(id, code uint32) {
	c.send(frameReset, 0, id, binary.BigEndian.AppendUint32(nil, code)...)
}

// goAway says which stream is the last to be served.
func (c *framedConn) goAway(last, code uint32) {
	c.send(frameGoAway, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), code)...)
}

// cut ends the connection.
func (c *framedConn) cut() { c.enqueue(nil) }
