package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/breaker/fleet"
)

const topic = fleet.DefaultPrefix + "advice"

// A process is what one has of a fleet.
type process struct {
	*fleet.Redis

	mu    sync.Mutex
	heard []breaker.Advice
	log   bytes.Buffer
	meter *metric.ManualReader
}

func newProcess(t *testing.T, client redis.UniversalClient, cfg fleet.Config) *process {
	t.Helper()
	p := &process{meter: metric.NewManualReader()}
	cfg.Logger = slog.New(slog.NewTextHandler(p, nil))
	cfg.MeterProvider = metric.NewMeterProvider(metric.WithReader(p.meter))
	p.Redis = fleet.NewRedis(client, cfg)
	t.Cleanup(func() { _ = p.Close() })
	p.Subscribe(p.hear)
	return p
}

func (p *process) hear(a breaker.Advice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, a)
}

// Write takes a line of the log.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) lines(level string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.log.String(), "level="+level)
}

// names returns what advice was heard of.
func (p *process) names() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.heard {
		names = append(names, a.Name)
	}
	return names
}

// count returns a metric's value, of one of its attributes if that is not "".
func (p *process) count(t *testing.T, name, reason string) (n int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := p.meter.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok || m.Name != "retrip.fleet."+name {
				continue
			}
			for _, point := range sum.DataPoints {
				if v, _ := point.Attributes.Value("retrip.fleet.reason"); reason == "" || v.AsString() == reason {
					n += point.Value
				}
			}
		}
	}
	return n
}

func (p *process) isConnected(t *testing.T) func() bool {
	return func() bool { return p.count(t, "connected", "") == 1 }
}

// connect waits until p has what it needs to hear of everything.
func connect(t *testing.T, s *server, processes ...*process) {
	t.Helper()
	for _, p := range processes {
		eventually(t, "connected", p.isConnected(t))
	}
	eventually(t, "subscribed", func() bool {
		n := s.client(t).PubSubNumSub(t.Context(), topic).Val()[topic]
		return n >= int64(len(processes))
	})
}

func advice(name string, lasts time.Duration) breaker.Advice {
	return breaker.Advice{Name: name, Until: time.Now().Add(lasts)}
}

func TestAdviceReachesTheOthersAndNotOneself(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	a, b := newProcess(t, s.client(t), fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	elsewhere := newProcess(t, s.client(t), fleet.Config{Prefix: "elsewhere:"})
	connect(t, s, a, b)
	eventually(t, "connected", elsewhere.isConnected(t))

	sent := advice("x", 20*time.Second)
	a.Publish(sent)
	b.Publish(advice("y", 20*time.Second))
	eventually(t, "heard of", func() bool { return len(a.names()) == 1 && len(b.names()) == 1 })
	got := b.heard[0]
	if got.Name != "x" || got.Origin == "" || got.Until.Sub(sent.Until).Abs() > 2*time.Second {
		t.Errorf("heard %+v of %+v", got, sent)
	}
	if names := a.names(); names[0] != "y" {
		t.Errorf("heard %q", names)
	}
	if len(elsewhere.names()) > 0 {
		t.Error("heard under another prefix")
	}
	if a.count(t, "published", "") != 1 || a.count(t, "received", "") != 1 || a.count(t, "dropped", "") != 0 {
		t.Error("counted otherwise than it was")
	}
}

func TestALateJoinerLearnsWhatHolds(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	a := newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a)
	a.Publish(advice("long", 100*time.Second))
	a.Publish(advice("short", 50*time.Millisecond))
	a.Publish(advice("over", -time.Second))
	a.Publish(advice("last", 30*time.Second))
	eventually(t, "published", func() bool { return a.count(t, "published", "") == 3 })
	time.Sleep(60 * time.Millisecond) // until short is over

	late := newProcess(t, s.client(t), fleet.Config{})
	eventually(t, "learned", func() bool { return len(late.names()) >= 2 })
	later := new(process)
	stop := late.Subscribe(later.hear)
	defer stop()
	for _, p := range []*process{late, later} {
		names := p.names()
		slices.Sort(names)
		if !slices.Equal(names, []string{"last", "long"}) {
			t.Errorf("learned %q", names)
		}
	}
	if ttl := s.client(t).PTTL(t.Context(), topic).Val(); ttl <= 0 || ttl > 120*time.Second {
		t.Errorf("stored for %v", ttl)
	}
}

