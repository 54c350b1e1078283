package openai

import "github.com/retrip-go/retrip/internal/json"

// Facts are what an answer says of itself.
type facts struct {
	model string // that answered; "" if it did not say
	usage usage
}

// A usage is what the provider counted; it is never estimated.
type usage struct {
	input, output       int64
	hasInput, hasOutput bool
}

// top reads a member that answers have at their top level, and names the place
// inside it.
func (f *facts) top(s *json.Scanner) place {
	switch string(s.Key()) {
	case "model":
		if f.model == "" {
			f.model = modelName(s.Value())
		}
	case "usage":
		if s.Kind() == json.Object {
			return inUsage
		}
	}
	return nowhere
}

// member reads a count of a usage object, by the names that chat, completions
// and embeddings have for it, and by those of Responses and Messages. The last
// of several counts: a stream of Messages counts on.
func (u *usage) member(s *json.Scanner) {
	switch string(s.Key()) {
	case "prompt_tokens", "input_tokens":
		u.count(&u.input, &u.hasInput, s)
	case "completion_tokens", "output_tokens":
		u.count(&u.output, &u.hasOutput, s)
	}
}

func (u *usage) count(n *int64, has *bool, s *json.Scanner) {
	if counted, ok := json.Count(s.Value()); ok {
		*n, *has = counted, true
	}
}
