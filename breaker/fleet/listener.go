package fleet

import (
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/retrip-go/retrip/breaker"
)

// listen hears what is published.
func (r *Redis) listen() {
	sub := r.client.Subscribe(r.life, r.topic)
	messages := sub.ChannelWithSubscriptions()
	for {
		select {
		case <-r.life.Done():
			_ = sub.Close()
			for range messages { //nolint:revive // its sender would wait for a reader
			}
			return
		case m := <-messages:
			switch m := m.(type) {
			case *redis.Subscription: // also after each reconnect
				r.outbox.read()
			case *redis.Message:
				e, ok := parseMessage(m.Payload)
				r.hear(e, ok)
			}
		}
	}
}

// hear takes what another process says, if it is advice.
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

// pass passes advice on. A hearer that panics costs nothing but itself.
func (r *Redis) pass(f func(breaker.Advice), a breaker.Advice) {
	defer func() {
		if p := recover(); p != nil && r.logger != nil {
			r.logger.LogAttrs(r.life, slog.LevelError, "a hearer of advice panicked", slog.Any("panic", p))
		}
	}()
	f(a)
}
