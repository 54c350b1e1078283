package openaitest

import (
	"compress/gzip"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"
)

var (
	// errGone ends a handler whose client, or server, went away.
	errGone = errors.New("openaitest: the client or the server is gone")
	// errAbort ends a handler that is to break the connection.
	errAbort = errors.New("openaitest: scripted abort")
)

// A player sends one answer. Every wait of it ends with the client or the
// server.
type player struct {
	w         http.ResponseWriter
	out       io.Writer // w, or a compressor before it
	control   *http.ResponseController
	gone      <-chan struct{} // the client went away
	done      <-chan struct{} // the server is closing
	keepAlive time.Duration
}

// play returns nil when the answer is over, as it was meant to be.
func (p *player) play(a Answer, req *Request) error {
	if err := p.sleep(a.Delay); err != nil {
		return err
	}
	switch a.fault {
	case faultNoReply:
		return await[struct{}](p, nil)
	case faultClosed:
		return errAbort
	case faultRefuse:
		return p.reset()
	default:
	}

	m := compose(a, req)
	maps.Copy(p.w.Header(), m.header)
	p.w.WriteHeader(m.status)
	// What is sent whole goes out in as few packets as a real answer does.
	flush := m.stream || m.chunked || m.end != faultNone || a.Pace > 0 || a.Gate != nil
	if flush && p.control.Flush() != nil {
		return errGone
	}
	if m.stream {
		p.keepAlive = a.KeepAlive
	}
	if m.stream && a.Gzip {
		p.out = gzip.NewWriter(p.w)
	}
	for _, piece := range m.pieces {
		if err := p.sleep(a.Pace); err != nil {
			return err
		}
		if a.Gate != nil {
			if err := await(p, a.Gate); err != nil {
				return err
			}
		}
		if err := p.write(piece, flush); err != nil {
			return err
		}
	}
	if err := p.end(m.end); err != nil {
		return err
	}
	maps.Copy(p.w.Header(), a.Trailer)
	return nil
}

// end ends the answer as its fault says. An endless body is written as fast as the client
// reads it, so that it does not fill the server's memory.
func (p *player) end(f fault) error {
	switch f {
	case faultCut:
		return errAbort
	case faultReset:
		return p.reset()
	case faultStall:
		return await[struct{}](p, nil)
	case faultEndless:
		blank := strings.Repeat(" ", 32<<10)
		for {
			select {
			case <-p.done:
				return errGone
			default:
			}
			if err := p.write(blank, false); err != nil {
				return err
			}
		}
	default:
	}
	if gz, ok := p.out.(*gzip.Writer); ok && gz.Close() != nil {
		return errGone
	}
	return nil
}

// write sends a piece of the answer, at once if flush says so: a client then gets each
// event in a Read of its own.
func (p *player) write(piece string, flush bool) error {
	if _, err := io.WriteString(p.out, piece); err != nil {
		return errGone
	}
	if !flush {
		return nil
	}
	if gz, ok := p.out.(*gzip.Writer); ok && gz.Flush() != nil {
		return errGone
	}
	if p.control.Flush() != nil {
		return errGone
	}
	return nil
}

// sleep waits, unless the client or the server goes away.
func (p *player) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	return await(p, timer.C)
}

// await waits for until, or for ever if that is nil, and keeps a stream alive
// meanwhile.
func await[T any](p *player, until <-chan T) error {
	var tick <-chan time.Time
	if p.keepAlive > 0 {
		ticker := time.NewTicker(p.keepAlive)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-until:
			return nil
		case <-tick:
			if err := p.write(": keep-alive\n\n", true); err != nil {
				return err
			}
		case <-p.gone:
			return errGone
		case <-p.done:
			return errGone
		}
	}
}

// reset makes the kernel send a RST instead of an orderly end. An HTTP/2
// connection has other streams to carry: there net/http resets the stream.
func (p *player) reset() error {
	conn, _, err := p.control.Hijack()
	if err != nil {
		return errAbort
	}
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	return nil
}
