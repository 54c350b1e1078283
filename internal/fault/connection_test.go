package fault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
)

// HTTP/2 frames, as far as this test knows them.
const (
	frameHeaders = 1
	frameReset   = 3
	frameGoAway  = 7
)

// frame writes a frame of HTTP/2 that carries 32-bit numbers.
func frame(w io.Writer, kind byte, stream uint32, numbers ...uint32) {
	out := []byte{0, 0, byte(4 * len(numbers)), kind, 0}
	out = binary.BigEndian.AppendUint32(out, stream)
	for _, n := range numbers {
		out = binary.BigEndian.AppendUint32(out, n)
	}
	_, _ = w.Write(out) // who reads sees that the connection has ended
}

// serveFrames is an HTTP/2 server that answers every request with answer.
func serveFrames(conn net.Conn, answer func(conn net.Conn, stream uint32)) {
	defer conn.Close()
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	if _, err := io.CopyN(io.Discard, conn, int64(len(preface))); err != nil {
		return
	}
	go frame(conn, 4, 0) // SETTINGS, empty
	var header [9]byte
	for {
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		length := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return
		}
		if header[3] == frameHeaders {
			go answer(conn, binary.BigEndian.Uint32(header[5:]))
		}
	}
}

func TestHTTP2ResetsAreConnectionErrors(t *testing.T) {
	t.Parallel()
	reset := func(code uint32) func(net.Conn, uint32) {
		return func(conn net.Conn, stream uint32) { frame(conn, frameReset, stream, code) }
	}
	for name, answer := range map[string]func(net.Conn, uint32){
		"RST_STREAM, internal error": reset(2),
		"RST_STREAM, cancel":         reset(8),
		"REFUSED_STREAM, ever again": reset(7),
		"GOAWAY, internal error": func(conn net.Conn, stream uint32) {
			frame(conn, frameGoAway, 0, stream, 2)
			_ = conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				protocols := new(http.Protocols)
				protocols.SetUnencryptedHTTP2(true)
				base := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
					here, there := net.Pipe()
					go serveFrames(there, answer)
					return here, nil
				}}
				defer base.CloseIdleConnections()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				response, err := base.RoundTrip(req)
				if err == nil {
					_ = response.Body.Close()
					t.Fatal("it was answered")
				}
				for _, e := range []error{err, fmt.Errorf("wrapped: %w", err), errors.Join(errors.New("beside"), err)} {
					if got := Type(e); got != ConnectionError || !IsConnection(e) {
						t.Errorf("Type(%v) = %q", e, got)
					}
				}
			})
		})
	}
}

type otherStreamError struct {
	StreamID uint32
	Code     string
	Cause    error
}

func (otherStreamError) Error() string { return "not HTTP/2's" }

func TestWhatOnlyLooksLikeAResetIsNone(t *testing.T) {
	t.Parallel()
	for _, err := range []error{otherStreamError{}, &otherStreamError{}, errors.Join(nil, errors.New("x")), fmt.Errorf("wraps %w", error(nil))} {
		if IsConnection(err) {
			t.Errorf("IsConnection(%v) = true", err)
		}
	}
}
