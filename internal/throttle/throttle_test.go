package throttle

import (
	"math/rand/v2"
	"testing"
	"time"
)

const s = time.Second

func newThrottle() *Throttle {
	return &Throttle{MaxWait: time.Minute, Random: func() float64 { return 0 }}
}

// limited returns a throttle that has admitted rate calls a second for 4 s, and
// was refused at 4 s with that hint.
func limited(rate int, r Refusal) *Throttle {
	t := newThrottle()
	for i := range 4 * rate {
		t.Arrive(time.Duration(i)*s/time.Duration(rate), &Waiter{})
	}
	w := new(Waiter)
	t.Arrive(4*s, w)
	t.Refuse(4*s, w.Sent(), r)
	return t
}

func hinted(d time.Duration) Refusal { return Refusal{Wait: d, Known: true} }

// drain lets everybody go who waits, until a time, and returns when each went.
func drain(t *Throttle, until time.Duration) (at []time.Duration, who []*Waiter) {
	for {
		due, ok := t.Due()
		if !ok || due > until {
			return at, who
		}
		for w := t.Next(due); w != nil; w = t.Next(due) {
			at, who = append(at, due), append(who, w)
		}
	}
}

func TestWithoutARefusalAllGoAtOnce(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	for i := range 1000 {
		if got := th.Arrive(time.Duration(i), &Waiter{}); got != Admitted || th.Active() {
			t.Fatalf("call %d: %v", i, got)
		}
	}
}

func TestNothingGoesBeforeTheHintAndThenBelowTheRateThatWasAdmitted(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(2*s))
	for range 100 {
		if got := th.Arrive(4*s, &Waiter{}); got != Waiting {
			t.Fatal(got)
		}
	}
	at, _ := drain(th, 8*s)
	second := 0
	for _, d := range at {
		if d < 6*s {
			t.Fatalf("one went at %v", d)
		}
		if d < 7*s {
			second++
		}
	}
	if second < 14 || second > 20 {
		t.Errorf("%d went in the first second, of 20 that were admitted before", second)
	}
}

func TestGatesWithoutAHintDoubleUntilAnAnswer(t *testing.T) {
	t.Parallel()
	th := limited(20, Refusal{})
	gate := 250 * time.Millisecond
	now := 4 * s
	for range 10 {
		if got := th.Gate() - now; got != gate {
			t.Fatalf("a gate of %v, want %v", got, gate)
		}
		now = th.Gate() + s
		w := new(Waiter)
		if th.Arrive(now, w) != Admitted {
			t.Fatal("not admitted")
		}
		th.Refuse(now, w.Sent(), Refusal{})
		gate = min(2*gate, 30*s)
	}
	now = th.Gate() + s
	w := new(Waiter)
	th.Arrive(now, w)
	th.Answer(now, w.Sent())
	now += 11 * s // when the next may go, and before the limit is forgotten
	next, now := refuseInARow(th, now)
	if got := th.Gate() - now; got != 250*time.Millisecond {
		t.Errorf("after an answer a gate of %v", got)
	}
	th.Refuse(now, next.Sent(), Refusal{})
	if got := th.Gate() - now; got != 250*time.Millisecond {
		t.Errorf("the same burst made it %v", got)
	}
}

// refuseInARow lets three go and has them all refused. It returns one of them,
// and when that was.
func refuseInARow(th *Throttle, now time.Duration) (*Waiter, time.Duration) {
	var sent [3]Waiter
	for i := range sent {
		th.Arrive(now, &sent[i])
		now = max(now, th.limits[ofCalls].next)
	}
	for i := range sent {
		th.Refuse(now, sent[i].Sent(), Refusal{})
	}
	return &sent[0], now
}

func TestOneRefusedAmongManyWaitsAlone(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(0))
	now := 5 * s
	var last Sent
	for range 10 {
		w := new(Waiter)
		th.Arrive(now, w)
		last, now = w.Sent(), now+100*time.Millisecond
	}
	rate := th.Rate(now)
	if again := th.Refuse(now, last, hinted(2*s)); again != now+2*s || th.Gate() > now || th.Rate(now) != rate {
		t.Errorf("again at %v, all after %v, at %v instead of %v", again, th.Gate(), th.Rate(now), rate)
	}
	early, other := &Waiter{Retry: true, NotBefore: now + 2*s}, new(Waiter)
	if th.Arrive(now, early) != Waiting || th.Arrive(now, other) != Admitted {
		t.Errorf("%v and %v", early.State(), other.State())
	}
	if at, who := drain(th, now+3*s); len(who) != 1 || who[0] != early || at[0] != now+2*s {
		t.Errorf("went at %v", at)
	}
}

