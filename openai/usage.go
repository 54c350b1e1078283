package openai

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

// member takes what a top-level member of an answer, or of a stream's event,
// tells.
func (f *facts) member(key, value []byte) {
	switch string(key) {
	case "model":
		if f.model == "" {
			f.model = modelName(value)
		}
	case "usage":
		f.usage.read(value)
	}
}

// wrapped takes what an event of the Responses API tells, which wraps the
// answer so far.
func (f *facts) wrapped(response []byte) {
	members(response, f.member)
}

// read takes the counts of a usage object, by the names that chat, completions
// and embeddings have for them, and by those of responses.
func (u *usage) read(value []byte) {
	members(value, func(key, value []byte) {
		switch string(key) {
		case "prompt_tokens", "input_tokens":
			u.input, u.hasInput = count(value)
		case "completion_tokens", "output_tokens":
			u.output, u.hasOutput = count(value)
		}
	})
}

// maxTokens bounds what is believed; a count above it is none.
const maxTokens = 1 << 40

// count reads a JSON number that counts something.
func count(value []byte) (int64, bool) {
	var n int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > maxTokens {
			return 0, false
		}
	}
	return n, len(value) > 0
}
