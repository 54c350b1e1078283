package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/breaker"
)

// DefaultPrefix is that of a Config without one.
const DefaultPrefix = "retrip:fleet:"

// limit is how long Redis has for anything that is asked of it.
const limit = time.Second

// A Config says where in Redis advice is exchanged. Its zero value is fit for
// production.
type Config struct {
	// Prefix begins the name of the one key and the one channel that are used.
	// Processes hear of each other that have the same. "" means "retrip:fleet:".
	Prefix string

	// HashKeys has the names of breakers, which hold hosts and models, hashed.
	// Processes hear of each other that have the same setting. Names above 256
	// bytes always are.
	HashKeys bool

	// Logger gets a line when the connection to Redis works, Info, and when it
	// does no longer, Warn. nil means no logs. (go-redis has a logger of its
	// own.)
	Logger *slog.Logger

	// MeterProvider makes the instruments. nil means the global one.
	MeterProvider metric.MeterProvider
}

// A Redis is a [breaker.Fleet] over Redis. Make it with [NewRedis], one for a
// process: all that it serves is one origin, and hears nothing of itself. Its
// methods are safe for concurrent use, and but for Close none blocks.
type Redis struct {
	client  redis.UniversalClient
	private bool // the client is ours to close
	topic   string
	origin  string
	hash    bool
	logger  *slog.Logger
	meters  *meters
	clock   clock
	outbox  outbox
	board   board

	life      context.Context //nolint:containedctx // that of the goroutines
	end       context.CancelFunc
	listening sync.WaitGroup
	working   sync.WaitGroup
	once      sync.Once
}

var _ breaker.Fleet = (*Redis)(nil)

// NewRedis returns a Redis that uses what client does. It does not wait for the
// server, which may be down.
//
// Of a *redis.Client or *redis.ClusterClient a private client is made, from a copy
// of its Options, with two connections, RESP 2, and limits of a second: go-redis heeds
// deadlines only where ContextTimeoutEnabled. Any other client is used as it is:
// where it waits longer, advice is late, and Close waits as long; and what it reads
// is bounded by its own limits only. The client stays the caller's to close, after
// the Redis. With a nil client nothing is shared.
func NewRedis(client redis.UniversalClient, cfg Config) *Redis {
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	r := &Redis{topic: cfg.Prefix + "advice", origin: newOrigin(), hash: cfg.HashKeys, logger: cfg.Logger}
	r.client, r.private = privateOf(client)
	r.life, r.end = context.WithCancel(context.Background())
	r.outbox.wake = make(chan struct{}, 1)
	r.meters = newMeters(cfg.MeterProvider)
	if client == nil {
		r.end() // there is nothing to be done
		return r
	}
	r.working.Go(r.work)
	r.listening.Go(r.listen)
	return r
}

func newOrigin() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// Name returns what advice about a breaker's key is called.
func (r *Redis) Name(key string) string {
	if !r.hash && len(key) <= maxName {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// Publish has other processes hear of an advice, once Redis gets to it. Up to 256
// wait for that; beyond them the oldest is dropped.
func (r *Redis) Publish(a breaker.Advice) {
	if r.life.Err() != nil {
		return
	}
	if dropped := r.outbox.put(a); dropped {
		r.meters.drop(reasonQueueFull)
	}
}

// Subscribe has f called with the advice of other processes, also with what is
// known of it already, until stop is called or the Redis is closed. f may be called
// by several goroutines at a time.
func (r *Redis) Subscribe(f func(breaker.Advice)) (stop func()) {
	known, stop := r.board.subscribe(f)
	for _, a := range known {
		r.pass(f, a)
	}
	return stop
}

// Close ends the subscription, the goroutines and the connections of the Redis, not
// those of the client that it was made from. It waits for functions that are hearing
// advice, OnStateChange of a breaker among them, so none may call it. Where the server
// does not answer, that takes up to two seconds. Breakers may go on to use the Redis,
// to no effect. It always returns nil.
func (r *Redis) Close() error {
	r.once.Do(func() {
		r.end()
		r.listening.Wait()
		if r.private {
			_ = r.client.Close() // so that the worker waits for no answer
		}
		r.working.Wait()
		r.meters.close()
	})
	return nil
}