func TestWhoIsAloneWaitsForNoRate(t *testing.T) {
	t.Parallel()
	th := limited(2, hinted(0))
	now := 4 * s
	for i := range 100 {
		w := new(Waiter)
		if th.Arrive(now, w) != Admitted {
			t.Fatalf("call %d waits", i)
		}
		th.Returned(w.Sent())
		now += 10 * time.Millisecond
	}
	first, second := new(Waiter), new(Waiter)
	if th.Arrive(now, first) != Admitted || th.Arrive(now, second) != Waiting {
		t.Errorf("of two at a time %v and %v", first.State(), second.State())
	}
}

func TestRefusalsByChanceCutTheRateOnlyUntilTheyAreKnown(t *testing.T) {
	t.Parallel()
	for share, cuts := range map[float64]bool{0.1: false, 0.4: true} {
		random := rand.New(rand.NewPCG(1, 2))
		var c chance
		for range 200 {
			if c.sent(true); random.Float64() < 0.1 {
				c.refused(true)
			}
		}
		cut := false
		for range 100 {
			if c.sent(false); random.Float64() < share {
				cut = c.refused(false) || cut
			}
		}
		if cut != cuts {
			t.Errorf("%v refused, where 0.1 are by chance: cut %v", share, cut)
		}
	}
}

func TestWhatIsFullAgainSoonIsWaitedForNoLonger(t *testing.T) {
	t.Parallel()
	if got := limited(20, Refusal{AtMost: 20 * time.Millisecond}).Gate() - 4*s; got != 20*time.Millisecond {
		t.Errorf("a gate of %v", got)
	}
	if got := limited(20, Refusal{AtMost: 6 * time.Minute}).Gate() - 4*s; got != 250*time.Millisecond {
		t.Errorf("a gate of %v", got)
	}
}

func TestOneBurstCutsTheRateOnce(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	var sent []Sent
	for i := range 80 {
		w := new(Waiter)
		th.Arrive(time.Duration(i)*50*time.Millisecond, w)
		sent = append(sent, w.Sent())
	}
	th.Refuse(4*s, sent[79], hinted(0))
	once := th.Rate(4 * s)
	th.Refuse(4*s, sent[78], hinted(0))
	if got := th.Rate(4 * s); got < once*0.95 || got > once {
		t.Errorf("the rate went from %v to %v", once, got)
	}
}

func TestCallsKeepTheirOrderAndRetriesGoFirst(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(s))
	var news, retries []*Waiter
	for i := range 60 {
		w := &Waiter{Retry: i%3 == 0}
		th.Arrive(4*s, w)
		if w.Retry {
			retries = append(retries, w)
		} else {
			news = append(news, w)
		}
	}
	_, who := drain(th, time.Minute)
	for i, w := range append(retries, news...) {
		if who[i] != w {
			t.Fatalf("place %d is another's", i)
		}
	}
}

func TestALeaverCostsNothing(t *testing.T) {
	t.Parallel()
	ends := func(leavers int) time.Duration {
		th := limited(20, hinted(s))
		var leave []*Waiter
		for i := range 20 + leavers {
			w := new(Waiter)
			th.Arrive(4*s, w)
			if i < leavers {
				leave = append(leave, w)
			}
		}
		for _, w := range leave {
			th.Leave(4*s, w)
		}
		at, _ := drain(th, time.Minute)
		return at[len(at)-1]
	}
	if with, without := ends(100), ends(0); with != without {
		t.Errorf("the last goes at %v, without leavers at %v", with, without)
	}
}

func TestALargeCallBarsNoSmallOneThatIsBeforeIt(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	for i := range 40 {
		th.Arrive(time.Duration(i)*100*time.Millisecond, &Waiter{Cost: 1000})
	}
	w := &Waiter{Cost: 1000}
	th.Arrive(4*s, w)
	th.Refuse(4*s, w.Sent(), Refusal{Wait: s, Known: true, Tokens: true})
	large, small := &Waiter{Cost: 20000}, &Waiter{Cost: 10}
	th.Arrive(4*s, large)
	th.Arrive(4*s, small)
	at, who := drain(th, time.Minute)
	if who[0] != large || at[0] != 5*s || who[1] != small {
		t.Fatalf("went at %v", at)
	}
	if wait := at[1] - at[0]; wait < 500*time.Millisecond || wait > 4*s {
		t.Errorf("20,000 tokens at some 10,000 a second are paid off after %v", wait)
	}
}

