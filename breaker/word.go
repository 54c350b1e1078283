package breaker

// A word is what a request must know of the breaker to pass it while it is
// closed, and what its success must know to end a row of failures. All of it is
// in one atomic number, so that the closed path takes no lock.
//
// From the lowest bit it has two bits of state, one that says that a row is under
// way, one that says that the breaker is wary, 28 of the row's number, and 32 that
// count generations.
type word uint64

const (
	wordInvalid    = 3 // in place of a state: the Config is
	wordState      = 3
	wordRow        = 1 << 2
	wordWary       = 1 << 3
	wordRowNumber  = 4
	wordGeneration = 32
)

// newWord puts a word together. The number of the row is cut to 28 bits, and that of the
// generation to 32: a permit would have to be outstanding for as many rows or changes of
// state to be taken for another one's.
func newWord(m *machine) word {
	w := word(m.generation)<<wordGeneration | word(m.state)
	if m.row.number != 0 {
		w |= wordRow | word(m.row.number<<wordRowNumber)&(1<<wordGeneration-1)
	}
	if m.others != (others{}) {
		w |= wordWary
	}
	return w
}

// isInRow reports whether a row was under way at w that is still under way at now.
func (w word) isInRow(now word) bool { return w&wordRow != 0 && (w^now)&^wordWary == 0 }

// state returns the state, which is none if the Config is invalid.
func (w word) state() State { return State(w & wordState) }

// generation returns the number of the state that the word is of.
func (w word) generation() uint32 { return uint32(w >> wordGeneration) }
