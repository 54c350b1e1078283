package stub

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// A Repeated is a base for measurements: it answers all calls alike, and
// allocates nothing but responses. It is for one call at a time.
type Repeated struct {
	Failures int    // 503s before each answer
	Type     string // of the answers: their Content-Type
	Body     []byte
	Unsized  bool           // no length is given
	Look     func(p []byte) // is shown all pieces of a payload; may be nil

	Calls int   // so far
	Sent  int64 // bytes of payloads that were read

	header http.Header
	buffer []byte
}

// RoundTrip reads the payload in pieces, as a connection does, and answers.
func (r *Repeated) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.buffer == nil {
		r.header, r.buffer = http.Header{"Content-Type": {r.Type}}, make([]byte, 64<<10)
	}
	if err := r.read(req.Body); err != nil {
		return nil, err
	}
	r.Calls++
	if r.Calls%(r.Failures+1) != 0 {
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: r.header, Body: &content{*bytes.NewReader(r.Body)}, Request: req, ContentLength: -1}
	if !r.Unsized {
		resp.ContentLength = int64(len(r.Body))
	}
	return resp, nil
}

// read reads a payload to its end and closes it, as a base must.
func (r *Repeated) read(payload io.ReadCloser) error {
	if payload == nil {
		return nil
	}
	defer payload.Close()
	for {
		n, err := payload.Read(r.buffer)
		r.Sent += int64(n)
		if r.Look != nil {
			r.Look(r.buffer[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A content can only be read and closed, as what comes from a connection.
type content struct{ reader bytes.Reader }

func (c *content) Read(p []byte) (int, error) { return c.reader.Read(p) }

func (c *content) Close() error { return nil }
