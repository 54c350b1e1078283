package fleet

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// Nobody else knows of a connection that is made after its time.
func TestAConnectionThatComesTooLateIsClosed(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	made := make(chan struct{})
	cancel()
	if conn, err := inTime(ctx, func() (net.Conn, error) {
		<-made
		return ours, nil
	}); err == nil {
		t.Fatalf("got %v, want the end of the context", conn)
	}
	close(made)
	_ = theirs.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end of a connection that nobody uses", err)
	}
	_ = theirs.Close()
}
