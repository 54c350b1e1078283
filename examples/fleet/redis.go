package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"time"
)

// A redisServer is one that keeps nothing.
type redisServer struct {
	addr string
	cmd  *exec.Cmd
}

// startRedis starts a redis-server on a free port, and waits until it listens.
func startRedis(ctx context.Context, program string) (*redisServer, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(ctx, program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &redisServer{addr: addr, cmd: cmd}
	if err := listens(ctx, addr); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func listens(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("redis-server does not listen on %s: %w", addr, ctx.Err())
}

func (s *redisServer) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
