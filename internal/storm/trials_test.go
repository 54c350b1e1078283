package storm

import (
	"fmt"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// restart serves calls that take about two seconds, but for the time of a restart,
// half a second after so many calls: who is in flight then loses the connection,
// and who comes finds nobody.
func restart(afterCalls int, lasts time.Duration) func(*world) server {
	return func(w *world) server {
		from := 1000 * time.Hour
		return func(at time.Duration) (int, time.Duration) {
			if w.requests.Load() == int64(afterCalls)+1 {
				from = at + 500*time.Millisecond
			}
			takes := 1500*time.Millisecond + time.Duration(w.luck.Int64N(int64(time.Second)))
			switch {
			case at < from && at+takes > from:
				return lostConnection, from - at
			case at >= from && at < from+lasts:
				return noConnection, time.Millisecond
			}
			return 200, takes
		}
	}
}

// sheds lets so many through at once, and so many a second.
func sheds(atOnce, perSecond float64) func(*world) server {
	return func(*world) server {
		room, last := atOnce, time.Duration(0)
		return func(at time.Duration) (int, time.Duration) {
			room = min(atOnce, room+(at-last).Seconds()*perSecond)
			last = at
			if room < 1 {
				return 503, time.Millisecond
			}
			room--
			return 200, 200 * time.Millisecond
		}
	}
}

// queues is a proxy with four connections, and a queue in which nobody waits for
// longer than 100 ms.
func queues(w *world) server {
	const takes, patience = 100 * time.Millisecond, 100 * time.Millisecond
	var free [4]time.Duration
	return func(at time.Duration) (int, time.Duration) {
		first := 0
		for i := range free {
			if free[i] < free[first] {
				first = i
			}
		}
		begins := max(free[first], at)
		if begins-at > patience {
			return 503, patience
		}
		free[first] = begins + takes
		return 200, begins + takes - at
	}
}

// fails lets a share of the requests fail, soon.
func fails(share float64) func(*world) server {
	return func(w *world) server {
		return func(time.Duration) (int, time.Duration) {
			if w.luck.Float64() < share {
				return 503, quick
			}
			return 200, fastest + time.Duration(w.luck.Int64N(int64(slowest-fastest)))
		}
	}
}

// down is an outage.
func down(code int) func(*world) server {
	return func(*world) server {
		return func(time.Duration) (int, time.Duration) { return code, quick }
	}
}

// wellAgain fails until the breaker has opened. From then on calls take their time,
// but for some that meet a sick server while it is half open.
func wellAgain(takes time.Duration, sick float64) func(*world) server {
	return func(w *world) server {
		return func(at time.Duration) (int, time.Duration) {
			switch {
			case at < 5*time.Second && w.opened.Load() == 0,
				breaker.State(w.state.Load()) == breaker.HalfOpen && w.luck.Float64() < sick:
				return 503, quick
			}
			return 200, takes
		}
	}
}

// frozen never answers.
func frozen(*world) server {
	return func(time.Duration) (int, time.Duration) { return 200, 1000 * time.Hour }
}

// What can be wrong with an outcome.

// shutsOut: what is over soon opens no breaker, and no fewer calls are answered
// than with an SDK's own retries. One in a thousand may be by chance.
func shutsOut(o outcome) string {
	switch {
	case o.opened > 0:
		return fmt.Sprintf("opened in %d of %d plays", o.opened, o.plays)
	case o.own.answered+o.own.calls/1000 < o.sdk.answered:
		return fmt.Sprintf("%d answered, with an SDK's retries %d", o.own.answered, o.sdk.answered)
	}
	return ""
}

// sends: who is down gets few requests.
func sends(most float64) func(outcome) string {
	return func(o outcome) string {
		if o.own.late() >= most {
			return fmt.Sprintf("%.2f requests a call from the third second on", o.own.late())
		}
		return ""
	}
}

// loses: who is well again loses few calls.
func loses(most float64) func(outcome) string {
	return func(o outcome) string {
		if float64(o.own.worst) > most {
			return fmt.Sprintf("%d calls refused or failed", o.own.worst)
		}
		return ""
	}
}

func trials() []*trial { return slices.Concat(shortTrials(), outages(), recoveries()) }

func shortTrials() (all []*trial) {
	add := func(many int, name string, serve func(*world) server, call func(*world)) {
		all = append(all, &trial{name: name, serve: serve, call: call, plays: 10, sdk: true, long: many > 16, wrong: shutsOut})
	}
	for _, lasts := range []time.Duration{200 * time.Millisecond, 2 * time.Second} {
		for _, many := range []int{8, 64} {
			name := fmt.Sprintf("restart of %g s, %d calls in flight, ", lasts.Seconds(), many)
			add(many, name+"cold", restart(0, lasts), bursts(many, 3))
			add(many, name+"warm", restart(10*many, lasts), bursts(many, 13))
		}
	}
	for _, many := range []int{16, 32} {
		add(many, fmt.Sprintf("half of each burst of %d is shed", many), sheds(float64(many)/2, float64(many)), bursts(many, 7))
	}
	add(16, "16 callers, a proxy with 4 connections", queues, callers(16, 7))
	for _, percent := range []int{10, 20, 30} {
		for _, many := range []int{16, 32} {
			add(many, fmt.Sprintf("%d %% fail at random, %d callers", percent, many), fails(float64(percent)/100), callers(many, 20))
		}
	}
	return all
}

func outages() (all []*trial) {
	for _, perSecond := range []float64{2, 20, 1000} {
		for _, outage := range []struct {
			name string
			code int
		}{{"nobody listens", noConnection}, {"503 at once", 503}} {
			all = append(all, &trial{
				name:  fmt.Sprintf("outage of 60 s, %s, %g calls/s", outage.name, perSecond),
				serve: down(outage.code), call: atRandom(perSecond, time.Minute), plays: playsFor(perSecond),
				large: perSecond > 20 && outage.code == 503, long: perSecond > 20, wrong: sends(0.2),
			})
		}
	}
	for _, perSecond := range []float64{2, 50} {
		all = append(all, &trial{
			name:  fmt.Sprintf("frozen for 10 min, `AttemptTimeout` 30 s, %g calls/s", perSecond),
			serve: frozen, call: atRandom(perSecond, 10*time.Minute), plays: playsFor(perSecond), long: perSecond > 20, wrong: sends(0.1),
			config: openai.Config{Retry: retry.Config{AttemptTimeout: 30 * time.Second}},
		})
	}
	return all
}

func recoveries() (all []*trial) {
	for _, perSecond := range []float64{1, 50} {
		most := 20.0
		if perSecond > 1 {
			most = 0.04 * perSecond * 600
		}
		for _, takes := range []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute} {
			for _, sick := range []int{0, 5} {
				name := fmt.Sprintf("well again after 5 s, %g calls/s of %g s", perSecond, takes.Seconds())
				if sick > 0 {
					name += fmt.Sprintf(", %d %% of the probes fail", sick)
				}
				all = append(all, &trial{
					name: name, serve: wellAgain(takes, float64(sick)/100), call: evenly(perSecond, 10*time.Minute),
					plays: playsFor(perSecond), large: perSecond > 1 && (takes < 10*time.Minute || sick == 0),
					long: perSecond > 1 || takes != 2*time.Minute, wrong: loses(most),
				})
			}
		}
	}
	return all
}

// playsFor is how often a trial is played that makes so many calls a second.
func playsFor(perSecond float64) int {
	if perSecond > 20 {
		return 1
	}
	return 10
}

// TestTrials plays small incidents, in which an open breaker is worse than none, and
// large ones, in which it must open, and then find out soon that all is well again.
func TestTrials(t *testing.T) {
	// Thousands of stacks are looked at each time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	all := slices.DeleteFunc(trials(), func(tr *trial) bool { return tr.large && !*full || tr.long && testing.Short() })
	for _, tr := range all {
		t.Run(tr.name, func(t *testing.T) {
			tr.play(t)
			t.Log(tr.outcome)
			if wrong := tr.wrong(tr.outcome); wrong != "" {
				t.Error(wrong)
			}
		})
	}
	if *full {
		fmt.Print(trialTable(all))
	}
}
