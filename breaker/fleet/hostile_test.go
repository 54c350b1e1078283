package fleet_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/retrip-go/retrip/breaker/fleet"
)

// impostor listens where a Redis is expected, and says what answer returns to each
// command. An answer of "" ends the connection.
func impostor(t *testing.T, answer func(command string) string) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { _ = conn.Close() })
			serving.Go(func() {
				defer stop()
				defer conn.Close()
				serve(conn, answer)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// serve answers each line that holds the name of a command.
func serve(conn net.Conn, answer func(string) string) {
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch command := strings.ToLower(lines.Text()); command {
		case "hello", "client", "time", "subscribe", "ping", "zrangebyscore", "publish":
			a := answer(command)
			if _, err := io.WriteString(conn, a); err != nil || a == "" {
				return
			}
		}
	}
}

const (
	greeting = "*2\r\n+server\r\n+redis\r\n"
	fine     = "+OK\r\n"
	noon     = "*2\r\n$10\r\n1900000000\r\n$1\r\n0\r\n"
)

// TestAnImpostorEndsNoProcess: what a server says, whatever it is, costs little and
// panics nowhere.
func TestAnImpostorEndsNoProcess(t *testing.T) {
	t.Parallel()
	for _, nasty := range []string{
		"*0\r\n", "*1\r\n+message\r\n", "*1\r\n:1\r\n", "*3\r\n+subscribe\r\n+x\r\n+y\r\n", "*3\r\n+message\r\n:1\r\n+x\r\n",
		"*3\r\n+message\r\n+c\r\n*1\r\n:1\r\n", "*2\r\n+pong\r\n:1\r\n", "*4\r\n+pmessage\r\n:1\r\n:1\r\n:1\r\n", "*-1\r\n", "$-1\r\n", "$-2\r\n", "*-2\r\n",
		"%1\r\n*1\r\n+a\r\n+b\r\n", "|1\r\n+a\r\n+b\r\n+c\r\n", ">1\r\n+a\r\n", "_\r\n", "#x\r\n", "(x\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n", "\x00\r\n",
		"$104857600\r\n", "$000000000000000000000000104857600\r\n", "*1000000\r\n", strings.Repeat("*16384\r\n", 10_000), strings.Repeat("*1\r\n", 1_000_000),
		strings.Repeat("x", 1<<20), "*2\r\n$3\r\nabc\r\n$1\r\n0\r\n", "*1\r\n*2\r\n+1 o n\r\n+nan\r\n", "-LOADING\r\n", "-MOVED 1 :0\r\n",
	} {
		for _, to := range []string{"hello", "time", "subscribe", "zrangebyscore"} {
			t.Run(strings.TrimSpace(to+" "+nasty[:min(len(nasty), 12)]), func(t *testing.T) {
				t.Parallel()
				var said atomic.Int64
				addr := impostor(t, func(command string) string {
					if command == to {
						said.Add(1)
						return nasty
					}
					return map[string]string{"hello": greeting, "client": fine, "time": noon, "subscribe": "*3\r\n+subscribe\r\n+x\r\n:1\r\n", "zrangebyscore": "*0\r\n"}[command]
				})
				c := redis.NewClient(&redis.Options{Addr: addr})
				defer c.Close()
				p := newProcess(t, c, fleet.Config{})
				eventually(t, "said", func() bool { return said.Load() > 0 })
				if err := p.Close(); err != nil || len(p.names()) > 0 {
					t.Errorf("heard %q", p.names())
				}
			})
		}
	}
}

func TestAnAnswerThatNeverEndsTakesNoMemory(t *testing.T) { //nolint:paralleltest // it counts memory
	var said atomic.Int64
	addr := impostor(t, func(command string) string {
		switch command {
		case "hello":
			return greeting
		case "subscribe":
			said.Add(1)
			return strings.Repeat("*16384\r\n", 4096) // 1 GB for those who believe it
		default:
			return fine
		}
	})
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := newProcess(t, c, fleet.Config{})
	eventually(t, "said", func() bool { return said.Load() > 1 })
	_ = p.Close()
	runtime.ReadMemStats(&after)
	if grown, times := int64(after.TotalAlloc-before.TotalAlloc)>>20, said.Load(); grown > 32*times {
		t.Errorf("allocated %d MB for %d answers", grown, times)
	}
}

// answering returns what a Redis answers that knows one advice, which holds for a minute.
func answering(command string) string {
	return map[string]string{
		"hello": greeting, "client": fine, "time": noon, "subscribe": "*3\r\n+subscribe\r\n+x\r\n:1\r\n", "ping": "*2\r\n+pong\r\n+\r\n",
		"zrangebyscore": "*2\r\n+1 o n\r\n$13\r\n1900000060000\r\n", "publish": ":1\r\n",
	}[command]
}

// The subscription, whose beginning asks for what is stored, may work all the time.
func TestWhatIsStoredIsReadOnceItCanBe(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	c := redis.NewClient(&redis.Options{Addr: impostor(t, func(command string) string {
		if command == "zrangebyscore" && asked.Add(1) <= 2 {
			return "-ERR not yet\r\n"
		}
		return answering(command)
	})})
	defer c.Close()
	p := newProcess(t, c, fleet.Config{})
	eventually(t, "heard of what is stored", func() bool { return len(p.names()) == 1 })
	_ = p.Close()
}

func TestAServerThatIsGoneIsAskedEachSecond(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	c := redis.NewClient(&redis.Options{Addr: impostor(t, func(command string) string {
		if command == "time" {
			asked.Add(1)
			return "-ERR gone\r\n"
		}
		return answering(command)
	})})
	defer c.Close()
	p := newProcess(t, c, fleet.Config{})
	began := time.Now()
	eventually(t, "asked four times", func() bool { return asked.Load() >= 4 })
	if took := time.Since(began); took > 14*time.Second {
		t.Errorf("asked four times in %v", took)
	}
	_ = p.Close()
}

// A time that was read long ago by now could be wrong by seconds. Clients that are used
// as they are may wait longer than we do.
func TestATimeThatTookLongToComeIsNotUsed(t *testing.T) {
	t.Parallel()
	c := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": impostor(t, func(command string) string {
		if command == "time" {
			time.Sleep(1200 * time.Millisecond)
		}
		return answering(command)
	})}})
	defer func() { _ = c.Close() }()
	p := newProcess(t, c, fleet.Config{})
	eventually(t, "told", func() bool { return p.lines("WARN") == 1 })
	_ = p.Close()
	if p.lines("INFO") > 0 || len(p.names()) > 0 {
		t.Errorf("heard %q, the log is\n%s", p.names(), &p.log)
	}
}

