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

// A namedModel is where a payload names its model, and how. It is found while the
// payload is scanned anyway, so that a renaming need not parse it again. The zero
// value is of a payload without a model.
type namedModel struct {
	start, end int    // of the JSON string
	name       string // unescaped; "" if it is no string, or too long for any model
	keys       int    // members named "model", ignoring case as some servers do
}

// member looks at one top-level member. Two members that differ in case only make the
// name useless: servers disagree on which of them counts, so that replacing one could
// leave the other in force.
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

// renamable reports whether the name can be replaced: exactly one member holds it.
func (m *namedModel) renamable() bool { return m.keys == 1 && m.name != "" }

// smallPayload is the size up to which a payload is copied for its new name: net/http
// sends what is in a bytes.Reader in one write with the headers.
const smallPayload = 4 << 10

// errNotInMemory is the error for a payload that can't be changed without reading it
// first, which a streamed upload doesn't allow.
var errNotInMemory = errors.New("openai: the payload is not in memory")

// A renaming makes bodies of a payload with another model's name. A payload that
// retry keeps is shared between attempts, not copied, since it may hold megabytes of
// images. Nothing but the name changes: to encode the payload anew would reorder its
// members and could round its numbers.
type renaming struct {
	at   *namedModel
	name []byte // as JSON
}

// newRenaming encodes the name as JSON once, for the body and its later copies.
func newRenaming(at *namedModel, name string) renaming {
	encoded, err := stdjson.Marshal(name)
	if err != nil { // of a string there is none
		encoded = []byte(`""`)
	}
	return renaming{at, encoded}
}

// apply replaces the body of a request by one with the new name. The old body belongs to
// the new one from then on. GetBody is replaced, too: net/http calls it to send a
// request again on a new connection, and must not send the old name then. getBody may
// be nil, and then the request has no GetBody.
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

// of returns the body with the new name, and its length, which Content-Length needs. It
// closes the body that it gets. A body that is not a payload.Reader is read only up to
// smallPayload, because its length is not known before.
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

// A partsReader is a body in three parts: what stands before the name, the name, and
// what stands behind it. It drops each part once it is read, and all when it is
// closed, so that a large payload is not kept alive by a body that is done. Close may
// run beside Read, as net/http's transport does it.
type partsReader struct {
	mu     sync.Mutex
	parts  [3][]byte
	at     int
	closed bool
}

// Read fills p across the parts, so that the network sees no more writes than for a
// payload in one piece.
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

// Close drops the payload. It may be called more than once.
func (r *partsReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed, r.parts = true, [3][]byte{}
	return nil
}
