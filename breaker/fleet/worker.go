package fleet

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/retrip-go/retrip/breaker"
)

// longest is how far ahead advice may reach: package breaker opens for no longer.
const longest = 120 * time.Second

// How often the server is asked for its time, at least.
const (
	pulse      = 15 * time.Second
	quickPulse = time.Second // while it does not answer
)

var errSlow = errors.New("fleet: the server took more than a second for its time")

// work sends all commands, one after the other. One goroutine is enough, since advice is
// rare, and it needs one connection.
func (r *Redis) work() {
	up := link{r: r}
	r.outbox.read()
	for {
		r.rest(up.pulse())
		if r.life.Err() != nil {
			return
		}
		waiting, reads := r.outbox.take()
		up.note(r.attend(waiting, reads || !up.works))
	}
}

// rest waits until there is something to do, for most at the most.
func (r *Redis) rest(most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-r.life.Done():
	case <-r.outbox.wake:
	case <-timer.C:
	}
}

// attend reads the server's clock, and does what there is to do. Without the clock
// nothing can be sent or believed. Its answer is also the proof that the server is there.
func (r *Redis) attend(waiting []breaker.Advice, reads bool) error {
	if err := r.readClock(); err != nil {
		r.meters.dropAll(reasonFailed, len(waiting))
		return err
	}
	if len(waiting) > 0 {
		if err := r.send(waiting); err != nil {
			return err
		}
	}
	if reads {
		return r.read()
	}
	return nil
}

// readClock reads the server's time. One that took longer than limit to come is not used,
// because it could be wrong by half of that.
func (r *Redis) readClock() error {
	ctx, cancel := context.WithTimeout(r.life, limit)
	defer cancel()
	before := time.Now()
	server, err := r.client.Time(ctx).Result()
	after := time.Now()
	switch {
	case err != nil:
		return err
	case after.Sub(before) > limit:
		return errSlow
	}
	r.clock.set(server, before, after)
	return nil
}

// send publishes and stores advice, in one round trip. What is over is removed from the
// set at the same time, and the whole set expires when all of it is over, so that nothing
// is left of services that are gone.
func (r *Redis) send(waiting []breaker.Advice) error {
	entries := r.entries(waiting)
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.life, limit)
	defer cancel()
	now, _ := r.clock.at(time.Now())
	pipe := r.client.Pipeline()
	published := make([]*redis.IntCmd, 0, len(entries))
	members := make([]redis.Z, 0, len(entries))
	for _, e := range entries {
		published = append(published, pipe.Publish(ctx, r.topic, e.message()))
		members = append(members, redis.Z{Score: float64(e.until), Member: e.member()})
	}
	stored := pipe.ZAdd(ctx, r.topic, members...)
	pipe.ZRemRangeByScore(ctx, r.topic, "-inf", strconv.FormatInt(now.UnixMilli(), 10))
	pipe.PExpire(ctx, r.topic, longest)
	_, _ = pipe.Exec(ctx) // each command has its own error
	n, err := r.count(published)
	if stored.Err() != nil {
		r.meters.dropAll(reasonNotStored, n)
	}
	return err
}

// entries puts advice into the server's time. What is over is dropped.
func (r *Redis) entries(waiting []breaker.Advice) (entries []entry) {
	here := time.Now()
	now, _ := r.clock.at(here)
	for _, a := range waiting {
		left := min(a.Until.Sub(here), longest)
		if left <= 0 {
			r.meters.drop(reasonLate)
			continue
		}
		entries = append(entries, entry{until: now.Add(left).UnixMilli(), source: source{r.origin, a.Name}})
	}
	return entries
}

// count counts what was published, and returns the first error of what was not.
func (r *Redis) count(published []*redis.IntCmd) (n int, first error) {
	for _, p := range published {
		if err := p.Err(); err != nil {
			r.meters.drop(reasonFailed)
			first = cmp.Or(first, err)
			continue
		}
		n++
		r.meters.publish()
	}
	return n, first
}

// read reads what is stored of others. The range leaves out what is over, or can't be
// true, and its length is bounded: the set may be as large as its writers like.
func (r *Redis) read() error {
	ctx, cancel := context.WithTimeout(r.life, limit)
	defer cancel()
	now, _ := r.clock.at(time.Now())
	stored, err := r.client.ZRangeByScoreWithScores(ctx, r.topic, &redis.ZRangeBy{
		Min:   "(" + strconv.FormatInt(now.UnixMilli(), 10),
		Max:   strconv.FormatInt(now.Add(longest+limit).UnixMilli(), 10),
		Count: maxKnown,
	}).Result()
	if err != nil {
		return err
	}
	for _, z := range stored {
		member, _ := z.Member.(string)
		from, ok := parseMember(member)
		r.hear(entry{until: int64(z.Score), source: from}, ok)
	}
	return nil
}

// A link is whether the server answers. One line is logged for each change, since a
// server that is gone for hours would fill the log otherwise.
type link struct {
	r            *Redis
	known, works bool
}

// pulse returns how long the worker waits for something to do. A server that does not
// answer is asked more often, so that its return is seen soon.
func (l *link) pulse() time.Duration {
	if l.works || !l.known {
		return pulse
	}
	return quickPulse
}

// note takes what came of the latest command.
func (l *link) note(err error) {
	works := err == nil
	if l.r.life.Err() != nil || l.known && works == l.works {
		return
	}
	l.known, l.works = true, works
	l.r.meters.connect(works)
	if l.r.logger == nil {
		return
	}
	if works {
		l.r.logger.LogAttrs(l.r.life, slog.LevelInfo, "circuit breakers share what they learn", slog.String("channel", l.r.topic))
	} else {
		l.r.logger.LogAttrs(l.r.life, slog.LevelWarn, "circuit breakers cannot share what they learn: each process is on its own",
			slog.String("channel", l.r.topic), slog.Any("error", err))
	}
}
