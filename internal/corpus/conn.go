package corpus

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipe returns both ends of a connection in memory. Unlike net.Pipe's, they
// have buffers: who sends does not wait for who reads, as over TCP.
func pipe() (client, server *conn) {
	up, down := newFlow(), newFlow()
	return &conn{in: down, out: up}, &conn{in: up, out: down}
}

type conn struct{ in, out *flow }

// errReset is what a Read returns on a connection that was reset.
var errReset = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close ends both directions: what was sent can still be read by the peer.
func (c *conn) Close() error {
	c.in.end(net.ErrClosed)
	c.out.end(io.EOF)
	return nil
}

// reset ends both directions, with an error for the peer. What was sent before
// can still be read.
func (c *conn) reset() {
	c.in.end(net.ErrClosed)
	c.out.end(errReset)
}

func (c *conn) LocalAddr() net.Addr              { return addr{} }
func (c *conn) RemoteAddr() net.Addr             { return addr{} }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

type addr struct{}

func (addr) Network() string { return "tcp" }
func (addr) String() string  { return "192.0.2.1:80" }

// A flow is one direction of a connection.
type flow struct {
	mu      sync.Mutex
	bytes   []byte
	err     error         // once the bytes are read
	changed chan struct{} // closed and replaced when something has changed
}

func newFlow() *flow { return &flow{changed: make(chan struct{})} }

func (f *flow) change() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *flow) write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	}
	f.bytes = append(f.bytes, p...)
	f.change()
	return len(p), nil
}

func (f *flow) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.change()
}

func (f *flow) read(p []byte) (int, error) {
	for {
		n, changed, err := f.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		<-changed
	}
}

func (f *flow) take(p []byte) (n int, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n = copy(p, f.bytes)
	f.bytes = f.bytes[n:]
	if n == 0 {
		err = f.err
	}
	return n, f.changed, err
}