// Nobody else cleans up what services that are gone have left.
func TestWhatIsOverIsRemovedFromTheSet(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	a := newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a)
	c := s.client(t)
	over, err := strconv.ParseFloat(s.now(t, -time.Second), 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ZAdd(t.Context(), topic, redis.Z{Score: over, Member: "1 gone over"}).Err(); err != nil {
		t.Fatal(err)
	}
	a.Publish(advice("holds", time.Minute))
	eventually(t, "published", func() bool { return a.count(t, "published", "") == 1 })
	if stored := c.ZRange(t.Context(), topic, 0, -1).Val(); len(stored) != 1 || !strings.HasSuffix(stored[0], " holds") {
		t.Errorf("stored %q", stored)
	}
}

func TestStopEndsASubscription(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	a, b := newProcess(t, s.client(t), fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	stopped := new(process)
	stop := b.Subscribe(stopped.hear)
	connect(t, s, a, b)
	stop()
	b.Subscribe(func(breaker.Advice) { panic("a hearer panics") })
	a.Publish(advice("x", time.Minute))
	eventually(t, "heard", func() bool { return len(b.names()) == 1 })
	a.Publish(advice("y", time.Minute))
	eventually(t, "heard after a panic", func() bool { return len(b.names()) == 2 })
	if len(stopped.names()) > 0 {
		t.Error("heard after stop")
	}
}

func TestAServerThatDiesAndComesBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	a, b := newProcess(t, s.client(t), fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a, b)
	s.kill()
	a.Publish(advice("lost", time.Minute))
	eventually(t, "noticed", func() bool { return !a.isConnected(t)() })
	s.start(t)
	connect(t, s, a, b)
	a.Publish(advice("x", time.Minute))
	eventually(t, "heard", func() bool { return slices.Contains(b.names(), "x") })
	if a.lines("WARN") != 1 || a.lines("INFO") != 2 || a.count(t, "dropped", "failed") != 1 {
		t.Errorf("the log is\n%s", &a.log)
	}
}

func TestAFrozenServerKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	a, b := newProcess(t, s.client(t), fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a, b)
	s.freeze(t)
	for range 1000 {
		a.Publish(advice("x", time.Minute))
	}
	if a.count(t, "dropped", "queue_full") == 0 {
		t.Error("a thousand wait for a frozen server")
	}
	eventually(t, "noticed", func() bool { return !a.isConnected(t)() })
	began := time.Now()
	_ = b.Close()
	t.Logf("closed in %v", time.Since(began))
	s.thaw(t)
	eventually(t, "connected", a.isConnected(t))
}

func TestAFullServerStillPassesAdviceOn(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--maxmemory-policy", "noeviction")
	if s == nil {
		return
	}
	a, b := newProcess(t, s.client(t), fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a, b)
	s.raw(t, "CONFIG SET maxmemory 1")
	a.Publish(advice("x", time.Minute))
	eventually(t, "heard", func() bool { return slices.Contains(b.names(), "x") })
	if a.count(t, "published", "") != 1 || a.count(t, "dropped", "not_stored") != 1 {
		t.Error("not counted as published and not stored")
	}
}

func TestAFlushLosesWhatIsStoredAndNoMore(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	a, b := newProcess(t, s.client(t), fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a, b)
	a.Publish(advice("x", time.Minute))
	s.raw(t, "FLUSHALL")
	a.Publish(advice("y", time.Minute))
	eventually(t, "heard", func() bool { return slices.Contains(b.names(), "y") })
}