func TestTheSmallestCallIsATrialWhileTheGateIsFar(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(time.Minute))
	large, small := &Waiter{Cost: 100}, &Waiter{Cost: 10}
	th.Arrive(5*s, large)
	th.Arrive(5*s, small)
	at, who := drain(th, 40*s)
	if len(who) != 1 || who[0] != small || at[0] != 34*s {
		t.Fatalf("%d went, at %v", len(who), at)
	}
	th.Answer(35*s, small.Sent())
	if at, who = drain(th, 36*s); len(who) != 1 || who[0] != large {
		t.Errorf("after an answer %d went, at %v", len(who), at)
	}
}

func TestAGateForHoursRefusesAllButTrials(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	sent, waiting := new(Waiter), new(Waiter)
	th.Arrive(0, sent)
	th.Refuse(0, sent.Sent(), hinted(10*s))
	th.Arrive(s, waiting)
	th.Refuse(2*s, sent.Sent(), hinted(2*time.Hour))
	if waiting.State() != Refused || waiting.RetryAfter() != 2*time.Hour {
		t.Errorf("who waited is %v, for %v", waiting.State(), waiting.RetryAfter())
	}
	sentAgain := 0
	for now := 3 * s; now < 123*s; now += s {
		switch w := new(Waiter); th.Arrive(now, w) {
		case Admitted:
			sentAgain++
		case Waiting:
			t.Fatal("one waits")
		}
	}
	if sentAgain != 4 {
		t.Errorf("%d trials in two minutes, want 4", sentAgain)
	}
}

func TestWhoCannotBeServedInTimeIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(s))
	for _, row := range []struct {
		latest time.Duration
		want   State
	}{{4*s + s/2, Refused}, {6 * s, Waiting}, {0, Waiting}} {
		w := &Waiter{Latest: row.latest}
		if got := th.Arrive(4*s, w); got != row.want {
			t.Errorf("with %v: %v, want %v", row.latest, got, row.want)
		}
		th.Leave(4*s, w)
	}
	for range 400 {
		th.Arrive(4*s, new(Waiter))
	}
	w := &Waiter{Latest: 10 * s} // 400 take 10 s, even at twice the rate
	if got := th.Arrive(4*s, w); got != Refused || w.RetryAfter() < 10*s {
		t.Errorf("behind 400: %v, %v", got, w.RetryAfter())
	}
	for _, w := range []*Waiter{{Latest: 17 * s}, {Latest: 6 * s, Retry: true}} {
		if got := th.Arrive(4*s, w); got != Waiting {
			t.Errorf("behind 400 in time at twice the rate, or before them: %v", got)
		}
	}
}

func TestALimitThatNobodyFeelsIsForgotten(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(s))
	th.Arrive(64*s, new(Waiter))
	if !th.Active() {
		t.Error("too early")
	}
	th.Arrive(67*s, new(Waiter))
	if th.Active() {
		t.Error("still there")
	}
}

func TestWhatIsNotSentAfterAllCostsNothing(t *testing.T) {
	t.Parallel()
	th := limited(1, hinted(s))
	first, second := new(Waiter), new(Waiter)
	th.Arrive(6*s, first)
	if th.Arrive(6*s, second); second.State() != Waiting {
		t.Fatal("the second did not have to wait")
	}
	th.Unsent(6*s, first.Sent())
	if th.Next(6*s) != second {
		t.Error("the second waits for what was not sent")
	}
}

func TestBurstsWithinASecondCutTheRateOnce(t *testing.T) {
	t.Parallel()
	for after, cuts := range map[time.Duration]bool{100 * time.Millisecond: false, 2 * s: true} {
		th := limited(20, hinted(0))
		before := th.Rate(4*s + after)
		_, now := refuseInARow(th, 4*s+after)
		if th.Gate() <= now {
			t.Fatalf("after %v: three refusals in a row close no gate", after)
		}
		if got := th.Rate(now); (got < before) != cuts || got > before {
			t.Errorf("after %v: the rate went from %v to %v, want a cut: %v", after, before, got, cuts)
		}
	}
}

