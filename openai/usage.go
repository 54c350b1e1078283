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
func (f *facts) member(name string, value []byte) {
	switch name {
	case "model":
		if f.model == "" {
			f.model = bounded(text(value))
		}
	case "usage":
		f.usage.read(value)
	}
}

// wrapped takes what an event of the Responses API tells, which wraps the
// answer so far.
func (f *facts) wrapped(response []byte) {
	members(response, func(key, value []byte) {
		switch {
		case isKey(key, "model"):
			f.member("model", value)
		case isKey(key, "usage"):
			f.member("usage", value)
		}
	})
}

// read takes the counts of a usage object, by the names that chat, completions
// and embeddings have for them, and by those of responses.
func (u *usage) read(value []byte) {
	members(value, func(key, value []byte) {
		switch {
		case isKey(key, "prompt_tokens"), isKey(key, "input_tokens"):
			u.input, u.hasInput = count(value)
		case isKey(key, "completion_tokens"), isKey(key, "output_tokens"):
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
