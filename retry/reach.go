package retry

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// A reach is how far a request got on its way to the server, as net/http reports
// through httptrace. Errors alone don't say: the same reset may come before the
// request was written, or after the server has begun to work on it. A base that
// reports nothing proves nothing.
type reach struct {
	sought    atomic.Bool // a connection was asked for
	dialled   atomic.Bool // one is being made
	connected atomic.Bool // one was got: from here on anything may have been written
}

// watch returns a context whose request is watched. The caller's own trace is
// called as before.
func (r *reach) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:           func(string) { r.sought.Store(true) },
		DNSStart:          func(httptrace.DNSStartInfo) { r.dialled.Store(true) },
		ConnectStart:      func(string, string) { r.dialled.Store(true) },
		TLSHandshakeStart: func() { r.dialled.Store(true) },
		GotConn:           func(httptrace.GotConnInfo) { r.connected.Store(true) },
	})
}

// nowhere reports whether it is certain that nothing was written: net/http
// looked for a connection and got none. That covers what the errors don't
// show, as a handshake that was cut off.
func (r *reach) nowhere() bool {
	return r != nil && r.sought.Load() && !r.connected.Load()
}

// queued reports whether the request waits for one of the connections that
// there are, and none is being made for it: http.Transport.MaxConnsPerHost.
func (r *reach) queued() bool { return r.nowhere() && !r.dialled.Load() }
