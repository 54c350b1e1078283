package storm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

var (
	full    = flag.Bool("storm.full", false, "simulate 1,000 clients, and print the table")
	picture = flag.String("storm.svg", "", "draw the picture into this file")
)

// An incident is a stretch of bad weather in the life of a provider.
type incident struct {
	name    string
	weather weather
	lasts   time.Duration
	mute    bool // its gateway says nothing, all the time, and callers wait for less

	from, until, length time.Duration // set by a scale
}

// patience is the deadline of a call.
func (in incident) patience() time.Duration {
	if in.mute {
		return 8 * time.Second
	}
	return maxPatience
}

func (in incident) at(t time.Duration) weather {
	if t < in.from || t >= in.until {
		return weather{}
	}
	return in.weather
}

// A scale is how large a simulation is. In a small one a single client weighs
// so much that its bad luck needs room.
type scale struct {
	clients       int
	before, after time.Duration
	unanswered    float64       // room for a share
	late          time.Duration // room for a recovery
}

var (
	small = scale{40, 12 * time.Second, 39 * time.Second, 0.05, 6 * time.Second}
	large = scale{1000, 45 * time.Second, 45 * time.Second, 0, 0}
)

func (s scale) place(in *incident) {
	in.from, in.until, in.length = s.before, s.before+in.lasts, s.before+in.lasts+s.after
}

// A goal is what the figures of a row may be.
type goal struct {
	requests float64 // a call, while the incident lasts, at most
	answered float64 // share of the calls of that time, at least
	recovery time.Duration
}

// What a row can miss.
const (
	tooManyRequests = "too many requests"
	tooFewAnswers   = "too few answers"
	lateRecovery    = "no recovery in time"
	secondCollapse  = "a second collapse"
)

func (g goal) missed(f figures, s scale) (missed []string) {
	if f.during.amplification() > g.requests {
		missed = append(missed, tooManyRequests)
	}
	if f.during.share() < g.answered-s.unanswered {
		missed = append(missed, tooFewAnswers)
	}
	if !f.recovered || f.recovery > g.recovery+s.late {
		missed = append(missed, lateRecovery)
	}
	if f.again {
		missed = append(missed, secondCollapse)
	}
	return missed
}

// A row is one fleet in one incident.
type row struct {
	incident incident
	name     string
	fleet    fleet
	goal     goal
	misses   []string // the goals that it can't reach
	proof    bool     // that the goals can be missed: in no table
	extra    bool     // only in the table

	figures figures
}

const (
	naiveName  = "naive loop"
	sharedName = "retrip, one `Transport`"
	eachName   = "retrip, one each"
)

