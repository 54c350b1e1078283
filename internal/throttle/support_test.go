package throttle

import "testing"

// seen is a support that has seen calls at a high and at a low rate, of which some
// were refused.
func seen(high, highRefused, low, lowRefused int) *support {
	s := &support{}
	s.measured(20)
	of := func(rate float64, sent, refused int) {
		for i := range sent {
			s.sent(rate, rate, false)
			if (i+1)*refused/sent > i*refused/sent {
				s.refused(rate)
			}
		}
	}
	of(20, high, highRefused)
	of(2, low, lowRefused)
	return s
}

func TestASupportIsPutUpWhereCutsAreInVain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                             string
		high, highRefused, low, lowRefus int
		want                             float64
	}{
		{"as many are refused at low rates", 30, 10, 15, 5, 5},
		{"few are refused at low rates", 30, 20, 15, 2, 0},
		{"far fewer than at high ones", 30, 27, 15, 6, 0},
		{"nearly all are refused", 30, 30, 15, 15, 0},
		{"too few are known", 30, 10, 10, 3, 0},
		{"nothing is known of high rates", 3, 3, 15, 5, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := seen(test.high, test.highRefused, test.low, test.lowRefus).rate; got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestASupportFollowsWhatIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		refused int     // of the calls of a trial
		most    float64 // that was admitted
		waits   bool
		want    float64
	}{
		{"as before", 3, 5, false, 5},
		{"as before, and calls wait too long", 3, 5, true, 10},
		{"as before, but little is admitted", 3, 3, true, 6},
		{"more, and calls wait too long", 6, 5, true, 5},
		{"nearly all", 9, 5, true, 2.5},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := support{rate: 5, share: 0.3, best: 20}
			for range test.refused {
				s.refused(5)
			}
			for range trialCalls {
				s.sent(5, test.most, test.waits)
			}
			if s.rate != test.want {
				t.Errorf("got %v, want %v", s.rate, test.want)
			}
		})
	}
}

func TestASupportGoesWhereNothingIsAdmittedAnyMore(t *testing.T) {
	t.Parallel()
	s := support{rate: 5, share: 0.3, best: 20}
	for range 2 * trialCalls {
		s.refused(s.rate)
		s.sent(s.rate, 5, true)
	}
	if s.rate != 0 {
		t.Errorf("still at %v", s.rate)
	}
}
