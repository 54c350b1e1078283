package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// names are those of the processes.
var names = []string{"A", "B", "C"}

// A story is what happens, with the time at which it did.
type story struct {
	out   io.Writer
	start time.Time

	mu sync.Mutex
}

func (s *story) begin() { s.start = time.Now() }

func (s *story) say(who, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%5.1f s  %-9s %s\n", time.Since(s.start).Seconds(), who, what)
}

// wait waits for some seconds.
func (s *story) wait(ctx context.Context, seconds int) {
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// startReplicas starts the processes, of this very program. What they print is
// told. stop ends them; it may be called more than once.
func (s *story) startReplicas(ctx context.Context, provider, redis string) (stop func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	stop = func() {
		cancel()
		running.Wait()
	}
	for _, name := range names {
		cmd := exec.CommandContext(ctx, program)
		cmd.Env = append(os.Environ(), replicaEnv+"="+name, "PROVIDER="+provider, "REDIS="+redis)
		cmd.Stderr = os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 5 * time.Second
		lines, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			stop()
			return nil, err
		}
		running.Go(func() {
			for scanner := bufio.NewScanner(lines); scanner.Scan(); {
				s.say(name, scanner.Text())
			}
			_ = cmd.Wait()
		})
	}
	return stop, nil
}