func rows() []*row {
	const (
		awake = breaker.DefaultOpenDuration / 2
		late  = breaker.DefaultOpenDuration * 2 / 3
		last  = breaker.DefaultOpenDuration + 2*time.Second // when the longest step is over
	)
	var (
		outage   = incident{name: "outage of 60 s", weather: weather{down: true}, lasts: time.Minute}
		awkward  = incident{name: "outage of 33 s", weather: weather{down: true}, lasts: 33 * time.Second}
		third    = incident{name: "brown-out, 30 % fail", weather: weather{failing: 0.3}, lasts: time.Minute}
		half     = incident{name: "brown-out, 50 % fail", weather: weather{failing: 0.5}, lasts: time.Minute}
		collapse = incident{name: "collapse", weather: weather{capacity: 0.5}, lasts: 20 * time.Second}
		silent   = incident{name: "silent collapse", weather: weather{capacity: 0.5}, lasts: 20 * time.Second, mute: true}

		plain = openai.Config{}
		bare  = openai.Config{DisableBreaker: true, Retry: retry.Config{Budget: retry.Unlimited}}
		once  = openai.Config{Retry: retry.Config{MaxAttempts: 1}}
		timed = openai.Config{Retry: retry.Config{AttemptTimeout: 5 * time.Second}}
		rich  = func() openai.Config { return openai.Config{Retry: retry.Config{Budget: retry.NewBudget(5000, 1)}} }

		few     = goal{requests: 0.2, recovery: late}
		soon    = goal{requests: 0.3, recovery: awake}
		enough  = goal{requests: 1.5, answered: 0.99, recovery: awake}
		some    = goal{requests: 1.5, answered: 0.985, recovery: awake}
		anyhow  = goal{requests: 1.5, recovery: late}
		most    = goal{requests: 2, answered: 0.8, recovery: last}
		stormed = []string{tooManyRequests, lateRecovery, secondCollapse}
		stuck   = []string{tooManyRequests, lateRecovery}
	)
	return []*row{
		{incident: outage, name: naiveName, fleet: naively, goal: few, misses: stormed},
		{incident: outage, name: sharedName, fleet: shared(plain), goal: few},
		{incident: outage, name: eachName, fleet: each(plain), goal: few},
		{incident: outage, name: "without breaker and budget", fleet: each(bare), goal: few, misses: stormed, proof: true},

		{incident: awkward, name: naiveName, fleet: naively, goal: soon, misses: stormed, extra: true},
		{incident: awkward, name: sharedName, fleet: shared(plain), goal: soon, extra: true},
		{incident: awkward, name: eachName, fleet: each(plain), goal: soon, extra: true},

		{incident: third, name: naiveName, fleet: naively, goal: enough, extra: true},
		{incident: third, name: sharedName, fleet: shared(plain), goal: some},
		{incident: third, name: "the same, `Budget` of 5,000", fleet: shared(rich()), goal: enough, extra: true},
		{incident: third, name: eachName, fleet: each(plain), goal: some},
		{incident: third, name: "without retries", fleet: shared(once), goal: enough, misses: []string{tooFewAnswers}, proof: true},

		{incident: half, name: naiveName, fleet: naively, goal: anyhow, misses: []string{tooManyRequests}, extra: true},
		{incident: half, name: sharedName, fleet: shared(plain), goal: anyhow},
		{incident: half, name: eachName, fleet: each(plain), goal: most},

		{incident: collapse, name: naiveName, fleet: naively, goal: anyhow, misses: stuck},
		{incident: collapse, name: sharedName, fleet: shared(plain), goal: anyhow},
		{incident: collapse, name: eachName, fleet: each(plain), goal: anyhow},
		{incident: collapse, name: "without retries and breaker", fleet: naiveOnce, goal: anyhow, misses: []string{lateRecovery}, proof: true},

		{incident: silent, name: sharedName, fleet: shared(plain), goal: anyhow, misses: []string{lateRecovery}},
		{incident: silent, name: "the same, `AttemptTimeout` 5 s", fleet: shared(timed), goal: anyhow},
		{incident: silent, name: "one each, `AttemptTimeout` 5 s", fleet: each(timed), goal: anyhow, extra: true},
	}
}

// TestStorm lets a provider have a bad time and looks at what its clients make
// of it. The naive loop and the chain without its guards must make it worse:
// goals that nothing can miss would hold nothing.
func TestStorm(t *testing.T) {
	// Thousands of stacks are looked at each time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	s, all := small, rows()
	if *full {
		s = large
	}
	all = slices.DeleteFunc(all, func(r *row) bool {
		// That the goals can be missed need not be shown each time.
		return *full && r.proof || !*full && r.extra || testing.Short() && (r.proof || r.name == naiveName)
	})
	t.Run("rows", func(t *testing.T) {
		for _, r := range all {
			t.Run(r.incident.name+", "+r.name, func(t *testing.T) {
				t.Parallel()
				s.place(&r.incident)
				r.figures = simulate(t, r.incident, r.fleet, s.clients)
				t.Log(r.figures)
				if missed := r.goal.missed(r.figures, s); !slices.Equal(missed, r.misses) {
					t.Errorf("misses %q, want %q", missed, r.misses)
				}
			})
		}
	})
	all = slices.DeleteFunc(all, func(r *row) bool { return r.figures.load == nil }) // by -run
	if *full {
		fmt.Print(table(all))
	}
	if *picture != "" {
		if err := os.WriteFile(*picture, draw(all), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// simulate sends the calls of so many clients through a fleet to a provider.
func simulate(t *testing.T, in incident, f fleet, clients int) (result figures) {
	synctest.Test(t, func(t *testing.T) {
		log := newRecord(in, clients)
		p := newProvider(log.load, in, log)
		through := f(p, clients)
		ctx, patience := t.Context(), in.patience()
		var running sync.WaitGroup
		running.Go(func() {
			for i := range in.length / step {
				log.moments[i].queue = p.queue()
				time.Sleep(step)
			}
		})
		// Clients whose calls are Poisson arrivals are together one stream of them.
		random := rand.New(rand.NewPCG(seed, 2))
		for next := log.start; ; {
			next = next.Add(time.Duration(random.ExpFloat64() / log.load * float64(time.Second)))
			if next.Sub(log.start) >= in.length {
				break
			}
			time.Sleep(time.Until(next))
			client, m := random.IntN(clients), log.at(next)
			m.calls.Add(1)
			running.Go(func() {
				if call(ctx, patience, through[client], client) {
					m.answered.Add(1)
				}
			})
		}
		running.Wait()
		result = log.figures(in)
	})
	return result
}