func TestABurstWithAHintDoublesNoWaitWithoutOne(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(0))
	if _, now := refuseInARow(th, 4*s); th.Gate() != now+firstGate {
		t.Errorf("a gate of %v", th.Gate()-now)
	}
}

func TestACutStaysAboveTheSupport(t *testing.T) {
	t.Parallel()
	th := limited(2, hinted(0))
	th.support = support{rate: 1.5, best: 6}
	if _, now := refuseInARow(th, 6*s); th.Rate(now) != 1.5 {
		t.Errorf("the rate is %v, with a support of 1.5", th.Rate(now))
	}
}

// A call that is refused again and again for what others send would never have its turn
// if it came back at each hint.
func TestWhoIsRefusedAgainWaitsLongerWhereThereAreOthers(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		before int
		others bool
		more   time.Duration
	}{
		"the first time":      {0, true, 0},
		"the second time":     {1, true, 250 * time.Millisecond},
		"the fourth time":     {3, true, s},
		"alone, fourth time":  {3, false, 0},
		"often, and no limit": {100, true, 256 * s},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := limited(20, hinted(0))
			w := new(Waiter)
			th.Arrive(5*s, w)
			if !row.others {
				th.Returned(w.Sent())
			}
			r := Refusal{Wait: s, Known: true, Before: row.before}
			if got := th.Refuse(5*s, w.Sent(), r) - 5*s; got != s+row.more {
				t.Errorf("waits %v, want %v", got, s+row.more)
			}
		})
	}
}

func TestAGateRefusesAtOnceWhoseTimeEndsBeforeIt(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(2*s))
	short, long := &Waiter{Latest: 10 * s}, &Waiter{Latest: 30 * s}
	th.Arrive(4*s, short)
	th.Arrive(4*s, long)
	th.Refuse(5*s, Sent{At: 4 * s}, hinted(10*s))
	if short.State() != Refused || short.RetryAfter() != 10*s || long.State() != Waiting {
		t.Errorf("the short one is %v, for %v; the long one is %v", short.State(), short.RetryAfter(), long.State())
	}
}

// A gate opens later than the provider asked for, by a random share. Somebody's time may
// end in between.
func TestAWaiterIsRefusedWhenItsTimeEnds(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	th.Random = func() float64 { return 0.99 }
	sent := new(Waiter)
	th.Arrive(0, sent)
	th.Refuse(0, sent.Sent(), hinted(10*s))
	w := &Waiter{Latest: 10*s + s/2}
	if got := th.Arrive(s, w); got != Waiting {
		t.Fatal(got)
	}
	if due, ok := th.Due(); !ok || due != w.Latest {
		t.Errorf("due at %v, want %v", due, w.Latest)
	}
	if th.Next(w.Latest) != w || w.State() != Refused || w.RetryAfter() != 0 {
		t.Errorf("is %v, for %v", w.State(), w.RetryAfter())
	}
}

func TestWhatShedsIsForgottenWithTheLimit(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	shed := func(now time.Duration, through, shed int) (limited bool) {
		for i := range through + shed {
			w := new(Waiter)
			th.Arrive(now, w)
			th.Returned(w.Sent())
			if i >= through {
				_, limited = th.Shed(now, w.Sent(), Refusal{})
			}
		}
		return limited
	}
	shed(0, 2, 30)
	if !shed(s, 0, 1) {
		t.Fatal("most is shed, and there is no limit")
	}
	shed(90*s, 9, 0)
	if shed(91*s, 0, 1) || th.Active() {
		t.Error("one of ten that is shed is a limit, for what was long ago")
	}
}

func TestWhatIsSentInAStepIsNotThatOfTheStepBeforeInItsPlace(t *testing.T) {
	t.Parallel()
	var r Recent
	for range 3 {
		r.Add(0, 10)
	}
	r.Shed(0, 10)
	at := time.Duration(steps) * step
	r.Add(at, 7)
	calls, cost := r.Sum(0, at)
	if shed := r.SumShed(0, at); calls != 1 || cost != 7 || shed != 0 {
		t.Errorf("%d calls of %d, and %d shed; want the one of 7", calls, cost, shed)
	}
}

