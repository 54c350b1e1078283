package fault

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// IsConnection reports whether err says that the connection could not be made
// or was lost, be it a stream of HTTP/2 alone.
func IsConnection(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		isHTTP2Loss(err)
}
