package storm

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A refuge is a storm with another target to go to: the stand-in, whose capacity is
// limited, too.
type refuge struct {
	incident incident
	name     string
	room     float64 // the stand-in's capacity, in normal loads
	fleet    fleet
	answered float64 // share of the calls during the incident that must be, at least
	worst    float64 // requests a second to the stand-in, in normal loads, at most
	mayFail  bool    // its queue may grow too long
	proof    bool    // that the goals can be missed: it misses them
	result   shelter
}

// A shelter is what a refuge has come to.
type shelter struct {
	during, whole     sum
	busiest, sharpest float64 // second and tenth of a second of the stand-in, in normal loads
	queue             time.Duration
	collapses         bool // its queue was too long for more than 5 s
	after             sum  // of the last 30 s
	done              bool
}

const standIn = "stand-in.example"

// withStandIn are a chain's targets here.
func withStandIn(cfg openai.Config) openai.Config {
	cfg.Targets = []openai.Target{{}, {BaseURL: "https://" + standIn + "/v1", Header: http.Header{"Authorization": {"Bearer other"}}, Tier: 1}}
	return cfg
}

func refuges() []*refuge {
	var (
		outage = incident{name: "outage of 60 s", weather: weather{down: true}, lasts: time.Minute}
		third  = incident{name: "brown-out, 30 % fail", weather: weather{failing: 0.3}, lasts: time.Minute}
		half   = incident{name: "brown-out, 50 % fail", weather: weather{failing: 0.5}, lasts: time.Minute}
		slow   = incident{name: "collapse", weather: weather{capacity: 0.5}, lasts: 20 * time.Second}

		plain = withStandIn(openai.Config{})
		bare  = withStandIn(openai.Config{DisableBreaker: true, Retry: retry.Config{Budget: retry.Unlimited}})
	)
	return []*refuge{
		{incident: outage, name: naiveName, room: 1.5, fleet: naivelyOver, mayFail: true},
		{incident: outage, name: sharedName, room: 1.5, fleet: shared(plain), answered: 0.999, worst: 1.3},
		{incident: outage, name: eachName, room: 1.5, fleet: each(plain), answered: 0.999, worst: 1.3},
		{incident: outage, name: naiveName, room: 0.9, fleet: naivelyOver, mayFail: true},
		{incident: outage, name: "without breaker and budget", room: 0.9, fleet: shared(bare), mayFail: true, proof: true, worst: 1.3},
		{incident: outage, name: sharedName, room: 0.9, fleet: shared(plain), worst: 1.3, mayFail: true},
		{incident: outage, name: eachName, room: 0.9, fleet: each(plain), worst: 3, mayFail: true},
		{incident: third, name: sharedName, room: 1.5, fleet: shared(plain), answered: 0.999, worst: 1.3},
		{incident: third, name: eachName, room: 1.5, fleet: each(plain), answered: 0.999, worst: 1.3},
		{incident: half, name: sharedName, room: 1.5, fleet: shared(plain), answered: 0.999, worst: 1.3},
		{incident: slow, name: sharedName, room: 1.5, fleet: shared(plain), answered: 0.95, worst: 2.2},
		{incident: slow, name: eachName, room: 1.5, fleet: each(plain), answered: 0.95, worst: 2.2},
	}
}

// missed says what a refuge misses of its goals.
func (r *refuge) missed(s scale) (missed []string) {
	if r.result.during.share() < r.answered-s.unanswered/5 {
		missed = append(missed, tooFewAnswers)
	}
	// A small simulation has seconds that are busy by chance, and no two runs are alike.
	if r.worst > 0 && r.result.busiest > r.worst+10*s.unanswered {
		missed = append(missed, tooManyRequests)
	}
	if !r.mayFail && r.result.collapses {
		missed = append(missed, secondCollapse)
	}
	if !r.proof && r.fleet != nil && r.name != naiveName && r.result.after.share() < 0.99 {
		missed = append(missed, lateRecovery)
	}
	return missed
}

// TestStormOfFailover lets a provider have a bad time while there is another one. All
// its clients come to that at once, and it must not go the same way.
func TestStormOfFailover(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	s, all := small, refuges()
	if *full {
		s = large
	}
	all = slices.DeleteFunc(all, func(r *refuge) bool { return testing.Short() && (r.proof || r.name == naiveName) })
	t.Run("rows", func(t *testing.T) {
		for _, r := range all {
			t.Run(fmt.Sprintf("%s, room for %g, %s", r.incident.name, r.room, r.name), func(t *testing.T) {
				t.Parallel()
				s.place(&r.incident)
				r.result = seekRefuge(t, r, s.clients)
				t.Log(r.result.cells())
				if missed := r.missed(s); (len(missed) > 0) != r.proof {
					t.Errorf("misses %q", missed)
				}
			})
		}
	})
	all = slices.DeleteFunc(all, func(r *refuge) bool { return !r.result.done }) // by -run
	if *full {
		fmt.Print(refugeTable(all))
	}
}

