package openai

import "github.com/retrip-go/retrip/internal/json"

// Facts are what an answer says of itself.
type facts struct {
	model string // that answered; "" if it did not say
	usage usage
}

// A usage is what the provider counted; it is never estimated.
type usage struct {
	input, output         count
	cacheRead, cacheWrite count // parts of the input, or beside it: providers differ
	reasoning             count // part of the output
}

// A count is a number of tokens, if it is known.
type count struct {
	n     int64
	known bool
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

// visit reads a member of a usage object, by the names that chat, completions
// and embeddings have for it, and by those of Responses and Messages. The last
// of several counts: a stream of Messages counts on.
func (u *usage) visit(in place, s *json.Scanner) place {
	key := string(s.Key())
	if in == inUsageDetails {
		switch key {
		case "cached_tokens":
			u.cacheRead.read(s)
		case "cache_write_tokens": // OpenRouter's
			u.cacheWrite.read(s)
		case "reasoning_tokens":
			u.reasoning.read(s)
		}
		return nowhere
	}
	switch key {
	case "prompt_tokens", "input_tokens":
		u.input.read(s)
	case "completion_tokens", "output_tokens":
		u.output.read(s)
	case "cache_read_input_tokens", "prompt_cache_hit_tokens": // Anthropic's, DeepSeek's
		u.cacheRead.read(s)
	case "cache_creation_input_tokens":
		u.cacheWrite.read(s)
	case "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details":
		if s.Kind() == json.Object {
			return inUsageDetails
		}
	}
	return nowhere
}

func (c *count) read(s *json.Scanner) {
	if n, ok := json.Count(s.Value()); ok {
		*c = count{n, true}
	}
}