// A connection that a firewall has forgotten looks like one on which nothing is published.
func TestASubscriptionThatAnswersNoPingIsMadeAnew(t *testing.T) {
	t.Parallel()
	var subscribed atomic.Int64
	c := redis.NewClient(&redis.Options{Addr: impostor(t, func(command string) string {
		switch command {
		case "subscribe":
			subscribed.Add(1)
		case "ping":
			<-t.Context().Done()
		}
		return answering(command)
	})})
	defer c.Close()
	p := newProcess(t, c, fleet.Config{})
	eventually(t, "subscribed again", func() bool { return subscribed.Load() > 1 })
	_ = p.Close()
}

// TestCloseWaitsForNoHandshake: the dialer of go-redis heeds no context over TLS.
func TestCloseWaitsForNoHandshake(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{
		Addr: l.Addr().String(), DialTimeout: time.Minute, TLSConfig: &tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS12},
	})
	defer c.Close()
	p := newProcess(t, c, fleet.Config{})
	p.Publish(advice("x", time.Minute))
	eventually(t, "given up", func() bool { return p.count(t, "dropped", "failed") == 1 })
	_ = p.Close()
	_ = l.Close() // ends the handshakes
}

// TestAClientThatIsClosedTooEarly: such a Redis does nothing, in peace.
func TestAClientThatIsClosedTooEarly(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]redis.UniversalClient{
		"ring":          redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": freeAddr(t)}}),
		"without shard": redis.NewRing(&redis.RingOptions{}),
		"client":        redis.NewClient(&redis.Options{Addr: freeAddr(t)}),
		"cluster":       redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{freeAddr(t)}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, client, fleet.Config{})
			_ = client.Close()
			p.Publish(advice("x", time.Minute))
			eventually(t, "dropped", func() bool { return p.count(t, "dropped", "failed") == 1 })
			if n := p.count(t, "dropped", ""); n != 1 {
				t.Errorf("one advice was dropped %d times", n)
			}
		})
	}
}
