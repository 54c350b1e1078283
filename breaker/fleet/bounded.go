package fleet

import (
	"bytes"
	"errors"
	"net"
	"strconv"
)

// What a server may send to us. go-redis makes room for what is announced, and a
// message may be as large as the one who publishes it likes.
const (
	maxString   = 16 << 10 // bytes
	maxElements = 16_384   // of an array; a cluster has as many slots
	maxLine     = 16 << 10 // bytes
	maxLength   = 24       // bytes of a line that announces a length
	maxAnswer   = 8 << 20  // bytes that go-redis needs for all of it, about
)

// What an array costs go-redis, in bytes: each is a call of a function in another, and
// each element takes room before it is there.
const (
	costOfArray   = 256
	costOfElement = 16
)

var errTooLarge = errors.New("fleet: the server sends more than advice may have")

// A boundedConn ends at what is too large, before go-redis sees how large and allocates
// for it. A server that was taken over, or is not a Redis, must not be able to fill the
// memory of all services that are connected to it.
type boundedConn struct {
	net.Conn

	frames frames
}

// Read reads on, unless something is too large. go-redis closes the connection at the
// error.
func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.frames.feed(p[:n]) {
		return 0, errTooLarge
	}
	return n, err
}

// A frames follows the lengths in a server's answers, as RESP 2 has them:
// https://redis.io/docs/latest/develop/reference/protocol-spec. It keeps no more of them
// than the line that announces a length.
type frames struct {
	skip   int64  // bytes of a string that are still to come, with its line end
	line   int    // bytes of the line so far
	head   []byte // the first of them
	due    int64  // values of the answer that are still to come
	cost   int64  // of the answer so far
	broken bool
}

// feed reports whether nothing is too large so far. Once something was, nothing is
// right any more.
func (f *frames) feed(b []byte) bool {
	for len(b) > 0 && !f.broken {
		if f.skip > 0 {
			n := min(f.skip, int64(len(b)))
			f.skip -= n
			b = b[n:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			f.take(b)
			return !f.broken
		}
		f.take(b[:end])
		b = b[end+1:]
		f.endLine()
	}
	return !f.broken
}

// take takes a part of a line. Only its first bytes are kept, which hold a length.
func (f *frames) take(b []byte) {
	f.head = append(f.head, b[:min(len(b), max(maxLength-len(f.head), 0))]...)
	f.line += len(b)
	f.broken = f.broken || f.line > maxLine
}

// endLine takes the value that a line is, or begins.
func (f *frames) endLine() {
	head, length := bytes.TrimSuffix(f.head, []byte("\r")), f.line
	f.head, f.line = f.head[:0], 0
	if len(head) == 0 {
		f.broken = true
		return
	}
	if f.due == 0 {
		f.due, f.cost = 1, 0
	}
	f.due--
	f.cost += int64(length)
	switch head[0] {
	case '+', '-', ':':
	case '$':
		if n := f.announced(head, length, maxString); n >= 0 {
			f.skip = n + 2
			f.cost += n
		}
	case '*':
		n := max(f.announced(head, length, maxElements), 0)
		f.due += n
		f.cost += costOfArray + costOfElement*n
	default:
		f.broken = true // it is none of RESP 2
	}
	f.broken = f.broken || f.cost > maxAnswer
}

// announced returns the length that a line announces; -1 is that of a null. A number that
// is not plain, or is above most, ends the connection.
func (f *frames) announced(head []byte, length int, most int64) int64 {
	n, err := strconv.ParseInt(string(head[1:]), 10, 64)
	if err != nil || n < -1 || n > most || length > maxLength {
		f.broken = true
		return 0
	}
	return n
}