// A pair sends requests to home, or to the stand-in.
type pair struct{ home, other *provider }

func (p pair) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == standIn {
		return p.other.RoundTrip(req)
	}
	return p.home.RoundTrip(req)
}

// seekRefuge sends the calls of so many clients through a fleet to two providers.
func seekRefuge(t *testing.T, r *refuge, clients int) (result shelter) {
	synctest.Test(t, func(t *testing.T) {
		log := newRecord(r.incident, clients)
		fair := r.incident
		fair.weather = weather{}
		there := newRecord(fair, clients)
		p := pair{newProvider(log.load, r.incident, log), newProvider(log.load, fair, there)}
		p.other.cost = time.Duration(float64(time.Second) / (r.room * log.load))
		through := r.fleet(p, clients)
		ctx, patience := t.Context(), r.incident.patience()
		var running sync.WaitGroup
		running.Go(func() {
			for i := range r.incident.length / step {
				there.moments[i].queue = p.other.queue()
				time.Sleep(step)
			}
		})
		random := rand.New(rand.NewPCG(seed, 2))
		for next := log.start; ; {
			next = next.Add(time.Duration(random.ExpFloat64() / log.load * float64(time.Second)))
			if next.Sub(log.start) >= r.incident.length {
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
		result = shelterOf(log, there, r.incident)
	})
	return result
}

func shelterOf(log, there *record, in incident) shelter {
	s := shelter{during: log.between(in.from, in.until), whole: log.between(0, in.length), after: log.between(in.length-30*time.Second, in.length), done: true}
	long := time.Duration(0)
	for t := time.Duration(0); t+time.Second <= in.length; t += step {
		s.busiest = max(s.busiest, there.between(t, t+time.Second).requests/there.load)
		s.sharpest = max(s.sharpest, there.between(t, t+step).requests/there.load*float64(time.Second/step))
		queue := there.moments[t/step].queue
		s.queue = max(s.queue, queue)
		if long += step; queue <= tipping {
			long = 0
		}
		s.collapses = s.collapses || long > 5*time.Second
	}
	return s
}

func (s shelter) cells() []string {
	collapses := "no"
	if s.collapses {
		collapses = "yes"
	}
	return []string{
		fmt.Sprintf("%.2f %% (%.2f %%)", 100*s.during.share(), 100*s.whole.share()),
		fmt.Sprintf("%.1f (%.1f)", s.busiest, s.sharpest),
		fmt.Sprintf("%.1f s", s.queue.Seconds()),
		collapses,
		fmt.Sprintf("%.1f %%", 100*s.after.share()),
	}
}

// refugeTable returns the refuges as the README has them.
func refugeTable(all []*refuge) string {
	var b strings.Builder
	fmt.Fprint(&b, `| home's incident | stand-in's room | clients | answered: in it (in all) | stand-in's busiest second (tenth) | its longest queue | it collapses | answered in the last 30 s |
|---|---|---|---|---|---|---|---|
`)
	for _, r := range all {
		if r.proof {
			continue
		}
		fmt.Fprintf(&b, "| %s | %g | %s | %s |\n", r.incident.name, r.room, r.name, strings.Join(r.result.cells(), " | "))
	}
	return b.String()
}

// naivelyOver is a fleet with the usual loop over two places: home first, then in turn.
func naivelyOver(base http.RoundTripper, clients int) []http.RoundTripper {
	all := make([]http.RoundTripper, clients)
	for i := range all {
		all[i] = turns{base}
	}
	return all
}

type turns struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l turns) RoundTrip(req *http.Request) (*http.Response, error) {
	const attempts = 4
	for attempt := 1; ; attempt++ {
		out := req.Clone(req.Context())
		if attempt%2 == 0 {
			out.URL.Host = standIn
		}
		response, err := l.base.RoundTrip(out)
		if attempt == attempts || err == nil && response.StatusCode < 500 {
			return response, err
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		if attempt%2 == 0 && !sleep(req.Context(), rand.N(500*time.Millisecond<<attempt)) {
			return nil, context.Cause(req.Context())
		}
	}
}