func TestAHostilePublisherChangesNothing(t *testing.T) { //nolint:paralleltest // it counts memory
	s := newServer(t, "--client-output-buffer-limit", "pubsub 0 0 0")
	if s == nil {
		return
	}
	a, b := newProcess(t, s.client(t), fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a, b)
	hostile := redis.NewClient(&redis.Options{Addr: s.addr, ReadTimeout: time.Minute, WriteTimeout: time.Minute}) // and patient
	defer hostile.Close()
	publish := func(message string) {
		t.Helper()
		if err := hostile.Publish(t.Context(), topic, message).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, message := range []string{
		"", "x", "\x00\xff", `{"version":2,"open":["x"]}`, s.now(t, time.Minute) + " 2 o x", s.now(t, 0) + " 1 o x",
		s.now(t, -time.Hour) + " 1 o x", s.now(t, time.Hour) + " 1 o x", "253402300799000 1 o x", "9223372036854775807 1 o x",
		strings.Repeat("x", 8<<10),
	} {
		publish(message)
	}
	eventually(t, "dropped", func() bool { return b.count(t, "dropped", "") == 11 })

	// A million members that say nothing, and keys that are nobody's.
	add := redis.NewScript(`for i = 1, 10000 do redis.call('zadd', KEYS[1], ARGV[1], 'junk ' .. ARGV[2] .. ' ' .. i) end`)
	for i := range 100 {
		if err := add.Run(t.Context(), hostile, []string{topic}, s.now(t, 100*time.Second), i).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
	soon, err := strconv.ParseFloat(s.now(t, time.Minute), 64)
	if err != nil {
		t.Fatal(err)
	}
	hostile.ZAdd(t.Context(), topic, redis.Z{Score: math.Inf(1), Member: "1 o x"}, redis.Z{Score: 253402300799000, Member: "1 o y"},
		redis.Z{Score: soon, Member: "1 o " + strings.Repeat("n", 1000)})
	if n := hostile.ZCard(t.Context(), topic).Val(); n != 1_000_003 {
		t.Fatalf("%d members", n)
	}

	var before, after runtime.MemStats
	huge := strings.Repeat("x", 100<<20)
	runtime.ReadMemStats(&before)
	publish(huge)
	late := newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a, b, late)
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc-before.TotalAlloc) >> 20; grown > 150 { // go-redis writes the message through a buffer
		t.Errorf("allocated %d MB for a message of 100 MB", grown)
	}
	if heard := slices.Concat(a.names(), b.names(), late.names()); len(heard) > 0 {
		t.Errorf("believed %q", heard)
	}
	a.Publish(advice("real", time.Minute))
	eventually(t, "heard", func() bool { return slices.Contains(b.names(), "real") && slices.Contains(late.names(), "real") })
}

func TestAUserWithTheRightsNamedIsEnough(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	s.raw(t, "ACL SETUSER retrip on >secret resetkeys ~retrip:* resetchannels &retrip:* "+
		"+hello +ping +time +subscribe +publish +zadd +zremrangebyscore +zrangebyscore +pexpire")
	client := func() *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: s.addr, Username: "retrip", Password: "secret"})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	a, b := newProcess(t, client(), fleet.Config{}), newProcess(t, client(), fleet.Config{})
	connect(t, s, a, b)
	a.Publish(advice("x", time.Minute))
	eventually(t, "heard", func() bool { return len(b.names()) == 1 })
	late := newProcess(t, client(), fleet.Config{})
	eventually(t, "stored", func() bool { return len(late.names()) == 1 })
	if a.count(t, "dropped", "")+late.count(t, "dropped", "") > 0 || a.lines("WARN") > 0 {
		t.Errorf("the log is\n%s", &a.log)
	}
}

func TestAUserWhoMayNotPublishIsTold(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	s.raw(t, "ACL SETUSER mute on >secret resetkeys ~retrip:* resetchannels &retrip:* "+
		"+hello +ping +time +subscribe +zadd +zremrangebyscore +zrangebyscore +pexpire")
	c := redis.NewClient(&redis.Options{Addr: s.addr, Username: "mute", Password: "secret"})
	defer c.Close()
	p := newProcess(t, c, fleet.Config{})
	connect(t, s, p)
	p.Publish(advice("x", time.Minute))
	eventually(t, "told", func() bool { return p.lines("WARN") > 0 })
	if p.count(t, "dropped", "failed") != 1 || p.count(t, "published", "") != 0 {
		t.Error("counted as published")
	}
}