func TestWhatWasChargedToARateBeforeIsNotRefundedToThisOne(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	var early *Waiter
	for i := range 80 {
		early = new(Waiter)
		th.Arrive(time.Duration(i)*50*time.Millisecond, early)
	}
	refused, first, second := new(Waiter), new(Waiter), new(Waiter)
	th.Arrive(4*s, refused)
	th.Refuse(4*s, refused.Sent(), hinted(0))
	th.Arrive(4*s, first)
	th.Arrive(4*s, second)
	th.Unsent(4*s, early.Sent())
	if first.State() != Admitted || second.State() != Waiting || th.Next(4*s) != nil {
		t.Errorf("the first is %v, the second %v", first.State(), second.State())
	}
}

func TestALeaverTakesItsCostAlong(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	for i := range 40 {
		th.Arrive(time.Duration(i)*100*time.Millisecond, &Waiter{Cost: 1000})
	}
	w := &Waiter{Cost: 1000}
	th.Arrive(4*s, w)
	th.Refuse(4*s, w.Sent(), Refusal{Wait: s, Known: true, Tokens: true})
	for range 100 {
		leaver := &Waiter{Cost: 100_000}
		th.Arrive(4*s, leaver)
		th.Leave(4*s, leaver)
	}
	if got := th.Arrive(4*s, &Waiter{Cost: 10, Latest: 7 * s}); got != Waiting {
		t.Errorf("behind nobody is %v", got)
	}
}

func TestRetriesThatAreWantedAtOneMomentKeepTheirOrder(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(0))
	first, second, third := &Waiter{Retry: true, NotBefore: 6 * s}, &Waiter{Retry: true, NotBefore: 6 * s}, &Waiter{Retry: true, NotBefore: 5 * s}
	for _, w := range []*Waiter{first, second, third} {
		th.Arrive(4*s, w)
	}
	if _, who := drain(th, time.Minute); len(who) != 3 || who[0] != third || who[1] != first || who[2] != second {
		t.Error("they went in another order")
	}
}

func TestFurtherRefusalsPutNoTrialOff(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(50*s))
	w := new(Waiter)
	th.Arrive(5*s, w)
	th.Refuse(20*s, Sent{At: 4 * s}, hinted(55*s))
	if at, who := drain(th, 50*s); len(who) != 1 || at[0] != 34*s {
		t.Errorf("%d went, at %v, want one at 34s", len(who), at)
	}
}

func TestATrialMayBeARetry(t *testing.T) {
	t.Parallel()
	th := limited(20, hinted(time.Minute))
	small, large := &Waiter{Cost: 10, Retry: true}, &Waiter{Cost: 100}
	th.Arrive(5*s, large)
	th.Arrive(5*s, small)
	if _, who := drain(th, 40*s); len(who) != 1 || who[0] != small {
		t.Errorf("%d went", len(who))
	}
}

// withTokens is a throttle that admitted ten calls a second, of 1,000 tokens each, and
// was refused for calls at 4 s and for tokens at 5 s.
func withTokens() *Throttle {
	th := newThrottle()
	var last *Waiter
	for i := range 41 {
		last = &Waiter{Cost: 1000}
		th.Arrive(time.Duration(i)*100*time.Millisecond, last)
	}
	th.Refuse(4*s, last.Sent(), hinted(0))
	w := &Waiter{Cost: 1000}
	th.Arrive(5*s, w)
	th.Refuse(5*s, w.Sent(), Refusal{Known: true, Tokens: true})
	return th
}

func TestOnlyTheLimitThatCallsWaitForGrows(t *testing.T) {
	t.Parallel()
	th := withTokens()
	for range 50 {
		th.Arrive(5*s, new(Waiter)) // which costs no tokens
	}
	before := th.limits
	drain(th, 7*s)
	if got := th.limits[ofCalls].rate(); got <= before[ofCalls].rate() {
		t.Errorf("calls wait, and their rate is %v as before", got)
	}
	if got := th.limits[ofCost].rate(); got != before[ofCost].rate() {
		t.Errorf("nobody waits for tokens, and their rate went from %v to %v", before[ofCost].rate(), got)
	}
}

// Refusals for tokens are told from those by chance as well.
func TestWhatIsSentCountsForTheChanceOfBothLimits(t *testing.T) {
	t.Parallel()
	th := withTokens()
	for range 10 {
		th.Arrive(5*s, &Waiter{Cost: 10})
	}
	_, who := drain(th, 20*s)
	for unit := range th.limits {
		if c := th.limits[unit].chance; c.low.sent+c.high.sent < float64(len(who)) {
			t.Errorf("of %d that were let go the limit %d counts %+v", len(who), unit, c)
		}
	}
}

