package breaker

import "testing"

// The rows of a process are numbered through, so that one that runs for long reaches
// numbers which the word has no room for.
func TestANumberThatTheWordHasNoRoomForLeavesTheOtherPartsAlone(t *testing.T) {
	t.Parallel()
	const mostRow, generation = 1<<28 - 1, 1 << 31 // of zeros, so that each bit too many is seen
	for name, m := range map[string]machine{
		"the largest numbers that fit": {state: HalfOpen, generation: generation, row: row{number: mostRow}},
		"a row":                        {state: HalfOpen, generation: generation, row: row{number: 1<<28 + mostRow}},
		"a row of number 0 in it":      {state: HalfOpen, generation: generation, row: row{number: 1 << 28}},
		"a generation":                 {state: HalfOpen, generation: 1<<32 + generation, row: row{number: mostRow}},
	} {
		w := newWord(&m)
		if w.state() != HalfOpen || w.generation() != generation || !w.isInRow(w) || w&wordWary != 0 {
			t.Errorf("%s: state %v, generation %d, in a row %v, wary %v", name, w.state(), w.generation(), w.isInRow(w), w&wordWary != 0)
		}
	}
}
