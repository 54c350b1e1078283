package openai

import (
	"strings"

	"github.com/retrip-go/retrip/internal/json"
)

// A place is a container in JSON whose members matter to a visitor. The places of all
// formats are one list, because formats share visitors: errors and usage have the same
// shape in most of them.
type place uint8

const (
	nowhere place = iota // its members do not matter, so it is passed over
	outside              // around the outermost value

	// The places below belong to one visitor or another.
	inTop
	inList
	inError
	inErrorMember
	inInnerError
	inResponse
	inUsage
	inUsageDetails
	inContent
	inChoices
	inChoice
	inDelta
	inBlock
	inInclude
	inStreamOptions
)

// A visitor reads the values in the places that it names.
type visitor interface {
	// visit looks at the value that s reports, which stands in a place. It
	// names the place inside that value if its members matter, else nowhere.
	visit(in place, s *json.Scanner) place
}

// A walk goes through one JSON value, which may come in pieces, and enters
// only what its visitor asks for. The zero value is ready for use.
type walk struct {
	scan json.Scanner
	in   [8]place // the places entered, from the outermost value on; deeper ones are passed over
}

// feed goes on through the next bytes of the value, and keeps none of them. It
// returns those that follow the value.
func (w *walk) feed(p []byte, v visitor) (rest []byte) {
	w.scan.Feed(p)
	w.run(v)
	rest = w.scan.Rest()
	w.scan.Forget()
	return rest
}

// end says that no more bytes come. A number has no end of its own: more digits could
// follow, so that it is whole only here.
func (w *walk) end(v visitor) {
	w.scan.End()
	w.run(v)
}

// run visits the values that the scanner has. A container that the visitor does not ask
// for is passed over by the scanner without a look at its members, which is what makes
// the walk through a long answer cheap.
func (w *walk) run(v visitor) {
	for w.scan.Next() {
		depth, in := w.scan.Depth(), outside
		if depth > 0 {
			in = w.in[depth-1]
		}
		inner := v.visit(in, &w.scan)
		if inner != nowhere && depth < len(w.in) {
			w.in[depth] = inner
			w.scan.Enter()
		}
	}
}

// walkAll goes through one value that is there from its beginning.
func walkAll(data []byte, v visitor) {
	var w walk
	w.feed(data, v)
	w.end(v)
}

// isContainer reports whether the value has members, or could have. An empty one is
// entered like any other, and then has nothing to visit.
func isContainer(s *json.Scanner) bool {
	return s.Kind() == json.Object || s.Kind() == json.Array
}

// isNothing reports whether a scalar brings nothing: null, false, 0 or "". Many servers
// fill the members that they do not use with these instead of leaving them out.
func isNothing(value []byte) bool {
	switch string(value) {
	case "null", "false", `""`:
		return true
	}
	return strings.Trim(string(value), "-0.") == ""
}