func TestWhatWasRefusedBeforeACutIsNoReasonForAnother(t *testing.T) {
	t.Parallel()
	var c chance
	for i := range 100 {
		c.sent(true)
		c.sent(false)
		if i%10 == 0 {
			c.refused(true)
		}
		if i%2 == 0 {
			c.refused(false)
		}
	}
	c.begin()
	for range 40 {
		c.sent(false)
	}
	if c.refused(false) {
		t.Error("one of 40 is more than a tenth")
	}
}

// Where more is refused others may draw on the limit, who would not back off either.
func TestNoMoreThanAnEighthOfTheRefusalsIsTakenForChance(t *testing.T) {
	t.Parallel()
	var c chance
	for i := range 100 {
		if c.sent(true); i%2 == 0 {
			c.refused(true)
		}
	}
	if got := c.share(); got != mostChance {
		t.Errorf("%v are taken for chance, want %v", got, mostChance)
	}
}

func TestACutNeverEndsInAHigherRate(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ measured, floor, want float64 }{
		"as much as was allowed": {40, 1, 7},
		"more than was allowed":  {400, 1, 7},
		"half of it":             {20, 1, 3.5},
		"right after a gate":     {0, 1, 3.5},
		"a floor above it":       {40, 100, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limit{on: true, most: 10, floor: 1, grown: 3 * s} // which is back at most
			before := l.rate()
			l.cut(10*s, 0, row.floor, func(_, _ time.Duration) float64 { return row.measured })
			if got := l.rate(); before != 10 || got < row.want-0.01 || got > row.want+0.01 {
				t.Errorf("from %v to %v, want %v", before, got, row.want)
			}
		})
	}
}

// A timer that fires a little late must not lower the rate.
func TestALittleLatenessIsMadeUpFor(t *testing.T) {
	t.Parallel()
	for late, want := range map[time.Duration]time.Duration{
		0:                     s,
		5 * time.Millisecond:  s,
		10 * time.Millisecond: s,
		s:                     2*s - 10*time.Millisecond,
	} {
		l := limit{on: true, most: 10, floor: 10, next: s}
		l.spend(s+late, 10)
		if got := l.next - s; got != want {
			t.Errorf("%v late: the next goes at %v, want %v", late, got, want)
		}
	}
}

// FuzzThrottle does things at random and holds what must be true at any time.
func FuzzThrottle(f *testing.F) {
	f.Add(uint64(1), []byte("arrivals and refusals, hours and leavers"))
	f.Add(uint64(2), []byte{0, 0, 0, 1, 5, 0, 0, 2, 3, 9, 4, 0, 0, 0, 7, 6, 1, 1, 8})
	f.Fuzz(func(t *testing.T, seed uint64, acts []byte) {
		random := rand.New(rand.NewPCG(seed, 0))
		m := &model{t: t, th: newThrottle(), random: random}
		m.th.Random = random.Float64
		for _, act := range acts {
			m.now += time.Duration(random.ExpFloat64() * float64(50*time.Millisecond))
			m.run()
			m.do(act)
		}
		m.finish()
	})
}

// A model knows who waits, in which order.
type model struct {
	t      *testing.T
	th     *Throttle
	random *rand.Rand
	now    time.Duration
	queues [2][]*Waiter // retries, and others
	sent   []Sent
	again  time.Duration // of the call that was refused last
}

func (m *model) do(act byte) {
	switch act % 8 {
	case 0, 1, 2, 3:
		w := &Waiter{Cost: int64(act) * 100, Retry: act >= 128}
		if w.Retry {
			w.NotBefore = m.again
		}
		if act%3 == 0 {
			w.Latest = m.now + time.Duration(act)*s
		}
		switch m.th.Arrive(m.now, w) {
		case Admitted:
			m.sent = append(m.sent, w.Sent())
		case Waiting:
			i := m.class(w)
			m.queues[i] = append(m.queues[i], w)
		}
	case 4:
		if len(m.sent) > 0 {
			i := m.random.IntN(len(m.sent))
			m.again = m.th.Refuse(m.now, m.sent[i], Refusal{Wait: time.Duration(act) * s / 8, Known: act&16 != 0, Tokens: act&32 != 0})
		}
	case 5:
		if len(m.sent) > 0 {
			i := m.random.IntN(len(m.sent))
			m.th.Answer(m.now, m.sent[i])
			m.th.Returned(m.sent[i])
		}
	case 6:
		if q := m.queues[1]; len(q) > 0 {
			m.th.Leave(m.now, q[m.random.IntN(len(q))])
		}
	case 7:
		m.now += time.Duration(act) * s
	}
}

