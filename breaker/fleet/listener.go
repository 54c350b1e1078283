package fleet

import (
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/retrip-go/retrip/breaker"
)

// How a subscription is kept alive. A ping every few seconds also keeps a firewall from
// forgetting the connection.
const (
	pingEvery = 3 * time.Second
	respite   = 500 * time.Millisecond // after an error
)

// listen hears what is published, until the Redis is closed.
func (r *Redis) listen() {
	for r.life.Err() == nil {
		r.hearAll()
		r.pause(respite)
	}
}

// hearAll hears what is published until the subscription is of no more use. It reads by
// itself, since go-redis panics at answers of an unexpected shape, and where a Ring has
// lost all its shards. A channel of go-redis is fed by a goroutine that nothing guards:
// a panic there would end the process.
func (r *Redis) hearAll() {
	defer func() { _ = recover() }() // the worker logs whether the server answers
	sub := r.client.Subscribe(r.life, r.topic)
	heard, over := make(chan struct{}, 1), make(chan struct{})
	r.listening.Go(func() { r.watch(sub, heard, over) })
	defer close(over)
	for {
		m, err := sub.Receive(r.life)
		if errors.Is(err, redis.ErrClosed) {
			return
		}
		if err != nil {
			r.pause(respite) // the next Receive connects anew
			continue
		}
		rouse(heard)
		r.receive(m)
	}
}

// receive takes what the server sends to a subscriber. A new subscription may have missed
// what was published before it, so that what is stored is read.
func (r *Redis) receive(m any) {
	switch m := m.(type) {
	case *redis.Subscription: // also after each reconnect
		r.outbox.read()
	case *redis.Message:
		e, ok := parseMessage(m.Payload)
		r.hear(e, ok)
	}
}

// watch closes a subscription when it is over, when the Redis is closed, or when not
// even a ping is answered: a connection that a firewall has forgotten looks like one on
// which nothing is published.
func (r *Redis) watch(sub *redis.PubSub, heard, over <-chan struct{}) {
	defer sub.Close()
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for asked := false; ; asked = true {
		select {
		case <-r.life.Done():
			return
		case <-over:
			return
		case <-ticker.C:
		}
		select {
		case <-heard:
		default:
			if asked {
				return
			}
		}
		_ = sub.Ping(r.life) // what has become of it is seen next time
	}
}

// pause waits, or returns at once when the Redis is closed.
func (r *Redis) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.life.Done():
	case <-timer.C:
	}
}

// hear takes what another process says, if it is advice. What comes from this process is
// dropped without a count: every publication comes back to its subscription.
func (r *Redis) hear(e entry, ok bool) {
	if !ok {
		r.meters.drop(reasonInvalid)
		return
	}
	if e.origin == r.origin {
		return
	}
	here := time.Now()
	now, known := r.clock.at(here)
	if !known || !e.timely(now) {
		r.meters.drop(reasonLate) // what comes before the clock is known is read afterwards
		return
	}
	r.meters.receive()
	a := breaker.Advice{Name: e.name, Origin: e.origin, Until: here.Add(e.left(now))}
	for _, f := range r.board.post(a) {
		r.pass(f, a)
	}
}

// pass passes advice on. A subscriber that panics must not end the goroutine that serves
// all others.
func (r *Redis) pass(f func(breaker.Advice), a breaker.Advice) {
	defer func() {
		if p := recover(); p != nil && r.logger != nil {
			r.logger.LogAttrs(r.life, slog.LevelError, "a hearer of advice panicked", slog.Any("panic", p))
		}
	}()
	f(a)
}
