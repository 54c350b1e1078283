// Fleet shows three processes that call one provider, and tell each other through
// Redis when it is down. The provider is a fake one, the redis-server that of the
// machine, started for the occasion:
//
//	go run -C examples/fleet .
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
)

func main() {
	if isReplica() {
		replica()
		return
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		fmt.Println("There is no redis-server here. Install it (apt-get install redis-server, brew install redis), and run this again.")
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := tell(ctx, os.Stdout, program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}

// tell tells the story.
func tell(ctx context.Context, out io.Writer, redisServer string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &story{out: out}
	provider := newProvider()
	defer provider.Close()
	redis, err := startRedis(ctx, redisServer)
	if err != nil {
		return err
	}
	defer redis.stop()

	s.begin()
	s.say("", "a provider, a redis-server and three processes: A calls ten times a second, B and C once")
	stop, err := s.startReplicas(ctx, provider.URL, redis.addr)
	if err != nil {
		return err
	}
	defer stop()
	s.wait(ctx, 2)
	provider.down.Store(true)
	s.say("provider", "is down from now on")
	s.wait(ctx, 5)
	provider.down.Store(false)
	s.say("provider", "is well again; nobody knows it yet")
	s.wait(ctx, 5)
	stop()
	for _, name := range names {
		s.say(name, fmt.Sprintf("sent %d requests to the provider while it was down", provider.failed(name)))
	}
	s.say("", "A had to learn it by itself. B and C were told, and each believed it at its next failure.")
	return ctx.Err()
}
