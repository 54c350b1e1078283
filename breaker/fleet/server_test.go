package fleet_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{}) // it tells of each lost connection
	goleak.VerifyTestMain(settled{m})
}

// settled runs all tests, and then waits for what ends by itself: a pool of go-redis that
// could not dial when it was closed has a goroutine that sleeps for another second.
type settled struct{ *testing.M }

func (s settled) Run() int {
	code := s.M.Run()
	for range 5 { // Find waits half a second
		if goleak.Find() == nil {
			break
		}
	}
	return code
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// A server is a redis-server of the test's own.
type server struct {
	addr    string
	program string
	args    []string
	cmd     *exec.Cmd
}

// newServer starts a redis-server. Where there is none it says so, and returns nil:
// then there is nothing to test, but in CI.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed")
		}
		t.Log("not tested: redis-server is not installed (apt-get install redis-server)")
		return nil
	}
	s := &server{addr: freeAddr(t), program: program}
	_, port, _ := net.SplitHostPort(s.addr)
	s.args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...)
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.program, s.args...) //nolint:noctx // it is killed by Cleanup
	s.cmd.Stdout, s.cmd.Stderr = io.Discard, io.Discard
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := s.client(t)
	eventually(t, "the server answers", func() bool { return c.Ping(context.Background()).Err() == nil })
}

func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *server) freeze(t *testing.T) { t.Helper(); s.signal(t, syscall.SIGSTOP) }
func (s *server) thaw(t *testing.T)   { t.Helper(); s.signal(t, syscall.SIGCONT) }

// client returns a client as a service has it.
func (s *server) client(t *testing.T) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// raw sends a command, whatever it is, and fails the test if it fails.
func (s *server) raw(t *testing.T, command string) any {
	t.Helper()
	args := []any{}
	for word := range strings.FieldsSeq(command) {
		args = append(args, word)
	}
	v, err := s.client(t).Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return v
}

// now returns the server's time in milliseconds, and so much more.
func (s *server) now(t *testing.T, more time.Duration) string {
	t.Helper()
	now, err := s.client(t).Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatInt(now.Add(more).UnixMilli(), 10)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
