package openai

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/retrip-go/retrip/internal/json"
	"github.com/retrip-go/retrip/internal/payload"
)

// A namedModel is where a payload names its model, and how.
type namedModel struct {
	start, end int    // of the JSON string
	name       string // "" if it is no string, or too long to be anybody's
	keys       int    // that are "model", if case is ignored as some servers do
}

// member takes one top-level member.
func (m *namedModel) member(s *json.Scanner) {
	if !strings.EqualFold(string(s.Key()), "model") {
		return
	}
	m.keys++
	if m.keys > 1 || string(s.Key()) != "model" || s.Kind() != json.String || s.Cut() {
		m.name = ""
		return
	}
	value := s.Value()
	m.start = int(s.Offset())
	m.end = m.start + len(value)
	if len(value) <= maxModel+len(`""`) {
		m.name = modelName(value)
	}
}

// renamable reports whether the name can be replaced: there is exactly one.
func (m *namedModel) renamable() bool { return m.keys == 1 && m.name != "" }

// smallPayload is the size up to which a payload is copied for its new name:
// net/http sends what is in a bytes.Reader in one write with the headers.
const smallPayload = 4 << 10

var errNotInMemory = errors.New("openai: the payload is not in memory")

// A renaming is the body of a request with another model's name. Its payload is
// shared, not copied.
type renaming struct {
	at   *namedModel
	name []byte // as JSON
}

func newRenaming(at *namedModel, name string) renaming {
	encoded, err := stdjson.Marshal(name)
	if err != nil { // of a string there is none
		encoded = []byte(`""`)
	}
	return renaming{at, encoded}
}

// apply gives a request the body with the new name, in the place of its own, which
// it takes over.
func (r renaming) apply(req *http.Request, getBody func() (io.ReadCloser, error)) error {
	body, length, err := r.of(req.Body)
	if err != nil {
		return err
	}
	req.Body, req.ContentLength = body, length
	req.GetBody = nil
	if getBody != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			again, err := getBody()
			if err != nil {
				return nil, err
			}
			body, _, err := r.of(again)
			return body, err
		}
	}
	return nil
}

// of returns the body with the new name, and its length.
func (r renaming) of(body io.ReadCloser) (io.ReadCloser, int64, error) {
	if shared, ok := body.(*payload.Reader); ok {
		data, open := shared.Take()
		if !open || len(data) < r.at.end {
			return nil, 0, errNotInMemory
		}
		parts := &partsReader{parts: [3][]byte{data[:r.at.start], r.name, data[r.at.end:]}}
		return parts, int64(len(data) - (r.at.end - r.at.start) + len(r.name)), nil
	}
	if body == nil {
		return nil, 0, errNotInMemory
	}
	data, err := io.ReadAll(io.LimitReader(body, smallPayload+1))
	_ = body.Close()
	if err != nil || len(data) > smallPayload || len(data) < r.at.end {
		return nil, 0, errNotInMemory
	}
	made := make([]byte, 0, len(data)+len(r.name))
	made = append(append(append(made, data[:r.at.start]...), r.name...), data[r.at.end:]...)
	return io.NopCloser(bytes.NewReader(made)), int64(len(made)), nil
}

// A partsReader is a body in three parts. It lets each go once it is read, and all
// when it is closed. Close may run beside Read.
type partsReader struct {
	mu     sync.Mutex
	parts  [3][]byte
	at     int
	closed bool
}

func (r *partsReader) Read(p []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	for r.at < len(r.parts) && n < len(p) {
		part := &r.parts[r.at]
		copied := copy(p[n:], *part)
		n += copied
		if *part = (*part)[copied:]; len(*part) == 0 {
			*part = nil
			r.at++
		}
	}
	if n == 0 && r.at == len(r.parts) {
		return 0, io.EOF
	}
	return n, nil
}

func (r *partsReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed, r.parts = true, [3][]byte{}
	return nil
}
