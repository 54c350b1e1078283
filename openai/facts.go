package openai

import "github.com/retrip-go/retrip/internal/json"

// A facts is what an answer says of itself. It comes from the bytes that pass, so that
// an answer which is closed early may lack some of it: a stream has its usage at the
// end.
type facts struct {
	model string // the one that answered, which may not be the one requested; "" if it did not say
	usage usage
}

// A usage is what the provider counted. Nothing in it is estimated: a number that the
// provider did not send would be mistaken for one of its bill.
type usage struct {
	input, output         count
	cacheRead, cacheWrite count // counted in input by some providers, beside it by others
	reasoning             count // counted in output
}

// A count is a number of tokens. The zero value is an unknown number, which is not the
// same as none: no metric is recorded of it.
type count struct {
	n     int64
	known bool
}

// top reads a member that answers have at their top level, and names the place
// inside it. The first model counts. Every chunk of a stream repeats it, and looking a
// name up costs more than a comparison with "".
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

// visit reads a member of a usage object. It knows the names of chat, completions and
// embeddings as well as those of Responses and Messages, since none of them means
// something else to another and compatible providers mix them. The last of several
// numbers counts, because a stream of Messages goes on counting in later events.
func (u *usage) visit(in place, s *json.Scanner) place {
	key := string(s.Key())
	if in == inUsageDetails {
		switch key {
		case "cached_tokens":
			u.cacheRead.read(s)
		case "cache_write_tokens": // OpenRouter's name
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

// read keeps the number that s reports. Anything but a count, such as null, leaves what
// was known before. OpenAI sends a null usage with every chunk but the last.
func (c *count) read(s *json.Scanner) {
	if n, ok := json.Count(s.Value()); ok {
		*c = count{n, true}
	}
}
