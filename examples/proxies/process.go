package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// missing returns an error that names the programs that are not installed.
func missing() error {
	var lacking []string
	for _, program := range []string{"nginx", "haproxy"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking = append(lacking, program)
		}
	}
	if lacking == nil {
		return nil
	}
	return fmt.Errorf("%s cannot be found: apt-get install %[1]s", strings.Join(lacking, " "))
}

// A process is a server of this scene.
type process struct {
	cmd    *exec.Cmd
	log    *strings.Builder // what it wrote; to be read after exited
	exited chan struct{}
}

// start runs a server, and returns once it can be connected to.
func start(ctx context.Context, cmd *exec.Cmd, address string) (*process, error) {
	p := &process{cmd: cmd, log: &strings.Builder{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its workers can be ended, too
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			return p, nil
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("%s ended: %s", cmd.Path, p.log)
		case <-ctx.Done():
			p.kill()
			return nil, fmt.Errorf("%s does not listen on %s: %w", cmd.Path, address, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// signal sends a signal to the server, and to none of its workers.
func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// stop asks the server to end, and ends it if it does not.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(time.Second):
	}
	p.kill()
}

// kill ends the server and its workers, and returns when it is gone.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // their group, which may be gone
	<-p.exited
}

var (
	portsMu sync.Mutex
	ports   = map[int]bool{}
)

// freeAddress returns a loopback address that nobody listens on. Its port is
// below those that systems give to outgoing connections, which could otherwise
// have it while a server restarts.
func freeAddress(ctx context.Context) (string, error) {
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 1000 {
		port := 18_000 + rand.IntN(14_000)
		if ports[port] {
			continue
		}
		ports[port] = true
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port was found")
}

// providerCommand runs this program again, as a provider.
func providerCommand(ctx context.Context, address, key string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), providerAddress+"="+address, providerKey+"="+key)
	if _, err := cmd.StdinPipe(); err != nil { // which is closed when this process ends
		return nil, err
	}
	return cmd, nil
}
