package storm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

var verbose = flag.Bool("storm.v", false, "log changes of state")

const quickly = time.Millisecond

// restart serves calls that take some time, but for a restart.
func restart(at, lasts, takes time.Duration) func(uint64) server {
	return func(seed uint64) server {
		chance := rand.New(rand.NewPCG(seed, 4))
		return func(now time.Duration) (int, time.Duration) {
			need := takes*3/4 + time.Duration(chance.Int64N(int64(takes/2)))
			switch {
			case now >= at && now < at+lasts:
				return noConnection, quickly
			case now < at && now+need > at:
				return lostConnection, at - now
			}
			return 200, need
		}
	}
}

// random503 serves calls, of which a share fails.
func random503(share float64) func(uint64) server {
	return func(seed uint64) server {
		chance := rand.New(rand.NewPCG(seed, 4))
		return func(time.Duration) (int, time.Duration) {
			if chance.Float64() < share {
				return 503, 20 * time.Millisecond
			}
			return 200, fastest + time.Duration(chance.Int64N(int64(slowest-fastest)))
		}
	}
}

// queue is a proxy with so many connections, and a queue that times out.
func queue(conns int, takes, timeout time.Duration) func(uint64) server {
	return func(seed uint64) server {
		free := make([]time.Duration, conns)
		return func(now time.Duration) (int, time.Duration) {
			first := 0
			for i := range free {
				if free[i] < free[first] {
					first = i
				}
			}
			begins := max(free[first], now)
			if begins-now > timeout {
				return 503, timeout
			}
			free[first] = begins + takes
			return 200, begins + takes - now
		}
	}
}

// sheds refuses every other request of a burst.
func sheds() func(uint64) server {
	return func(seed uint64) server {
		n := 0
		last := time.Duration(-1)
		return func(now time.Duration) (int, time.Duration) {
			if now-last > 50*time.Millisecond {
				n = 0
			}
			last = now
			n++
			if n%2 == 0 {
				return 503, quickly
			}
			return 200, 300 * time.Millisecond
		}
	}
}

// limited is nginx's limit_req: so many a second, with a burst.
func limited(perSecond float64, burst float64) func(uint64) server {
	return func(seed uint64) server {
		excess, last := 0.0, time.Duration(0)
		return func(now time.Duration) (int, time.Duration) {
			e := max(0, excess-(now-last).Seconds()*perSecond) + 1
			if e > burst+1 {
				return 503, quickly
			}
			excess, last = e, now
			return 200, 200 * time.Millisecond
		}
	}
}

func TestExplore(t *testing.T) {
	show := func(name string, tr trial, seeds int) {
		var a, b, c, opened, req, breq int64
		var ownreq int64
		bad := 0
		for seed := range seeds {
			own := tr.play(t, uint64(seed), ours)
			theirs := tr.play(t, uint64(seed), sdks)
			a += own.answered.Load()
			b += theirs.answered.Load()
			c += own.calls.Load()
			opened += own.opened.Load()
			req += own.requests.Load()
			breq += theirs.requests.Load()
			_ = ownreq
			if own.opened.Load() > 0 {
				bad++
			}
		}
		mark := ""
		if a < b {
			mark = "  FEWER"
		}
		fmt.Printf("%-44s calls %6d answered %6d sdk %6d opened %3d in %d/%d req %d sdk %d%s\n", name, c, a, b, opened, bad, seeds, req, breq, mark)
	}
	_ = retry.Config{}
	for _, d := range []time.Duration{200 * time.Millisecond, 2 * time.Second} {
		for _, n := range []int{8, 64} {
			show(fmt.Sprintf("restart %v, %d, cold", d, n), trial{serve: restart(500*time.Millisecond, d, 2*time.Second), send: loops(n, 3)}, 5)
			show(fmt.Sprintf("restart %v, %d, warm", d, n), trial{serve: restart(30*time.Second, d, 2*time.Second), send: loops(n, 18)}, 5)
			show(fmt.Sprintf("restart %v, %d/s arrivals, warm", d, n/2), trial{serve: restart(30*time.Second, d, 2*time.Second), send: arrivals(float64(n)/2, time.Minute)}, 5)
			show(fmt.Sprintf("restart %v, %d/s arrivals, cold", d, n/2), trial{serve: restart(2*time.Second, d, 2*time.Second), send: arrivals(float64(n)/2, 30*time.Second)}, 5)
		}
	}
	for _, n := range []int{16, 32, 64} {
		show(fmt.Sprintf("queue 100 ms, %d", n), trial{serve: queue(4, 100*time.Millisecond, 100*time.Millisecond), send: loops(n, 7)}, 5)
		show(fmt.Sprintf("bursts, half shed, %d", n), trial{serve: limited(float64(n), float64(n)/2-1), send: rounds(n, 7, time.Second)}, 5)
		show(fmt.Sprintf("bursts, half shed, 10 s apart, %d", n), trial{serve: limited(float64(n), float64(n)/2-1), send: rounds(n, 7, 10*time.Second)}, 5)
		show(fmt.Sprintf("queue, %d", n), trial{serve: queue(4, 50*time.Millisecond, 100*time.Millisecond), send: loops(n, 7)}, 5)
		show(fmt.Sprintf("sheds half, %d", n), trial{serve: sheds(), send: loops(n, 7)}, 5)
		show(fmt.Sprintf("limit_req 20/s burst 5, %d", n), trial{serve: limited(20, 5), send: loops(n, 7)}, 5)
		show(fmt.Sprintf("limit_req 10/s, %d", n), trial{serve: limited(10, 0), send: loops(n, 5)}, 5)
	}
	for _, share := range []float64{0.1, 0.2, 0.3} {
		for _, n := range []int{16, 32} {
			show(fmt.Sprintf("random 503s, %.0f %%, %d", share*100, n), trial{serve: random503(share), send: loops(n, 20)}, 10)
		}
	}
	_ = openai.Config{}
}
