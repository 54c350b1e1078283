package breaker

// lately is the number of outcomes that a slow key is judged by. A key with few requests
// has fewer than that in two seconds, and one failure alone would be all of them.
const lately = 5

// A latest knows which of the last outcomes were failures, in the order in which
// they were counted. Successes are only counted, without a lock, so that their order is
// known by the number of them that each failure has found.
type latest struct {
	begun  uint64         // successes when it began to remember
	marks  [lately]uint64 // a ring: successes when one of the last failures came
	failed uint64         // failures since it began
}

// reset forgets what came before.
func (l *latest) reset(successes uint64) { *l = latest{begun: successes} }

// fail notes a failure that came after so many successes.
func (l *latest) fail(successes uint64) {
	l.marks[l.failed%lately] = successes
	l.failed++
}

// revoke takes back the nth success of all.
func (l *latest) revoke(nth uint64) {
	for i := range l.marks {
		if l.marks[i] < nth {
			l.marks[i]++
		}
	}
	if l.begun < nth {
		l.begun++
	}
}

// counts returns the last five outcomes, or all if there are fewer, where total
// is the number of all successes there ever were.
func (l *latest) counts(total uint64) (successes, failures uint64) {
	for i := uint64(1); i <= min(l.failed, lately); i++ {
		if since(l.marks[(l.failed-i)%lately], total)+i <= lately {
			failures = i
		}
	}
	all := since(l.begun, total) + l.failed
	return min(all, lately) - failures, failures
}

// since returns the successes after a mark. A mark may be ahead of a total that
// was read before it.
func since(mark, total uint64) uint64 {
	if total < mark {
		return 0
	}
	return total - mark
}
