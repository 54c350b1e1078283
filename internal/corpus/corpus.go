// Package corpus reads raw exchanges from text files, one a file, and plays
// the provider's side of them byte for byte. The files are in
// openai/testdata/corpus; .github/CONTRIBUTING.md describes their format.
//
// The chain's own tests and those of the SDKs read the same files.
package corpus

import (
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"strings"
	"time"
)

// An Exchange is one call, the answers that the provider gives to its
// requests, and what is expected of the chain between them.
type Exchange struct {
	Name    string // the file's name without its extension
	About   string // whose dialect it is, and what is odd
	Request Request
	Answers []Answer          // one a request; the last one is repeated
	Config  map[string]string // fields of openai.Config
	Wants   [3]Want           // under FromFirstEvent, Immediate and Whole
}

// A Request is what the caller sends.
type Request struct {
	Method, Path string
	Header       http.Header
	Payload      []byte
}

// An Answer is what the provider sends, and when.
type Answer struct {
	Silence time.Duration // before the headers
	Status  int
	Header  http.Header
	End     End

	steps []step
}

// An End is what becomes of the connection after the last byte.
type End int

// The ends of an answer.
const (
	Clean End = iota // the body ends as HTTP has it
	Cut              // the connection is closed before the announced end
	Reset            // it is reset
	Open             // it stays open, and nothing more comes
)

// A Mark is a moment of an answer.
type Mark int

// The moments at which a response may be returned.
const (
	Headers  Mark = iota // its headers are there
	Useful               // its first useful event is there
	Complete             // its last event, or its whole value, is there
	Any                  // not checked
)

// A step is bytes that are sent at once, or a pause, or a mark.
type step struct {
	bytes []byte
	pause time.Duration
	mark  Mark // Headers for none
}

// A Want is what is expected under one delivery.
type Want struct {
	Requests  int            // that the provider sees
	Returned  Mark           // of the last answer, at which RoundTrip returns
	Read      []string       // how the last Read may end
	Ended     time.Duration  // from the last byte to the last Read's return; below 0 for any
	Breaker   map[string]int // the breaker's outcomes, one a request
	Stream    map[string]int // outcomes of streams; nil for any
	ErrorType []string       // of the operation, any of these; "none" for success, "any" for any failure
	Paces     string         // "yes": the next call is held back; "no": it is not; "": not checked
}

// Healthy reports whether the answer is to pass as if the chain were not there.
func (x *Exchange) Healthy() bool {
	for _, want := range x.Wants {
		if want.Requests != 1 || want.Read[0] != "EOF" || want.Breaker["success"] != 1 || want.ErrorType[0] != "none" {
			return false
		}
	}
	return len(x.Answers) == 1 && x.Answers[0].End == Clean
}

// AnswerTo returns the answer to the request of that number; the first is 1.
func (x *Exchange) AnswerTo(number int) *Answer {
	return &x.Answers[min(number, len(x.Answers))-1]
}

// Body returns the bytes of the body.
func (a *Answer) Body() []byte {
	body := []byte{}
	for _, s := range a.steps {
		body = append(body, s.bytes...)
	}
	return body
}

// At returns when the mark is reached, from when the request has arrived, and
// how much of the body has been sent by then. What is not marked is reached
// with the last byte.
func (a *Answer) At(mark Mark) (after time.Duration, sent int) {
	after = a.Silence
	if mark == Headers {
		return after, 0
	}
	for _, s := range a.steps {
		after += s.pause
		sent += len(s.bytes)
		if s.mark == mark {
			break
		}
	}
	return after, sent
}

// marked reports whether the answer has the mark.
func (a *Answer) marked(mark Mark) bool {
	for _, s := range a.steps {
		if s.mark == mark {
			return true
		}
	}
	return false
}

// isStream reports whether the first bytes are those of an event stream.
func (a *Answer) isStream() bool {
	body := strings.TrimPrefix(string(a.Body()), "\ufeff")
	body = strings.TrimLeft(body, " \t\r\n")
	for _, field := range []string{"data:", "event:", "id:", "retry:", ":"} {
		if strings.HasPrefix(body, field) {
			return true
		}
	}
	return false
}

// Load reads all files of a directory, in the order of their names.
func Load(dir fs.FS) ([]*Exchange, error) {
	names, err := fs.Glob(dir, "*.txt")
	if err != nil {
		return nil, err
	}
	all := make([]*Exchange, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		x, err := Parse(strings.TrimSuffix(name, ".txt"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, x)
	}
	return all, nil
}

// maxSeed bounds what fuzzing begins with: longer bodies only slow it down.
const maxSeed = 64 << 10

// Seeds returns the answers of all exchanges with their bodies, as seeds for
// fuzzing.
func Seeds(all []*Exchange) iter.Seq2[*Answer, []byte] {
	return func(yield func(*Answer, []byte) bool) {
		for _, x := range all {
			for i := range x.Answers {
				body := x.Answers[i].Body()
				if len(body) <= maxSeed && !yield(&x.Answers[i], body) {
					return
				}
			}
		}
	}
}