func (m *model) class(w *Waiter) int {
	if w.Retry {
		return 0
	}
	return 1
}

// run lets those go whose time has come, as a timer would.
func (m *model) run() {
	for range 10000 {
		due, ok := m.th.Due()
		if !ok || due > m.now {
			return
		}
		for w := m.th.Next(m.now); w != nil; w = m.th.Next(m.now) {
			m.check(w)
		}
		if due, ok := m.th.Due(); ok && due <= m.now {
			m.t.Fatalf("due at %v, but nobody goes at %v", due, m.now)
		}
	}
	m.t.Fatal("time spins")
}

// check holds the order of those who go. The first of a class goes, unless it is
// a trial.
func (m *model) check(w *Waiter) {
	if w.State() == Refused {
		return
	}
	m.sent = append(m.sent, w.Sent())
	if m.now < m.th.Gate() {
		return
	}
	for _, before := range m.queues[m.class(w)] {
		if before == w {
			break
		}
		if before.State() == Waiting && before.queue != nil && before.NotBefore <= w.NotBefore {
			m.t.Fatal("one that came earlier still waits")
		}
	}
	if !w.Retry && m.th.retries.length > 0 {
		m.t.Fatal("a retry still waits")
	}
}

// finish lets the time go by: nobody starves.
func (m *model) finish() {
	for range 100000 {
		due, ok := m.th.Due()
		if !ok {
			break
		}
		m.now = max(m.now, due)
		m.run()
	}
	if n := m.th.Length(); n > 0 {
		m.t.Fatalf("%d wait for ever", n)
	}
}

func TestWhatIsNotSentAfterAllIsNotCounted(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	w := &Waiter{Cost: 7}
	th.Arrive(0, w)
	th.Unsent(0, w.Sent())
	if calls, cost := th.Recent.Sum(0, s); calls != 0 || cost != 0 {
		t.Errorf("%d calls of %d count, of which none was sent", calls, cost)
	}
}

func TestWhatNeverAskedTakesNothingBack(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	th.Arrive(0, new(Waiter))
	th.Unsent(s, Sent{}) // an open breaker refused it before it came to ask
	if calls, _ := th.Recent.Sum(0, s); calls != 1 {
		t.Errorf("%d calls count, of which one was sent", calls)
	}
}

func TestAnAnswerFromBeforeARefusalEndsNoGate(t *testing.T) {
	t.Parallel()
	th := newThrottle()
	early, refused := new(Waiter), new(Waiter)
	th.Arrive(0, early)
	th.Arrive(0, refused)
	th.Refuse(s, refused.Sent(), hinted(10*s))
	th.Answer(2*s, early.Sent())
	if got := th.Arrive(3*s, new(Waiter)); got != Waiting {
		t.Errorf("a call is %v, 8 s before the hint is over", got)
	}
}

func TestWhoShedsMostOfWhatIsSentLimitsTheRate(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		through, shed int // of what was sent at the beginning
		at            time.Duration
		limited       bool // by what is shed then
	}{
		"most of many":                {2, 30, s, true},
		"a half":                      {30, 30, s, false},
		"three of five":               {40, 60, s, false},
		"most of few":                 {1, 9, s, false},
		"everything":                  {0, 60, s, false},
		"who knows what is not shed?": {2, 30, s / 4, false},
		"what was long ago":           {2, 30, 5 * s, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newThrottle()
			for i := range row.through + row.shed {
				w := new(Waiter)
				th.Arrive(0, w)
				if i >= row.through {
					if _, limited := th.Shed(0, w.Sent(), Refusal{}); limited {
						t.Fatal("limited at once")
					}
				}
			}
			w := new(Waiter)
			th.Arrive(row.at, w)
			if _, limited := th.Shed(row.at, w.Sent(), Refusal{}); limited != row.limited || th.Active() != row.limited {
				t.Errorf("limited: %v, active: %v", limited, th.Active())
			}
		})
	}
}