// A refusing limiter is one that lets nothing through.
type refusing struct{}

func (refusing) Allow() error       { return errors.New("limited") }
func (refusing) ReportResult(error) {}

// Advice is for the moments in which the service's own commands fail.
func TestTheCallersLimiterHoldsNoAdviceBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if s == nil {
		return
	}
	c := redis.NewClient(&redis.Options{Addr: s.addr, Limiter: refusing{}})
	defer c.Close()
	a, b := newProcess(t, c, fleet.Config{}), newProcess(t, s.client(t), fleet.Config{})
	connect(t, s, a, b)
	a.Publish(advice("x", time.Minute))
	eventually(t, "heard", func() bool { return slices.Contains(b.names(), "x") })
}

func TestAClusterAndARing(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--cluster-enabled", "yes")
	if s == nil {
		return
	}
	s.raw(t, "CLUSTER ADDSLOTSRANGE 0 16383")
	eventually(t, "the cluster is up", func() bool { return strings.Contains(fmt.Sprint(s.raw(t, "CLUSTER INFO")), "cluster_state:ok") })
	for name, client := range map[string]func() redis.UniversalClient{
		"cluster": func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.addr}})
		},
		"ring": func() redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": s.addr}})
		},
	} {
		c := client()
		t.Cleanup(func() { _ = c.Close() })
		cfg := fleet.Config{Prefix: fleet.DefaultPrefix + name}
		a, b := newProcess(t, c, cfg), newProcess(t, c, cfg)
		eventually(t, name+" connected", func() bool { return a.isConnected(t)() && b.isConnected(t)() })
		a.Publish(advice("x", time.Minute))
		eventually(t, name+" heard", func() bool { return len(b.names()) == 1 })
		_, _ = a.Close(), b.Close()
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Errorf("Close has closed the caller's %s: %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	const key = "https://api.openai.com chat gpt-4o"
	plain, hashed := fleet.NewRedis(nil, fleet.Config{}), fleet.NewRedis(nil, fleet.Config{HashKeys: true})
	defer plain.Close()
	defer hashed.Close()
	if got := plain.Name(key); got != key {
		t.Errorf("called %q", got)
	}
	long := strings.Repeat("x", 257)
	for _, got := range []string{hashed.Name(key), plain.Name(long)} {
		if len(got) != 32 || strings.Contains(got, "openai") {
			t.Errorf("called %q", got)
		}
	}
	if hashed.Name(key) == hashed.Name(key+"x") {
		t.Error("two keys, one hash")
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) { //nolint:paralleltest // it counts goroutines
	for name, client := range map[string]func(addr string) redis.UniversalClient{
		"client": func(addr string) redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: addr}) },
		"cluster": func(addr string) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}})
		},
	} {
		before := goleak.IgnoreCurrent()
		c := client(freeAddr(t))
		p := newProcess(t, c, fleet.Config{})
		p.Publish(advice("x", time.Minute))
		eventually(t, "dials have failed", func() bool { return p.count(t, "dropped", "failed") == 1 })
		_ = p.Close()
		if err := goleak.Find(before); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
	}
}

func TestWithoutAServerNothingWaits(t *testing.T) {
	t.Parallel()
	c := redis.NewClient(&redis.Options{Addr: freeAddr(t)})
	defer c.Close()
	p := newProcess(t, c, fleet.Config{})
	p.Publish(advice("x", time.Minute))
	eventually(t, "dropped", func() bool { return p.count(t, "dropped", "failed") == 1 })
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	p.Publish(advice("x", time.Minute))
	stop := p.Subscribe(p.hear)
	stop()
	if p.lines("WARN") != 1 || strings.Contains(p.log.String(), "INFO") {
		t.Errorf("the log is\n%s", &p.log)
	}
}
