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
)

var errTooLarge = errors.New("fleet: the server sends more than advice may have")

// A boundedConn ends at what is too large, before go-redis sees how large.
type boundedConn struct {
	net.Conn

	frames frames
}

func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.frames.feed(p[:n]) {
		return 0, errTooLarge
	}
	return n, err
}

// frames follow the lengths in a server's answers, as RESP 2 and 3 have them:
// https://redis.io/docs/latest/develop/reference/protocol-spec.
type frames struct {
	skip   int64  // bytes of a string, with its line end
	line   int    // bytes of the line so far
	head   []byte // the first of them
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

// take takes a part of a line.
func (f *frames) take(b []byte) {
	const enough = 24 // for a type and a length
	f.head = append(f.head, b[:min(len(b), max(enough-len(f.head), 0))]...)
	f.line += len(b)
	f.broken = f.broken || f.line > maxLine
}

// endLine reads the length that a line announces, if it does.
func (f *frames) endLine() {
	line := bytes.TrimSuffix(f.head, []byte("\r"))
	f.head, f.line = f.head[:0], 0
	if len(line) == 0 {
		return
	}
	n, err := strconv.ParseInt(string(line[1:]), 10, 64)
	switch line[0] {
	case '$', '=', '!':
		f.broken = f.broken || err != nil || n > maxString
		if n >= 0 {
			f.skip = n + 2
		}
	case '*', '%', '~', '>', '|':
		f.broken = f.broken || err != nil || n > maxElements
	}
}
